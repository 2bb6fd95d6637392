"""nginx in front of the primary: its site file, and what it needs. Pure.

Uploads go through as they come, nothing of them is kept. The primary decides who gets which
file of a finished job; nginx then sends it, from the disk, out of an *internal* location that
no request can name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from deploy.fleet import Primary
from deploy.found import Found
from deploy.paths import CERTIFICATE, CERTIFICATE_KEY, NGINX_FILE, Paths
from spool.errors import Refused

FILE = NGINX_FILE
FINISHED = "/finished/"  # what serve --accel gets; a prefix within nginx, not of any page's

ACCOUNTS = (
    "www-data",
    "nginx",
    "http",
)  # of nginx's processes: Debian, nginx.org and Red Hat, Arch

_NAME = re.compile(r"[A-Za-z0-9_*]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9/._+:@-]+\Z", re.ASCII)  # what nginx takes without quotes

# Mozilla's "intermediate": every browser since 2014 and every Python since 3.6.
_CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)

_HEAD = """\
# Written by modelrunner deploy, which writes it anew: changes here do not last.

upstream modelrunner {{
    server {upstream};
    keepalive 16;
}}
"""

# The default site keeps what is its own: this one answers to its names alone.
_LEAD = """
server {{
    listen 80;
    listen [::]:80;
    server_name {names};
    server_tokens off;
    location / {{
        return 308 https://$host$request_uri;
    }}
}}
"""

_LISTEN = """\
    listen 80;
    listen [::]:80;
"""

# No HTTP/2: its windows make large uploads over long lines slower, and pages here are small.
_LISTEN_TLS = """\
    listen 443 ssl;
    listen [::]:443 ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers {ciphers};
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:modelrunner:5m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
"""

_SITE = """
server {{
{listen}\
    server_name {names};
    server_tokens off;
    gzip off;  # zips are, and an entity tag with gzip would be a weak one

    client_max_body_size 0;  # the primary has limits of its own, for each model
    client_body_timeout 120s;
    send_timeout 120s;

    location / {{
        proxy_pass http://modelrunner;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        # Set, not appended: what a client says of itself is not passed on.
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host "";
        proxy_set_header X-Forwarded-Port "";
        proxy_set_header X-Real-IP "";
        proxy_set_header Forwarded "";
        proxy_request_buffering off;  # the primary hashes an upload while it comes
        proxy_connect_timeout 5s;
        proxy_read_timeout 600s;  # a gigabyte is checked before it is answered
        proxy_send_timeout 600s;
        error_page 502 504 = @away;
    }}

    # Where the primary leads to with X-Accel-Redirect, and nobody else can.
    location {finished} {{
        internal;
        alias {data}/jobs/;
        disable_symlinks on from={data}/jobs;
        autoindex off;
        # The primary's own words about the file, which a redirect within nginx would drop.
        etag off;
        add_header ETag $upstream_http_etag;
        add_header X-Content-Type-Options $upstream_http_x_content_type_options;
        add_header Content-Security-Policy $upstream_http_content_security_policy;
        add_header X-Log-Attempt $upstream_http_x_log_attempt;
        add_header X-Log-Final $upstream_http_x_log_final;
        add_header X-Log-Offset $upstream_http_x_log_offset;
        add_header X-Log-Size $upstream_http_x_log_size;
    }}

    location @away {{
        internal;
        default_type application/problem+json;
        add_header Retry-After 5 always;
        return 503 '{{"title": "Service Unavailable", "status": 503, "detail": "{away}", \
"message": "Error:  {away}"}}\\n';
    }}
}}
"""
_AWAY = "the primary does not answer; it may be starting"


def site(role: Primary, address: str, where: Paths) -> str:
    """The site's file. Raises Refused for a path that nginx would not take as it stands."""
    listen = _LISTEN
    parts = [_HEAD.format(upstream=upstream(role.listen))]
    shown = " ".join(_server_name(name) for name in names(role, address))
    if role.tls:
        parts.append(_LEAD.format(names=shown))
        listen = _LISTEN_TLS.format(
            certificate=_path(role.certificate or certificate(where)),
            key=_path(role.certificate_key or certificate_key(where)),
            ciphers=_CIPHERS,
        )
    data = _path(where.data)
    parts.append(_SITE.format(listen=listen, names=shown, data=data, finished=FINISHED, away=_AWAY))
    return "".join(parts)


def names(role: Primary, address: str) -> tuple[str, ...]:
    """What the site answers to: the names that browsers use, and the host's own address."""
    found = dict.fromkeys((*role.names, address.strip("[]")))
    return tuple(name for name in found if _is_ip(name) or _NAME.match(name))


def upstream(listen: str) -> str:
    """Where nginx reaches a primary that listens at HOST:PORT, on the same machine."""
    host, _, port = listen.rpartition(":")
    if host in ("", "*", "0.0.0.0"):
        host = "127.0.0.1"
    return f"{'[::1]' if host == '[::]' else host}:{port}"


def certificate(where: Paths) -> str:
    """The one that is made, where the keeper gives none."""
    return f"{where.tls}/{CERTIFICATE}"


def certificate_key(where: Paths) -> str:
    return f"{where.tls}/{CERTIFICATE_KEY}"


def account(here: Found) -> str:
    """Whom nginx's processes belong to on that host; Debian's, where nginx is still to come."""
    return next((name for name in ACCOUNTS if name in here.accounts), ACCOUNTS[0])


def notes(role: Primary, address: str) -> Sequence[str]:
    """What the keeper should know."""
    shown = ", ".join(names(role, address))
    said = [
        f"nginx leads requests for {shown} to the primary; for other names its default site answers"
    ]
    if role.tls and role.certificate is None:
        said.append(
            "the certificate is signed by itself: browsers warn until certificate and "
            "certificate_key in hosts.toml name one that they know"
        )
    if not role.tls:
        said.append("without TLS everybody on the way can read admin keys, inputs and results")
    return said


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _server_name(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _path(path: str) -> str:
    if not _PATH.match(path):
        raise Refused(
            f"nginx would not take the path {path!r} as it stands",
            "use a path of letters, digits and / . _ + : @ -",
        )
    return path
