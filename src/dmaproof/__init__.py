"""dmaproof qualifies CUDA peer-to-peer transfers and unified memory, and names the cause when they fail."""

__version__ = "0.1.0"
