"""Frames between a harness and its worker: four bytes of length (big endian), then JSON, over a socket pair.

File descriptors travel with the first byte of a frame (SCM_RIGHTS, unix(7)). The harness's end never blocks; the
worker's end does, and the harness closing its end, or dying, ends that wait.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence

from dmaproof.node.deadline import Deadline

_LENGTH = struct.Struct("!I")
_CHUNK_NBYTES = 1 << 16
_MOST_FDS = 253  # SCM_MAX_FD, include/net/scm.h


class ChannelClosed(Exception):  # noqa: N818 - an event, not a fault
    """The other end is gone."""


def send(sock: socket.socket, payload: bytes) -> None:
    """Send one frame, blocking."""
    sock.sendall(_LENGTH.pack(len(payload)) + payload)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The next frame and the descriptors that came with it, blocking. Raises ChannelClosed at the end of the stream."""
    head, fds, _, _ = socket.recv_fds(sock, _LENGTH.size, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    head += _exactly(sock, _LENGTH.size - len(head)) if head else b""
    if not head:
        raise ChannelClosed
    return _exactly(sock, _LENGTH.unpack(head)[0]), fds


def _exactly(sock: socket.socket, nbytes: int) -> bytes:
    data = bytearray()
    while len(data) < nbytes:
        chunk = sock.recv(min(nbytes - len(data), _CHUNK_NBYTES))
        if not chunk:
            raise ChannelClosed
        data += chunk
    return bytes(data)


class Channel:
    """The harness's end: every wait is bounded."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._pending = bytearray()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def send(self, payload: bytes, fds: Sequence[int], deadline: Deadline) -> None:
        """Send one frame. Raises TimeoutError when the other end stops reading, ChannelClosed when it is gone."""
        data = memoryview(_LENGTH.pack(len(payload)) + payload)
        sent = 0
        while sent < len(data):
            try:
                sent += socket.send_fds(self._sock, [data[sent:]], [] if sent else fds)
            except BlockingIOError:
                self._wait_until_writable(deadline)
            except (BrokenPipeError, ConnectionResetError):
                raise ChannelClosed from None

    def _wait_until_writable(self, deadline: Deadline) -> None:
        waiter = select.poll()
        waiter.register(self._sock, select.POLLOUT)
        if not waiter.poll(deadline.remaining_s * 1000):
            raise TimeoutError

    def fill(self) -> None:
        """Take in what has arrived. Raises ChannelClosed at the end of the stream."""
        try:
            chunk = self._sock.recv(_CHUNK_NBYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            raise ChannelClosed from None
        if not chunk:
            raise ChannelClosed
        self._pending += chunk

    def next_frame(self) -> bytes | None:
        """The next whole frame that has been taken in, or None."""
        if len(self._pending) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._pending)[0]
        if len(self._pending) < end:
            return None
        payload = bytes(self._pending[_LENGTH.size : end])
        del self._pending[:end]
        return payload
