"""The primary behind a real nginx, with the site that deploy writes: TLS, uploads, files."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy import nginx
from deploy.fleet import Primary
from deploy.paths import Paths
from tests.pastjobs import Past, completed, started
from tests.system import PATIENCE, System, wait_for
from web.tries import FREE

pytestmark = pytest.mark.needs("nginx-light")

KEY = "s3cret"
NAME = "models.example.org"
LOG = b"first line\n" + b"x" * 1000
OUTPUT = os.urandom(300_000)
TAG = f'"{sha256(OUTPUT).hexdigest()}"'
STRANGE_GROUP = 54321  # such as a model's: nginx is not in it

CONF = """\
daemon off;
worker_processes 1;
pid {at}/pid;
error_log stderr;
{user}
events {{}}
http {{
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/other; scgi_temp_path {at}/other; uwsgi_temp_path {at}/other;
    log_format way "$http_x_asked $uri";
    access_log {at}/access.log way;
    include {at}/site.conf;
}}
"""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class House:
    """A primary with a past, and nginx before it. ``done`` and ``running`` are jobs."""

    def __init__(self, at: Path) -> None:
        self.at = at
        at.chmod(0o755)  # nginx's processes are nobody's
        self.system = System(at)
        self.system.add_model("count")
        past = Past(self.system.data, "count")
        self.done = past.add("done", started(), completed(LOG, OUTPUT), log=LOG, output=OUTPUT)
        self.other = past.add("other", started(), completed(LOG, OUTPUT), log=LOG, output=OUTPUT)
        self.running = past.add("running", started())
        past.hold(self.running).write_bytes(LOG)
        past.close()
        self.folder = self.system.data / "jobs" / self.done
        self.folder.chmod(0o700)  # of a primary with a narrow umask
        for name in ("input.zip", "job_log.txt", "output.zip"):
            (self.folder / name).chmod(0o440)
        if os.geteuid() == 0:
            os.chown(self.folder / "input.zip", -1, STRANGE_GROUP)
        self.certificate()
        self.nginx: subprocess.Popen[bytes] | None = None
        self.asked = 0  # requests through nginx

    def certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        names = [x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))]
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.at / "certificate").write_bytes(made.public_bytes(pem))
        form = serialization.PrivateFormat.PKCS8
        (self.at / "key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))

    def start(self) -> None:
        self.system.start(
            0, "--behind-proxy", "--accel", nginx.FINISHED, "--admin-key", KEY, "--host", NAME
        )
        listen = self.system.address.removeprefix("http://")
        self.port = _free_port()
        role = Primary(
            listen=listen,
            names=(NAME,),
            nginx=True,
            certificate=f"{self.at}/certificate",
            certificate_key=f"{self.at}/key",
        )
        at = str(self.at)
        where = Paths(mode="system", base=at, etc=at, var=at, units=at, account="nobody")
        site = nginx.site(role, "127.0.0.1", where)
        site = re.sub(r"listen \[::\]:.*", "", site)
        site = site.replace("listen 443", f"listen 127.0.0.1:{self.port}")
        site = site.replace("listen 80", f"listen 127.0.0.1:{_free_port()}")
        (self.at / "site.conf").write_text(site)
        # nobody, but in the primary's group: what deploy makes of nginx's account
        user = "user nobody root;" if os.geteuid() == 0 else ""
        (self.at / "nginx.conf").write_text(CONF.format(at=self.at, user=user))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program
        with (self.at / "nginx.err").open("wb") as errors:
            self.nginx = subprocess.Popen(
                [program, "-e", "stderr", "-p", at, "-c", f"{at}/nginx.conf"], stderr=errors
            )
        wait_for(self._listens, "nginx")

    def _listens(self) -> bool:
        assert self.nginx and self.nginx.poll() is None, (self.at / "nginx.err").read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        self.system.end()
        if self.nginx:
            self.nginx.send_signal(signal.SIGTERM)
            self.nginx.wait(PATIENCE)

    def connect(self) -> http.client.HTTPSConnection:
        """As a client at 127.0.0.2."""
        trust = ssl.create_default_context(cafile=str(self.at / "certificate"))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=trust, source_address=("127.0.0.2", 0)
        )

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """An answer through nginx."""
        return self.send(None, path, method, **headers)

    def send(self, body: bytes | None, path: str, method: str, **headers: str) -> Answer:
        self.asked += 1
        headers["X-Asked"] = str(self.asked)
        return _asked(self.connect(), method, path, body, headers)

    def past_nginx(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """An answer of the primary itself, to somebody on its machine."""
        _, _, port = self.system.address.rpartition(":")
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
        return _asked(connection, method, path, None, headers)

    def way(self) -> str:
        """The address where nginx found its last answer: another one if it sent a file itself."""

        def logged() -> str | None:
            lines = (line.split() for line in (self.at / "access.log").read_text().splitlines())
            return next((uri for asked, uri in lines if asked == str(self.asked)), None)

        found: str = wait_for(logged, "nginx's line about a request")
        return found

    def submit(self, name: str, **headers: str) -> str:
        headers = {"Content_Type": "application/zip", **headers}
        path = f"/jobs?job_name={name}&model=count"
        answer = self.send(zipped(b"1"), path, "POST", **headers)
        assert answer.status == 200, answer.body
        return str(answer.json["id"])


def _asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def zipped(content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # stored
        archive.writestr("count", content)
    return data.getvalue()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    # not below pytest's own folder, which is closed to nginx's processes
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        try:
            house.start()
            yield house
        finally:
            house.end()


# --- files ---------------------------------------------------------------------------------


def test_nginx_sends_a_finished_output_as_the_primary_would(house: House) -> None:
    path = f"/data/{house.done}/output.zip"
    mine, theirs = house.past_nginx(path), house.ask(path)
    assert mine.body == theirs.body == OUTPUT
    assert house.way() == f"/finished/{house.done}/output.zip"
    assert mine.headers["X-Accel-Redirect"] is None, "who asks past nginx gets the bytes"
    assert theirs.headers["X-Accel-Redirect"] is None
    for name in (
        *("Content-Type", "Content-Length", "Content-Disposition", "ETag", "Cache-Control"),
        *("X-Content-Type-Options", "Content-Security-Policy", "Accept-Ranges"),
    ):
        assert theirs.headers.get_all(name) == mine.headers.get_all(name), name
    assert theirs.headers["ETag"] == TAG
    head = house.ask(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(OUTPUT)) and head.headers["ETag"] == TAG


@pytest.mark.parametrize("name", ["input.zip", "job_log.txt", "output.zip"])
def test_all_files_of_a_finished_job_are_found_by_nginx(house: House, name: str) -> None:
    """Also in a closed folder, and where a ticket's group came to own the input."""
    path = f"/data/{house.done}/{name}"
    answer = house.ask(path)
    assert answer.status == 200 and answer.body == (house.folder / name).read_bytes()
    assert house.way() == f"/finished/{house.done}/{name}"


