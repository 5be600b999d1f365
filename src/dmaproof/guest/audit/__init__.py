"""What stage 2 holds of a guest's devices, from QEMU's trace log, against what it ought to hold.

``trace.read`` reads a log into a State; ``bars`` knows where the guest has its BARs; ``audit.audit`` compares them.
"""
