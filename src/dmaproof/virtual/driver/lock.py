"""The one lock over all state of the driver in this process, and the condition that its work has moved on."""

from __future__ import annotations

import threading

LOCK = threading.RLock()
CHANGED = threading.Condition(LOCK)
