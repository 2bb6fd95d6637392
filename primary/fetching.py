"""Fetching an input from a URL, without being led astray.

Only http and https, no redirects, a size cap and a deadline. The name is
resolved once and the connection made to that very address, so a second answer
of the name server cannot lead us inside; addresses that are not public are
refused unless the configuration allows the host.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Collection
from urllib.parse import SplitResult, urlsplit

from primary.errors import BadInput, NotAllowed

CHUNK = 256 * 1024  # bytes
DEADLINE = 3600.0  # seconds for a whole fetch
STEP = 60.0  # seconds without a byte

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def check_url(url: str, allowed: Collection[str]) -> SplitResult:
    """The parts of an acceptable URL. Raises BadInput or NotAllowed; looks nothing up."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        raise BadInput(f"the address {url!r} cannot be read: {e}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput(f"the address {url!r} must begin with http:// or https:// and a host")
    if parts.username or parts.password:
        raise BadInput("the address must not hold a user name or password")
    if any(c <= " " or c >= "\x7f" for c in url):
        raise BadInput(
            "the address: blanks, control characters and all but ASCII must be percent-encoded"
        )
    if host not in allowed:
        _refuse_literal(host)
    return parts


def fetch(
    url: str,
    write: Callable[[bytes], None],
    *,
    allowed: Collection[str] = (),
    cancelled: Callable[[], bool] = lambda: False,
    deadline: float = DEADLINE,
) -> None:
    """GET ``url`` and hand its body to ``write``, piece by piece.

    Raises BadInput with what happened, NotAllowed, or what ``write`` raises.
    Returns early, silently, once ``cancelled()``.
    """
    parts = check_url(url, allowed)
    host = parts.hostname or ""
    late = threading.Event()
    try:
        connection = _connection(parts, _address(host, parts, host in allowed))
        watch = threading.Timer(deadline, _hang_up, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            _download(connection, parts, write, cancelled)
            if late.is_set():
                raise TimeoutError  # what looked like the end was our hanging up
        finally:
            watch.cancel()
            watch.join()
            connection.close()
    except (OSError, UnicodeError, http.client.HTTPException) as e:
        if late.is_set():
            raise BadInput(f"the address: not complete after {deadline:.0f} seconds") from e
        why = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise BadInput(f"the address: {host}: {why}") from e


def _download(
    connection: http.client.HTTPConnection,
    parts: SplitResult,
    write: Callable[[bytes], None],
    cancelled: Callable[[], bool],
) -> None:
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", path, headers={"Host": parts.netloc})
    with connection.getresponse() as answer:
        if answer.status != http.HTTPStatus.OK:
            raise BadInput(
                f"the address: {host} answered {answer.status} {answer.reason}"
                + (" (redirects are not followed)" if 300 <= answer.status < 400 else "")
            )
        # read1: what has arrived, so that a trickle does not keep us from looking up.
        while not cancelled() and (data := answer.read1(CHUNK)):
            write(data)
        if answer.length and not cancelled():
            # http.client says nothing when a connection ends too early.
            raise ConnectionError(f"hung up {answer.length} bytes before the end")


def _hang_up(line: socket.socket, late: threading.Event) -> None:
    """The deadline, from outside: a trickle keeps every time-out of the socket from firing."""
    late.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # TLS or not: the line itself


def _address(host: str, parts: SplitResult, allowed: bool) -> str:
    """The one address that will be connected to."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    if not allowed:
        for address in addresses:
            _refuse_private(host, address)
    return addresses[0]


def _refuse_literal(host: str) -> None:
    if host == "localhost" or host.endswith(".localhost"):  # what it resolves to is known
        _refuse_private(host, "127.0.0.1")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name: judged by what it resolves to
    _refuse_private(host, host)


def _refuse_private(host: str, address: str) -> None:
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = _inner(ip)
    if not ip.is_global or ip.is_multicast:
        raise NotAllowed(
            f"the address: {host} is not public; the server's keeper can allow it with --allow-url"
        )


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that a gateway would unwrap from ``ip``, or ``ip`` itself."""
    if ip in _NAT64 or ip in _COMPATIBLE:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _connection(parts: SplitResult, address: str) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    raw = socket.create_connection((address, port), timeout=STEP)
    connection = http.client.HTTPConnection(host, port, timeout=STEP)
    # Pinned: http.client uses the socket that it is given.
    try:
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        else:
            connection.sock = raw
    except BaseException:
        raw.close()
        raise
    return connection
