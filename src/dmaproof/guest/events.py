"""Which of QEMU's trace events a guest's is asked for. A pattern that a QEMU has no event for is no error."""

from __future__ import annotations

MAPS = ("vfio_device_*", "vfio_listener_*", "vfio_region_*", "vfio_msix_*", "iommufd_*", "pci_update_mappings_*")
"""Everything that says what is in stage 2 (dmaproof.guest.audit.trace)."""
SHUTDOWN = "qemu_system_shutdown_request"
"""Why a machine ends: its ``reason`` is a ShutdownCause (qapi/run-state.json)."""
