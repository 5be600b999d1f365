"""What an agent tells its keeper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine is: ``archive`` as `dmaproof doctor --save` writes it, base64."""

    archive: str
    now_s: float
    kind: Literal["machine"] = "machine"


@dataclass(frozen=True, slots=True)
class Log:
    """Records of the kernel log as they were read, base64."""

    records: str
    kind: Literal["log"] = "log"
