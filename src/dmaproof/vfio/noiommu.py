"""No-IOMMU mode: VFIO without protection, by bus addresses of one's own finding (drivers/vfio/group.c).

It is off unless the ``vfio`` module's parameter says otherwise, wants CAP_SYS_RAWIO, and taints the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof.errors import DmaproofError, Unsupported

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


@contextmanager
def allowed(on: bool) -> Iterator[None]:
    """Turn the mode on or off, and put back what was. Raises Unsupported where the kernel was built without it."""
    before = enabled()
    if before is None:
        raise Unsupported("this kernel has no no-IOMMU mode (CONFIG_VFIO_NOIOMMU)")
    _write(on)
    try:
        yield
    finally:
        _write(before)


def _write(on: bool) -> None:
    try:
        _PARAMETER.write_text("Y" if on else "N", encoding="ascii")
    except OSError as error:
        raise DmaproofError(f"cannot write {_PARAMETER}: {error.strerror}") from None
