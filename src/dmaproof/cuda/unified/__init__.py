"""Workloads: memory that CPU and GPU use by one address (managed; the process's own through HMM or ATS).

Every step is checked where it was not made: what the CPU wrote the GPU checks, what the GPU wrote the CPU checks.
"""
