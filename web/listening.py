"""Where the server listens, and who may come there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from primary.roles import Role
from web.access import Access


class CannotServe(Exception):
    """The server cannot start, or go on. The operator acts: the message says how."""


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets on every address of ``host``, bound; port 0 means a free one, the same on all."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as e:
        raise CannotServe(f"cannot listen on {where}: {e.strerror}; check --listen") from None
    sockets: list[socket.socket] = []
    refusal: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as e:  # a machine without IPv6
                refusal = e
                continue
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
                # Here and now, not at the end: two that are only bound do not notice each other.
                sock.listen(1024)
                port = sock.getsockname()[1]
            except OSError as e:
                sockets.remove(sock)
                sock.close()
                if e.errno != errno.EADDRNOTAVAIL:  # localhost's ::1 where IPv6 is off
                    raise CannotServe(_refused(where, e)) from None
                refusal = e
        if not sockets:
            assert refusal is not None
            raise CannotServe(_refused(where, refusal))
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def _refused(where: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {where}: the port is in use; stop the program that uses it, "
            f"or choose another port with --listen"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: only root may use this port; choose one above 1023"
    return f"cannot listen on {where}: {error.strerror}; check --listen"


def access(
    sockets: list[socket.socket],
    key: str | None,
    hosts: tuple[str, ...],
    *,
    behind_proxy: bool,
    anonymous: Role | None = None,
    keyed: bool = False,
) -> Access:
    """Who may do what on these sockets.

    ``anonymous``: what the keeper has decided; ``keyed``: there is an admin key beside ``key``.
    Raises CannotServe where others could reach us and there is no admin key, and where a
    proxy would be believed on an address that others reach without it.
    """
    addresses = [sock.getsockname()[0].partition("%")[0] for sock in sockets]
    local = all(ipaddress.ip_address(address).is_loopback for address in addresses)
    if behind_proxy and not local:
        raise CannotServe(
            f"--behind-proxy is for a proxy on this machine, but {addresses[0]} lets others come "
            f"past it and name any address as theirs: listen on 127.0.0.1"
        )
    reachable = behind_proxy or not local
    if reachable and not key and not keyed:
        who = "a proxy" if behind_proxy else f"listening on {addresses[0]}"
        instead = "leave --behind-proxy out" if behind_proxy else "listen on 127.0.0.1"
        raise CannotServe(
            f"{who} lets other machines in, and then an admin key is needed: give one with "
            f"--admin-key or MODELRUNNER_ADMIN_KEY, make one with "
            f"'modelrunner key add NAME --role admin --data DIR', or {instead}"
        )
    name = socket.gethostname()
    names = {name, name.partition(".")[0], *hosts}
    if not local:
        names.add(socket.getfqdn())  # asks the name service; a loopback listener has no need
    usual: Role = "submit" if reachable else "admin"
    return Access(
        anonymous=anonymous or usual,
        # Whoever wrote nothing down may not know that there is a proxy.
        forwarded=anonymous or "submit",
        admin_key=key or None,
        hosts=frozenset(name.lower() for name in names if name),
    )