def test_ranges_are_nginx_s_business(house: House) -> None:
    path = f"/data/{house.other}/output.zip"
    part = house.ask(path, Range="bytes=100-199")
    assert (part.status, part.body) == (206, OUTPUT[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(OUTPUT)}"
    assert part.headers["ETag"] == TAG
    assert house.way() == f"/finished/{house.other}/output.zip"
    assert house.ask(path, Range="bytes=-10").body == OUTPUT[-10:]
    assert house.ask(path, Range="bytes=100-", If_Range=TAG).body == OUTPUT[100:]
    assert house.ask(path, Range="bytes=100-", If_Range='"another"').body == OUTPUT
    assert house.ask(path, Range=f"bytes={len(OUTPUT)}-").status == 416


def test_what_a_client_has_is_not_sent_again(house: House) -> None:
    path = f"/data/{house.other}/job_log.txt"
    tag = house.ask(path).headers["ETag"]
    assert tag == f'"{sha256(LOG).hexdigest()}"'
    again = house.ask(path, If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert house.way() == path, "said by the primary"
    assert house.ask(path, If_None_Match='"another"').body == LOG
    assert house.way() == f"/finished/{house.other}/job_log.txt"
    # What nginx would compare with a tag of its own.
    assert house.ask(path, If_Match=tag).body == LOG


def test_what_may_grow_is_sent_by_the_primary(house: House) -> None:
    for path in (
        *(f"/data/{house.running}/job_log.txt", f"/data/{house.running}/input.zip"),
        *(f"/jobs/{house.running}/log", f"/jobs/{house.done}/log"),
    ):
        answer = house.ask(path)
        assert answer.status == 200 and house.way() == path
    assert house.ask(f"/jobs/{house.done}/log").headers["X-Log-Size"] == str(len(LOG))
    assert house.ask(f"/data/{house.running}/job_log.txt", Range="bytes=0-4").body == b"first"


def test_a_client_has_no_say_in_it(house: House) -> None:
    finished = f"{nginx.FINISHED}{house.done}/output.zip"
    for path in (
        finished,
        f"{nginx.FINISHED}../ledger/LOCK",
        "/jobs/../finished/x",
        "//finished/x",
    ):
        assert house.ask(path).status in (400, 404), path
    asked = house.ask("/healthz", X_Accel_Redirect=finished)
    assert asked.json["status"] == "ok"
    gone = house.ask(f"/data/{house.running}/output.zip", X_Accel_Redirect=finished)
    assert gone.status == 404 and "no output yet" in gone.json["detail"]


@pytest.mark.root
def test_nobody_but_the_group_gets_into_the_files(house: House) -> None:
    house.ask(f"/data/{house.done}/input.zip")
    jobs = house.folder.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in jobs.parent.iterdir()}
    assert modes["jobs"] == 0o710
    assert {modes[name] for name in ("ledger", "incoming", "bad")} == {0o700}
    for options, expected in (([], False), (["--groups", "0"], True)):
        groups = options or ["--clear-groups"]
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", *groups,
             "cat", house.folder / "input.zip"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) is expected, done.stderr


