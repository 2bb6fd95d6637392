"""The site file: nginx itself reads it. What it does to requests is tests/web/test_proxy.py."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from deploy import certificate, nginx
from deploy.fleet import Primary
from deploy.paths import Paths, paths
from spool.errors import Refused
from tests.conftest import PATH
from tests.deploy.finding import found
from tests.system import wait_for

SYSTEM = paths("system", "/root", "root")

# As Debian's: with the default site, which takes what is nobody else's.
CONF = """\
daemon off;
pid {at}/pid;
error_log {at}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fast; scgi_temp_path {at}/s; uwsgi_temp_path {at}/u;
    include {at}/modelrunner.conf;
    server {{ listen 80 default_server; listen [::]:80 default_server; server_name _;
        return 200 default; }}
}}
"""


def _program(at: Path, site: str, *more: str) -> list[str]:
    (at / "modelrunner.conf").write_text(site)
    (at / "nginx.conf").write_text(CONF.format(at=at))
    return ["nginx", "-e", f"{at}/error.log", "-p", str(at), "-c", f"{at}/nginx.conf", *more]


def _where(tmp_path: Path) -> Paths:
    at = str(tmp_path)
    return msgspec.structs.replace(SYSTEM, etc=at, var=at)


@pytest.mark.needs("nginx-light")
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("address", ["10.0.0.1", "2001:db8::1", "alpha"])
def test_nginx_finds_no_fault_in_it(tmp_path: Path, address: str, *, tls: bool) -> None:
    where = _where(tmp_path)
    role = Primary(nginx=True, tls=tls, names=("models.example.org", "m.example.org"))
    certificate.main(["--names", "models.example.org", "--to", where.tls])
    site = nginx.site(role, address, where)
    done = subprocess.run(
        _program(tmp_path, site, "-t"),
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": PATH},
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr  # such as a name that stands twice


@pytest.mark.needs("nginx-light")
def test_names_of_ours_are_led_to_tls_and_others_to_nobody(tmp_path: Path) -> None:
    where = _where(tmp_path)
    certificate.main(["--names", "localhost", "--to", where.tls])
    role = Primary(nginx=True, names=("models.example.org",), listen="127.0.0.1:1")
    plain, tls = _free_port(), _free_port()
    site = nginx.site(role, "10.0.0.1", where)
    command = _program(tmp_path, site)
    for file in ("modelrunner.conf", "nginx.conf"):  # on ports that are free here
        text = re.sub(r"listen \[::\][^;]*;", "", (tmp_path / file).read_text())
        text = text.replace("listen 443", f"listen 127.0.0.1:{tls}")
        (tmp_path / file).write_text(text.replace("listen 80", f"listen 127.0.0.1:{plain}"))
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(command, stderr=said, env={"PATH": PATH})
    try:
        wait_for(lambda: _listens(plain), "nginx")
        led = _ask(plain, "models.example.org", "/jobs?limit=1")
        assert led.status == 308  # the method stays: a POST is no GET afterwards
        assert led.headers["Location"] == "https://models.example.org/jobs?limit=1"
        assert _ask(plain, "10.0.0.1", "/").status == 308
        assert _ask(plain, "other.example.org", "/").read() == b"default"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@pytest.mark.needs("nginx-light")
def test_a_primary_that_is_away_is_told_as_its_own_problems_are(tmp_path: Path) -> None:
    port = _free_port()
    role = Primary(nginx=True, tls=False, names=("models.example.org",), listen="127.0.0.1:1")
    site = nginx.site(role, "10.0.0.1", _where(tmp_path))
    site = re.sub(r"listen \[::\][^;]*;", "", site).replace("listen 80", f"listen {port}")
    command = _program(tmp_path, site)
    conf = (tmp_path / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(re.sub(r"    server \{.*\}\n", "", conf, flags=re.DOTALL))
    with (tmp_path / "nginx.conf").open("a") as file:
        file.write("}\n")
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(command, stderr=said, env={"PATH": PATH})
    try:
        wait_for(lambda: _listens(port), "nginx")
        answer = _ask(port, "models.example.org", "/jobs")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answer.read())["message"].startswith("Error:  the primary does not")
        assert _ask(port, "models.example.org", "/finished/x/output.zip").status == 404
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:1", "localhost:1"),
        (":80", "127.0.0.1:80"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_primary_is_reached_on_the_machine_itself(listen: str, reached: str) -> None:
    assert nginx.upstream(listen) == reached


def test_what_a_client_says_of_itself_is_not_passed_on() -> None:
    site = nginx.site(Primary(nginx=True), "10.0.0.1", SYSTEM)
    assert "X-Forwarded-For $remote_addr;" in site
    assert "$proxy_add_x_forwarded_for" not in site
    assert re.search(r"location /finished/ \{\s+internal;", site)


def test_a_path_that_nginx_would_misread_is_refused() -> None:
    role = Primary(nginx=True, certificate="/etc/a b; x", certificate_key="/etc/k")
    with pytest.raises(Refused, match="nginx would not take the path"):
        nginx.site(role, "10.0.0.1", SYSTEM)


def test_the_account_is_the_one_that_is_there() -> None:
    assert nginx.account(found(accounts={"nginx": "nginx"})) == "nginx"
    assert nginx.account(found()) == "www-data"


def _ask(port: int, host: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host, "Connection": "close"})
    return connection.getresponse()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
