"""What of a machine goes into an archive: the files that this project reads, and nothing else.

Everything is read once, bounded, and only under the machine's root; a link is kept as a link to what it leads to there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dmaproof.errors import NodeError
from dmaproof.evidence import kernel_log
from dmaproof.pci import address_map, config, iommu, root_complex, sysfs

LOG = Path("dev/kmsg")
DESCRIPTION = (
    "Packed are: the files of PCI functions in sysfs (config, resource, ids, link state, AER counters, links to driver "
    "and group), IOMMU groups with their reserved regions, IOMMUs and their registers, the names of ACPI tables, "
    "firmware's memory map, /proc/cmdline, the first processor of /proc/cpuinfo, /proc/iomem, /proc/version, the "
    "NVIDIA driver's version, parameters and GPU information (with UUIDs), and the kernel log since boot. No user's "
    "file is packed, no process list, no environment; but the kernel log and the command line are packed as they are, "
    "and may name hosts, disks, addresses and programs, and config space may hold serial numbers."
)
_FUNCTION = (
    "vendor", "device", "subsystem_vendor", "subsystem_device", "class", "revision", "config", "resource", "numa_node",
    "power_state", "enable", "d3cold_allowed", "reset_method", "ari_enabled", "current_link_speed",
    "current_link_width", "max_link_speed", "max_link_width", "aer_dev_correctable", "aer_dev_fatal",
    "aer_dev_nonfatal", "aer_rootport_total_err_cor", "aer_rootport_total_err_fatal",
    "aer_rootport_total_err_nonfatal", "sriov_numvfs", "sriov_totalvfs", "p2pmem/size", "p2pmem/available",
    "p2pmem/published", *(f"resource{bar}_resize" for bar in range(6)),
)  # fmt: skip
_FUNCTION_LINKS = ("driver", "iommu_group", "iommu", "physfn")
_IOMMU = ("intel-iommu/cap", "intel-iommu/ecap", "intel-iommu/version", "amd-iommu/cap", "amd-iommu/features")
_PLAIN = ("proc/cmdline", "proc/version", "proc/driver/nvidia/version", "proc/driver/nvidia/params")
_MODULES = ("nvidia", "nvidia_uvm")
_GPUS = Path("proc/driver/nvidia/gpus")
_FILE_NBYTES, _IOMEM_NBYTES, _LOG_NBYTES = 1 << 16, 1 << 20, 64 << 20


@dataclass(slots=True)
class Contents:
    """Files' bytes and links' targets by path under the root, and what is not there although the machine has it."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def gather(root: Path, progress: Callable[[str], None] = lambda _: None, *, with_log: bool = True) -> Contents:
    """The contents of the machine under ``root``; ``progress`` is told what is being read, a line now and then."""
    root = root.resolve()
    found = Contents()
    names = sysfs.names(root / sysfs.DEVICES)
    for number, name in enumerate(names):
        progress(f"PCI function {number + 1} of {len(names)}")
        _function(found, root, name)
    progress("IOMMUs, memory, driver")
    _iommus(found, root)
    _firmware(found, root)
    _driver(found, root)
    _copy(found, root, _PLAIN)
    _copy(found, root, [str(address_map.IOMEM)], _IOMEM_NBYTES)
    _first_processor(found, root)
    if with_log:
        progress("kernel log")
        _log(found, root)
    _note_short_config(found)
    return found


def _function(found: Contents, root: Path, name: str) -> None:
    folder = _real(found, root, str(sysfs.DEVICES / name))
    if folder is None:
        return
    _copy(found, root, [f"{folder}/{file}" for file in _FUNCTION])
    for link in _FUNCTION_LINKS:
        _link(found, root, f"{folder}/{link}")


