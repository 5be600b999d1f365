"""A machine that is not there: a model of hardware and kernel, and a driver on it, loaded under cuda-python and pynvml.

Nothing in dmaproof imports this package: rigs of kind ``virtual`` reach it by entry point, workers by
``LD_LIBRARY_PATH``.
"""
