"""Inside a guest that is filled from a disk image: ``python -m dmaproof.guest.started``, as root. Leaves the agent
running, in a session of its own, and the machine to be switched off once that has ended; then the command is done.

What the agent will need is tried first, while there is still somebody to be told.
"""

from __future__ import annotations

import os
import sys

from dmaproof.errors import NodeError
from dmaproof.guest import agent, init, port

_CONSOLE, _NULL = "/dev/console", "/dev/null"


def main() -> None:
    try:
        port.names()
        from dmaproof.guest import serve  # noqa: F401 - what it takes may lack here

        os.close(os.open(agent.LOG, os.O_RDONLY | os.O_NONBLOCK))
    except ImportError as error:
        sys.exit(f"{sys.executable} of the image lacks what dmaproof imports: {error}")
    except NodeError as error:
        sys.exit(f"{error}: does the image's kernel have virtio_console?")
    except OSError as error:
        sys.exit(f"the guest's {agent.LOG} cannot be read ({error.strerror}): that takes root, or CAP_SYSLOG")
    if os.fork():
        return
    os.setsid()
    _speak_on_the_console()
    os.environ |= {**init.ENVIRONMENT, **os.environ}  # what the image sets stands
    init.until_off(init.keep_agent)


def _speak_on_the_console() -> None:
    """Whoever started this has gone."""
    try:
        out = os.open(_CONSOLE, os.O_WRONLY | os.O_NOCTTY)
    except OSError:  # a kernel that has none
        out = os.open(_NULL, os.O_WRONLY)
    null = os.open(_NULL, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)


if __name__ == "__main__":
    main()
