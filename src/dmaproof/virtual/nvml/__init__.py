"""NVML of a virtual rig: what the unmodified nvidia-ml-py finds behind ``libnvidia-ml.so.1`` there.

The stub library exports every name that pynvml asks for, and hands each call to a function here. What is not
implemented answers with an error that names itself. State comes from the machine (dmaproof.virtual.wire).
"""
