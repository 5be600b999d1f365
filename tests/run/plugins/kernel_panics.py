"""A pytest plugin for whole-run tests: as a test begins, the kernel of its node panics, out of memory."""

from __future__ import annotations

import pytest

from dmaproof.guest import shell

# Huge pages take what is free at once: an emulated processor is slow to fill it.
_EATS = """
open('/proc/sys/vm/panic_on_oom', 'w').write('2')
open('/proc/sys/vm/nr_hugepages', 'w').write('999999')
kept = [b'x' * (1 << 20) for _ in range(9999)]
"""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    worker = item.funcargs["worker"]  # type: ignore[attr-defined]
    worker.run(shell.run, argv=["/usr/bin/python3", "-c", _EATS], folder="/")
