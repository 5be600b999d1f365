"""No-IOMMU mode: VFIO without protection, by bus addresses of one's own finding (drivers/vfio/group.c).

It is off unless the ``vfio`` module's parameter says otherwise, wants CAP_SYS_RAWIO, and taints the kernel.
"""

from __future__ import annotations

from pathlib import Path

from dmaproof.errors import Unsupported
from dmaproof.vfio.bind import changed
from dmaproof.vfio.journal import Journal

_PARAMETER = Path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
_TAINTED = Path("/proc/sys/kernel/tainted")
_USER_TAINT = 1 << 6
"""TAINT_USER (Documentation/admin-guide/tainted-kernels.rst): what vfio_noiommu_group_alloc's caller adds."""


def enabled() -> bool | None:
    """Whether the mode is on, or None where the kernel was built without it."""
    try:
        return _PARAMETER.read_text(encoding="ascii").strip() in ("Y", "1")
    except FileNotFoundError:
        return None


def tainted() -> bool:
    """Whether something has used the kernel in a way that its makers do not answer for: no-IOMMU is one such."""
    return bool(int(_TAINTED.read_text(encoding="ascii")) & _USER_TAINT)


def allow(ours: Journal, on: bool) -> None:
    """Turn the mode on or off, until the journal's entries are put back. Raises Unsupported where the kernel was built
    without it."""
    if enabled() is None:
        raise Unsupported("this kernel has no no-IOMMU mode (CONFIG_VFIO_NOIOMMU)")
    changed(ours, _PARAMETER, "Y" if on else "N")