# --- who asks ------------------------------------------------------------------------------


def test_the_ledger_knows_the_client_and_not_what_it_says_of_itself(house: House) -> None:
    job = house.submit("who", X_Forwarded_For="6.6.6.6", Forwarded="for=6.6.6.6")
    told = house.ask(f"/jobs/{job}").json
    (submitted, *_) = house.ask(f"/jobs/{job}/events").json["data"]
    assert submitted["by"] == "127.0.0.2"
    assert told["primary_url"] == f"https://127.0.0.1:{house.port}"


def test_killing_needs_the_key_wherever_one_is(house: House) -> None:
    path = f"/jobs/{house.running}/kill"
    for answer in (house.ask(path, "POST"), house.past_nginx(path, "POST")):
        assert answer.status == 403 and "admin key" in answer.json["detail"]
    job = house.submit("doomed")
    killed = house.ask(f"/jobs/{job}/kill", "POST", Authorization=f"Bearer {KEY}")
    assert killed.status == 200
    events = house.ask(f"/jobs/{job}/events").json["data"]
    assert [e["by"] for e in events if e["kind"] == "KillRequested"] == ["admin@127.0.0.2"]


def test_the_cookie_is_for_https_alone(house: House) -> None:
    signed = house.ask(f"/admin/{KEY}")
    assert signed.status == 303 and signed.headers["Location"] == "/jobs"
    cookie = signed.headers["Set-Cookie"]
    assert "; Secure" in cookie and "HttpOnly" in cookie
    # from one of our own pages, under the name that browsers use
    headers = {"Cookie": cookie.split(";")[0], "Host": NAME, "Origin": f"https://{NAME}"}
    job = house.submit("browser")
    assert house.ask(f"/jobs/{job}/kill", "POST", **headers).status == 200
    headers["Origin"] = "https://evil.example"
    assert house.ask(f"/jobs/{job}/kill", "POST", **headers).status == 403


# --- what takes long -----------------------------------------------------------------------


def test_an_upload_streams_through(house: House) -> None:
    size = 16 * 1024 * 1024
    body = zipped(base64.b64encode(os.urandom(size))[:size])
    half = len(body) // 2
    connection = house.connect()
    connection.putrequest("POST", "/jobs?job_name=large&model=count")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:half])
    # it has no name yet
    wait_for(lambda: _received(house) > half - 1024 * 1024, "the primary to have the first half")
    connection.send(body[half:])
    answer = connection.getresponse()
    job = json.loads(answer.read())["id"]
    connection.close()
    assert (house.system.data / "jobs" / job / "input.zip").read_bytes() == body


def _received(house: House) -> int:
    """Bytes of the largest file that the primary has open in ``incoming``."""
    assert house.system.process
    sizes = [0]
    for fd in Path(f"/proc/{house.system.process.pid}/fd").iterdir():
        try:
            if "/incoming/" in os.readlink(fd):
                sizes.append(fd.stat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


def test_a_long_poll_waits_for_the_news(house: House) -> None:
    newest = house.ask("/events?limit=0").json["seq"]
    poll = house.connect()
    poll.request("GET", f"/events?after={newest}&wait=30")
    job = house.submit("news")
    news = json.loads(poll.getresponse().read())
    poll.close()
    assert news["seq"] > newest and news["data"][0]["job"] == job


# --- last of all, for it shuts somebody out ------------------------------------------------


def test_wrong_keys_are_counted_for_the_client_whatever_it_calls_itself(house: House) -> None:
    for n in range(FREE):
        forged = {"X_Forwarded_For": f"6.6.6.{n}", "X_Real_IP": f"6.6.6.{n}"}
        assert house.ask(f"/admin/wrong{n}", **forged).status == 403
    right = {"Authorization": f"Bearer {KEY}"}
    refused = house.ask("/jobs", Accept="application/json", **right)
    assert refused.status == 429 and int(refused.headers["Retry-After"]) > 0
    assert "127.0.0.2" in refused.json["detail"]
    elsewhere = house.past_nginx("/jobs", Accept="application/json", **right)
    assert elsewhere.status == 200, "whoever comes from another address"
