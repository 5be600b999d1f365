"""Loads the fixture plugins; nothing else."""

pytest_plugins = [
    "fixtures.options",
    "fixtures.run",
    "fixtures.rig",
    "fixtures.pairs",
    "fixtures.worker",
    "fixtures.measure",
    "fixtures.evidence",
    "fixtures.verdict",
    "fixtures.finish",
]
