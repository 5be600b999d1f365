"""Loads the fixture plugins; nothing else. A plugin comes after those it imports: pytest rewrites asserts then."""

pytest_plugins = [
    "fixtures.guests",
    "fixtures.options",
    "fixtures.run",
    "fixtures.dry_run",
    "fixtures.rig",
    "fixtures.pairs",
    "fixtures.nvml",
    "fixtures.watches",
    "fixtures.evidence",
    "fixtures.rested",
    "fixtures.emulator",
    "fixtures.sweep",
    "fixtures.worker",
    "fixtures.judged",
    "fixtures.measure",
    "fixtures.pageable",
    "fixtures.oversubscription",
    "fixtures.stage2",
    "fixtures.verdict",
    "fixtures.finish",
]
