"""Endpoints driven from this process through VFIO, as a guest's or a user-space driver's would be: workloads."""
