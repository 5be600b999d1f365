"""CUDA work: driver calls, kernels, timing, and the workloads that workers run.

Importing any module here loads no CUDA binding: the process that plans the work must stay free of the driver.
The binding is imported by the first call, which happens in a worker.
"""
