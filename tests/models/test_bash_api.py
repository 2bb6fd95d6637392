"""examples/api_functions.sh with real bash and curl against a real, tiny server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOB = "0b5c6f1e-3c4f-4a57-9a3e-2f4f4d1f8a10"

pytestmark = pytest.mark.needs("curl")


class Server(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.statuses = ["RUNNING"]  # the last one stays
        self.name = "x"
        self.answers: dict[str, tuple[int, bytes]] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.asked.append((self.command, self.path, dict(self.headers), body))
        code, answer = server.answers.get(self.path) or (200, self.usual())
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def usual(self) -> bytes:
        server = self.server
        if self.command == "POST" and self.path == "/jobs":
            return dumped({"id": JOB, "message": f"OK:  Submitted job id {JOB}"})
        if self.path == f"/jobs/{JOB}/kill":
            return dumped({"id": JOB, "message": f"OK:  Killed job id {JOB}"})
        if self.path == "/jobs":
            return dumped({"data": [{"uuid": JOB}]})
        status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
        return dumped({"name": server.name, "uuid": JOB, "status": status})

    def log_message(self, *_: object) -> None:
        pass


def dumped(answer: object) -> bytes:
    return json.dumps(answer).encode()


def problem(message: str) -> bytes:
    return dumped({"type": "about:blank", "title": "Bad", "detail": "x", "message": message})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


Bash = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bash(server: Server, tmp_path: Path) -> Bash:
    """Runs a script after sourcing the functions, with none but the programs they may use."""
    programs, kept = tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    kept.mkdir()
    for name in ("bash", "cat", "curl", "grep", "head", "mktemp", "rm", "sed", "sleep", "tr"):
        (programs / name).symlink_to(str(shutil.which(name)))

    def bash(script: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        setup = {"PATH": str(programs), "MR_SERVER": server.address, "MR_TMP_DIR": str(kept)}
        done = subprocess.run(
            [programs / "bash", *options, "-c", f". examples/api_functions.sh\n{script}"],
            cwd=ROOT, env=setup | env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert not list(kept.iterdir())
        return done

    return bash


def test_the_session_of_the_documents(server: Server, bash: Bash) -> None:
    server.statuses = ["QUEUED", "RUNNING", "COMPLETE"]
    done = bash(
        """
        job_id=$(mr_create_job test_job_1 "test" "@examples/sleep_count_8.zip")
        echo $(mr_job_status $job_id)
        mr_kill_job $job_id
        job_id=$(mr_create_job test_job_2 "test" "@examples/sleep_count_8.zip")
        mr_wait_for_status $job_id "COMPLETE" 10
        echo "waited: $?"
        mr_get_jobs
        mr_cleanup
        """,
        "-eu",
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "QUEUED",
        f"OK:  Killed job id {JOB}",
        "waited: 0",
        json.dumps({"data": [{"uuid": JOB}]}),
    ]
    method, path, _, body = server.asked[0]
    assert (method, path) == ("POST", "/jobs")
    assert b'name="job_name"\r\n\r\ntest_job_1\r\n' in body
    assert b'name="model"\r\n\r\ntest\r\n' in body
    assert b'name="zip_file"; filename="sleep_count_8.zip"' in body
    assert (ROOT / "examples/sleep_count_8.zip").read_bytes() in body
    assert [(m, p) for m, p, _, _ in server.asked[1:3]] == [
        ("GET", f"/jobs/{JOB}"),
        ("POST", f"/jobs/{JOB}/kill"),
    ]
    assert server.asked[-1][2]["Accept"] == "application/json"
    assert "Authorization" not in server.asked[0][2]


def test_strange_names_arrive_as_they_are(server: Server, bash: Bash, tmp_path: Path) -> None:
    strange = tmp_path / 'a;type=text,"b" ü.zip'
    strange.write_bytes(b"PK")
    done = bash(f"mr_create_job '@/etc/passwd' '<x;y' '@{strange}'")
    assert (done.stdout, done.stderr) == (f"{JOB}\n", "")
    body = server.asked[0][3]
    assert b'name="job_name"\r\n\r\n@/etc/passwd\r\n' in body
    assert b'name="model"\r\n\r\n<x;y\r\n' in body
    assert b"\r\n\r\nPK\r\n" in body


def test_a_url_goes_as_zip_url(server: Server, bash: Bash) -> None:
    done = bash("mr_create_job a test 'https://example.org/in.zip?a=1;b'")
    assert done.stdout == f"{JOB}\n"
    assert b'name="zip_url"\r\n\r\nhttps://example.org/in.zip?a=1;b\r\n' in server.asked[0][3]
    assert b"zip_file" not in server.asked[0][3]


def test_a_scheme_and_a_key(server: Server, bash: Bash) -> None:
    done = bash(f"mr_job_status {JOB}", MR_SERVER=f"http://{server.address}/", MR_KEY="s3cret")
    assert (done.stdout, done.stderr) == ("RUNNING\n", "")
    assert server.asked[0][1] == f"/jobs/{JOB}"
    assert server.asked[0][2]["Authorization"] == "Bearer s3cret"


def test_without_a_folder_of_its_own(bash: Bash, tmp_path: Path) -> None:
    done = bash(f"unset MR_TMP_DIR; mr_job_status {JOB}", TMPDIR=str(tmp_path))
    assert (done.stdout, done.stderr) == ("RUNNING\n", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "tmp"]


@pytest.mark.parametrize(
    "name", ['", "status": "KILLED', '{"status": "KILLED"}', "\\", "a\nb", "ü", '\\", "status":"x']
)
def test_a_job_name_cannot_pose_as_a_status(name: str, server: Server, bash: Bash) -> None:
    server.name = name
    assert bash(f"mr_job_status {JOB}").stdout == "RUNNING\n"


@pytest.mark.parametrize("spaces", [None, 4])
def test_json_in_any_dress(spaces: int | None, server: Server, bash: Bash) -> None:
    text = json.dumps({"a": [1], "status": "QUEUED"}, indent=spaces, separators=(",", ":"))
    server.answers[f"/jobs/{JOB}"] = (200, text.encode())
    assert bash(f"mr_job_status {JOB}").stdout == "QUEUED\n"


def test_a_refusal_is_shown_and_fails(server: Server, bash: Bash) -> None:
    message = 'Error:  the zip has no file "a\\b"; it holds: ü/x\x1b[31m'
    server.answers["/jobs"] = (400, problem(message))
    done = bash("set -e; id=$(mr_create_job a test @examples/sleep_count_8.zip); echo no")
    assert (done.returncode, done.stdout) == (4, "")
    assert 'Error:  the zip has no file "a\\b"; it holds: ' in done.stderr
    assert "(HTTP 400 from http://127.0.0.1" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (f"mr_job_status {JOB}", f"/jobs/{JOB}"),
        (f"mr_kill_job {JOB}", f"/jobs/{JOB}/kill"),
        ("mr_get_jobs", "/jobs"),
        ("mr_create_job a b @examples/sleep_count_8.zip", "/jobs"),
    ],
)
@pytest.mark.parametrize(("http", "code"), [(404, 4), (409, 4), (503, 5)])
def test_every_function_fails_as_the_server_does(
    call: str, path: str, http: int, code: int, server: Server, bash: Bash
) -> None:
    server.answers[path] = (http, problem("Error:  not today"))
    done = bash(call)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Error:  not today" in done.stderr


def test_a_page_instead_of_json(server: Server, bash: Bash) -> None:
    server.answers[f"/jobs/{JOB}"] = (200, b"<html>a proxy's login</html>")
    done = bash(f"mr_job_status {JOB}")
    assert done.returncode == 1
    assert "holds no status: <html>" in done.stderr
    server.answers[f"/jobs/{JOB}"] = (502, b"<html>bad gateway</html>")
    assert "<html>bad gateway</html> (HTTP 502" in bash(f"mr_job_status {JOB}").stderr


def test_waiting_in_vain_ends_the_script_with_1(server: Server, bash: Bash) -> None:
    done = bash(f"mr_wait_for_status {JOB} COMPLETE 1; echo went on")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"job {JOB} is RUNNING after 1 tries, and not COMPLETE" in done.stderr
    assert len(server.asked) == 2


def test_waiting_for_what_cannot_come_ends_at_once(server: Server, bash: Bash) -> None:
    server.statuses = ["FAILED"]
    done = bash(f"mr_wait_for_status {JOB} COMPLETE 1000")
    assert done.returncode == 1
    assert "has ended as FAILED, so COMPLETE will not come" in done.stderr
    server.answers[f"/jobs/{JOB}"] = (404, problem("Error:  no such job"))
    assert bash(f"mr_wait_for_status {JOB} COMPLETE 1000").returncode == 1


def test_waiting_survives_a_server_in_trouble(server: Server, bash: Bash) -> None:
    server.answers[f"/jobs/{JOB}"] = (503, problem("Error:  starting"))
    done = bash(f"mr_wait_for_status {JOB} RUNNING 1")
    assert done.returncode == 1
    assert len(server.asked) == 2
    assert "is unknown after 1 tries" in done.stderr


def test_nobody_there(bash: Bash) -> None:
    done = bash(f"mr_job_status {JOB}", MR_SERVER="127.0.0.1:1")
    assert done.returncode == 1
    assert f"No answer from http://127.0.0.1:1/jobs/{JOB}" in done.stderr


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("mr_create_job a b", "usage: mr_create_job"),
        ("mr_create_job a b c.zip", "expected @FILE.zip or a URL"),
        ("mr_create_job a b @no/such.zip", "cannot read the file 'no/such.zip'"),
        ("mr_job_status", "usage: mr_job_status ID"),
        ("mr_job_status ../status", "usage: mr_job_status ID"),
        ("mr_kill_job ''", "usage: mr_kill_job ID"),
        ("mr_wait_for_status x COMPLETE soon", "usage: mr_wait_for_status"),
        ("MR_SERVER= mr_get_jobs", "Set MR_SERVER"),
        ("MR_TMP_DIR=/no/such/folder mr_get_jobs", "Set MR_TMP_DIR"),
    ],
)
def test_a_wrong_call_says_so(call: str, said: str, server: Server, bash: Bash) -> None:
    done = bash(call)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not server.asked


def test_cleanup_takes_its_own_files_only(bash: Bash, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("mr_answer.aB3xYz", "mr_answer.md", "results.zip"):
        (folder / name).touch()
    assert bash("mr_cleanup", MR_TMP_DIR=str(folder)).returncode == 0
    assert {p.name for p in folder.iterdir()} == {"mr_answer.md", "results.zip"}


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    scripts = [ROOT / "examples/api_functions.sh", *sorted(ROOT.glob("models/*/*.sh"))]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""
