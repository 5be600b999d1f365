"""Operating systems that dmaproof starts itself: QEMU topologies, lab kernels, booting, and the agent inside."""