def _iommus(found: Contents, root: Path) -> None:
    for name in sysfs.names(root / iommu.CLASS):
        folder = _real(found, root, str(iommu.CLASS / name))
        if folder is not None:
            _copy(found, root, [f"{folder}/{file}" for file in _IOMMU])
            _members(found, root, f"{folder}/devices")
    for name in sysfs.names(root / iommu.GROUPS):
        folder = str(iommu.GROUPS / name)
        _copy(found, root, [f"{folder}/{file}" for file in ("type", "reserved_regions", "name")])
        _members(found, root, f"{folder}/devices")


def _members(found: Contents, root: Path, folder: str) -> None:
    for name in sysfs.names(root / folder):
        if (root / folder / name).is_symlink():
            _link(found, root, f"{folder}/{name}")
        else:
            found.files[f"{folder}/{name}"] = b""


def _firmware(found: Contents, root: Path) -> None:
    for name in sysfs.names(root / iommu.TABLES):
        if not (root / iommu.TABLES / name).is_dir():
            found.files[str(iommu.TABLES / name)] = b""  # the name alone: a table may hold keys
    for name in sysfs.names(root / address_map.MEMMAP):
        _copy(found, root, [f"{address_map.MEMMAP}/{name}/{file}" for file in ("start", "end", "type")])


def _driver(found: Contents, root: Path) -> None:
    for module in _MODULES:
        folder = f"sys/module/{module}"
        parameters = [f"parameters/{name}" for name in sysfs.names(root / folder / "parameters")]
        _copy(found, root, [f"{folder}/{file}" for file in ("version", "srcversion", *parameters)])
    _copy(found, root, [str(_GPUS / name / "information") for name in sysfs.names(root / _GPUS)])


def _first_processor(found: Contents, root: Path) -> None:
    name = str(root_complex.CPUINFO)
    _copy(found, root, [name])
    if name in found.files:
        found.files[name] = found.files[name].partition(b"\n\n")[0] + b"\n"


def _log(found: Contents, root: Path) -> None:
    try:
        reads = kernel_log.since_boot(root / LOG, _LOG_NBYTES)
    except NodeError as error:
        found.left_out.append(f"kernel log: {error}")
        return
    found.files[str(LOG)] = b"".join(reads)


def _note_short_config(found: Contents) -> None:
    sizes = [len(data) for path, data in found.files.items() if path.endswith("/config")]
    short = sum(size <= config.HEADER_NBYTES for size in sizes)
    if short:
        found.left_out.append(f"config space beyond 64 bytes of {short} of {len(sizes)} functions: needs root")


def _copy(found: Contents, root: Path, names: Iterable[str], most_nbytes: int = _FILE_NBYTES) -> None:
    """The regular files of ``names`` that are there; what is there and cannot be read is told."""
    for name in names:
        try:
            content = _read(root / name, most_nbytes)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if not name.endswith(
                "_resize"
            ):  # the kernel offers the file, and refuses to read it, where it means nothing
                found.left_out.append(f"{name}: {error.strerror}")
            continue
        if content is not None:
            found.files[name] = content


def _read(path: Path, most_nbytes: int) -> bytes | None:
    """At most ``most_nbytes``; None for what is no regular file, or leads out of the place it claims to be in."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        pieces = []
        while most_nbytes > 0 and (piece := file.read(most_nbytes)):
            pieces.append(piece)
            most_nbytes -= len(piece)
        return b"".join(pieces)


def _real(found: Contents, root: Path, name: str) -> str | None:
    """The folder that ``name`` is, or, with a link to it in the archive, leads to; None where that is outside."""
    if (root / name).is_symlink():
        _link(found, root, name)
    try:
        real = (root / name).resolve().relative_to(root)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a loop, before Python 3.13
        found.left_out.append(f"{name}: leads out of {root}")
        return None
    return str(real)


def _link(found: Contents, root: Path, name: str) -> None:
    """Kept relative and without detours: the archive is unpacked somewhere else."""
    if not (root / name).is_symlink():
        return
    try:
        target = (root / name).resolve().relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return
    found.links[name] = os.path.relpath(target, Path(name).parent)
