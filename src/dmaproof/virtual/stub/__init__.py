"""The C side of the simulated libraries: sources, and building them with the machine's own compiler."""
