"""A QEMU's monitor (docs/interop/qmp-spec.rst of QEMU), by qemu.qmp, every question with a deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import QMPClient, QMPError

from dmaproof.errors import NodeError


class Monitor:
    """The monitor at the Unix socket ``path``. Raises NodeError where it does not answer within ``timeout_s``."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient()

    def __enter__(self) -> Self:
        try:
            self._run(self._client.connect(str(self._path)))
        except NodeError:
            self._loop.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._run(self._client.disconnect())
        except NodeError:
            return  # QEMU has ended meanwhile, maybe because it was told to
        finally:
            self._loop.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to ``command``."""
        return self._run(self._client.execute(command, arguments or None))

    def _run(self, work: Any) -> Any:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, self._timeout_s))
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            told = str(error) or f"no answer within {self._timeout_s:g} s"
            raise NodeError(f"QEMU's monitor {self._path.name}: {told}") from None
