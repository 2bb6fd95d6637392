"""What a supervised service says of itself: the other end of ``spool.notify``."""

from __future__ import annotations

import os
import secrets
import socket
import struct

_MOST = 4096  # bytes of one message
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Ear:
    """A datagram socket in the abstract namespace, where no long path is in the way.

    Anybody on the machine may write there, so the kernel is asked who did.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        name = f"modelrunner-{os.getpid()}-{secrets.token_hex(8)}"
        self._socket.bind(b"\0" + name.encode())
        self.address = f"@{name}"  # of NOTIFY_SOCKET

    def fileno(self) -> int:
        return self._socket.fileno()

    def words(self, pid: int) -> dict[str, str]:
        """NAME=VALUE of all that the process ``pid`` itself has said by now; the last one holds."""
        found: dict[str, str] = {}
        size = socket.CMSG_SPACE(_CREDENTIALS.size)
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MOST, size)
            except BlockingIOError:
                return found
            if pid not in (_sender(item) for item in ancillary):
                continue
            for line in data.decode("utf-8", "replace").splitlines():
                name, _, value = line.partition("=")
                found[name] = value

    def forget(self) -> None:
        """What a former life has left."""
        self.words(-1)


def _sender(item: tuple[int, int, bytes]) -> int:
    level, kind, data = item
    if level != socket.SOL_SOCKET or kind != socket.SCM_CREDENTIALS:
        return 0
    pid: int = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
    return pid
