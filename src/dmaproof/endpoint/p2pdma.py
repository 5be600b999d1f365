"""Workload: transfers between a drive and another drive's controller memory buffer, both ways, the data compared.

Success is what the calls say; the data says whether it is so. Where the kernel hands out bus addresses and the fabric
below the switch does not route them, every call succeeds and nothing has been moved.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dmaproof.endpoint import nvme, ram
from dmaproof.vfio.memory import address_of

_WORD_NBYTES = 4


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer of ``nwords`` (32 bits each). ``error`` is the call's errno by name, None where it claims to have
    moved ``claimed_nbytes``; ``wrong_words`` did not arrive, ``old_words`` of them are still those from before.
    """

    claimed_nbytes: int
    error: str | None
    nwords: int
    wrong_words: int
    old_words: int

    @property
    def right(self) -> bool:
        return self.error is None and self.wrong_words == 0

    @property
    def false_claim(self) -> bool:
        """The call says that all went well, and it did not."""
        return self.error is None and self.wrong_words > 0


@dataclass(frozen=True, slots=True)
class PeerTransfers:
    """The drive ``client`` reached ``nbytes`` at bus address ``address`` of drive ``provider``: its controller read
    them there (``peer_read``: a write to the drive), then wrote there (``peer_write``: a read from the drive)."""

    provider: str
    client: str
    address: int
    nbytes: int
    peer_read: Transfer
    peer_write: Transfer


def transfer(provider: str, client: str, nbytes: int = 65536) -> PeerTransfers:
    """Move ``nbytes`` (whole blocks of 4 KiB) each way between the memory of drive ``provider`` and drive ``client``,
    whose start must be empty. Raises Unsupported, EndpointError."""
    with nvme.peer_memory(provider, nbytes) as memory, nvme.scratch(client, nbytes) as drive:
        return PeerTransfers(
            provider=provider,
            client=client,
            address=ram.physical_address(address_of(memory)),
            nbytes=nbytes,
            peer_read=out_of_peer(memory, drive),
            peer_write=into_peer(memory, drive),
        )


def out_of_peer(memory: mmap.mmap, drive: int) -> Transfer:
    """The CPU fills the peer's ``memory``, ``drive`` is to write it down, and is then read in the usual way."""
    nbytes = len(memory)
    before, sent = _blocks(nbytes), _blocks(nbytes)
    nvme.put(drive, before)
    memory[:] = sent
    done, error = _call(lambda: os.pwritev(drive, [memory], 0))
    return _judged(done, error, sent, before, nvme.content(drive, nbytes))


def into_peer(memory: mmap.mmap, drive: int) -> Transfer:
    """``drive`` is filled in the usual way, is to be read into the peer's ``memory``, and the CPU looks there."""
    before, sent = _blocks(len(memory)), _blocks(len(memory))
    nvme.put(drive, sent)
    memory[:] = before
    done, error = _call(lambda: os.preadv(drive, [memory], 0))
    return _judged(done, error, sent, before, memory[:])


def _blocks(nbytes: int) -> bytes:
    """Random, but for the mark at the start of each block."""
    room = nvme.BLOCK_NBYTES - len(nvme.MARK)
    return b"".join(nvme.MARK + secrets.token_bytes(room) for _ in range(nbytes // nvme.BLOCK_NBYTES))


def _call(move: Callable[[], int]) -> tuple[int, str | None]:
    try:
        return move(), None
    except OSError as error:
        return 0, errno.errorcode.get(error.errno or 0, str(error))


def _judged(done: int, error: str | None, sent: bytes, before: bytes, found: bytes) -> Transfer:
    """The marks, the same in all three, tell nothing and are not counted."""
    words = [at for at in range(0, len(sent), _WORD_NBYTES) if at % nvme.BLOCK_NBYTES >= len(nvme.MARK)]
    wrong = [at for at in words if found[at : at + _WORD_NBYTES] != sent[at : at + _WORD_NBYTES]]
    old = sum(found[at : at + _WORD_NBYTES] == before[at : at + _WORD_NBYTES] for at in wrong)
    return Transfer(claimed_nbytes=done, error=error, nwords=len(words), wrong_words=len(wrong), old_words=old)
