"""What two devices are to each other: topology, peer access."""

from __future__ import annotations

from ctypes import POINTER, c_uint, c_void_p
from typing import Any

from dmaproof.rig.hardware import Gpu
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import gpu_of, put, session

_UINT = POINTER(c_uint)
_READ, _WRITE, _NVLINK, _ATOMICS, _PCI = range(5)  # nvmlGpuP2PCapsIndex_t
_OK, _NOT_SUPPORTED = 0, 5  # nvmlGpuP2PStatus_t
_SINGLE, _HOSTBRIDGE, _NODE, _SYSTEM = 10, 30, 40, 50  # nvmlGpuTopologyLevel_t


@nvml("nvmlDeviceGetP2PStatus", arguments=(c_void_p, c_void_p, c_uint, _UINT))
def p2p_status(first: int | None, second: int | None, capability: int, status: Any) -> None:
    """Whether ``first`` can reach ``second``'s memory that way, as the rig declares the path."""
    source, target = gpu_of(first), gpu_of(second)
    path = session().node.path_between(source.name, target.name)
    if capability > _PCI or source == target:
        raise NvmlError(Code.INVALID_ARGUMENT)
    kinds = {_NVLINK: ("nvlink",), _ATOMICS: ("nvlink",), _PCI: ("pcie",)}.get(capability, ("nvlink", "pcie", "c2c"))
    put(status, _OK if path is not None and path.peer and path.kind in kinds else _NOT_SUPPORTED)


@nvml("nvmlDeviceGetTopologyCommonAncestor", arguments=(c_void_p, c_void_p, _UINT))
def common_ancestor(first: int | None, second: int | None, level: Any) -> None:
    one, other = gpu_of(first), gpu_of(second)
    if one == other:
        raise NvmlError(Code.INVALID_ARGUMENT)
    put(level, _level(one, other))


def _level(one: Gpu, other: Gpu) -> int:
    ports = [gpu.port or gpu.bdf for gpu in (one, other)]
    if ports[0] == ports[1]:
        return _SINGLE
    if ports[0].rpartition(":")[0] == ports[1].rpartition(":")[0]:
        return _HOSTBRIDGE
    return _NODE if one.numa_node is not None and one.numa_node == other.numa_node else _SYSTEM
