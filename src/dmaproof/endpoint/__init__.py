"""DMA engines that need no CUDA: they prove an IOMMU's doings where there is no GPU, and beside one."""
