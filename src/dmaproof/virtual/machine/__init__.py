"""The machine of a virtual rig: hardware and kernel in one process, with a model's state instead of silicon.

The model (fabric, IOMMU, GPUs, kernel log, the NVIDIA driver's decisions) knows nothing of sockets; ``server`` is how
processes reach it, ``sysfs``, ``procfs`` and ``firmware`` are what it shows of itself.
"""
