"""The CUDA driver of a virtual rig: what cuda-python finds behind ``libcuda.so.1`` there.

The stub (dmaproof.virtual.stub) asks ``install`` for functions by name; ``calls`` holds them, one subject a module.
Memory contents, streams and the modelled clock live in this process, as in a real driver library; what becomes of a
transfer or a page fault is the machine's answer (``machine``, dmaproof.virtual.wire).
"""
