"""User-space drivers on Linux: VFIO groups and cdevs, iommufd, dma-buf exports, binding and putting back.

Sources: include/uapi/linux/{vfio,iommufd}.h, Documentation/driver-api/vfio.rst and
userspace-api/iommufd.rst.
Standard library only: the same code runs on a GPU host and in a lab host with little more than Python.
"""
