"""The rig: all that is under test, declared in one TOML file."""
