"""The hardened layout, whole: accounts, chroot, agents over SFTP, and a hostile account beside.

One machine, one primary and a few workers for all tests here. What takes its time
(a frozen session, a claim that its worker sits on) begins in a fixture and is looked
at by the last tests. The hostile account has what a grant for model ``alpha`` gives,
and uses it over SFTP, packet by packet, and on the disk as its bare uid.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import paramiko
import pytest

from spool import wire
from spool.folders import MAX_NAMES
from spool.names import Claim, ReportName, Ticket, parse_claim, parse_ticket
from spool.reports import (
    AnyReport,
    FileFact,
    FinalReport,
    ProcessedReport,
    RunReport,
    StartedReport,
    encode,
)
from spool.wire import Broken, Status
from tests.deploy.grants.host import DATA, PRIMARY
from tests.hardened import LEASE, REALPATH, Hardened, answers, code_of, string, until_growing
from tests.system import PATIENCE, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("openssh-server"),
    pytest.mark.needs("passwd"),
    pytest.mark.needs("util-linux"),
    pytest.mark.timeout(300),  # seconds; the first test waits for the machine
]

MODELS = {"alpha": LEASE, "beta": 900.0, "cold": 900.0, "brief": 8.0, "later": 900.0}
# Who is granted what; evil, w1 and w2 have a model in common, evil and beta nothing.
GRANTS = {
    "evil": ("alpha",),
    "w1": ("beta",),
    "w2": ("alpha",),
    "w4": ("cold",),
    "w5": ("alpha",),
    "w8": ("brief",),
    "w9": ("brief",),
}
FOLDERS = ("cur", "tmp", "log", "out", "reports")
MINE = "e" * 16  # the hostile account's instance
SMALL, LARGE = 20_000_000, 48_000_000  # bytes of output
OK, DENIED = 0, 3
REFUSED = 200  # false reports at least that the primary has refused in the end


class Stolen(NamedTuple):
    """A job of alpha that the hostile account has claimed, and sits on."""

    job: str
    text: str
    claim: Claim


class Frozen(NamedTuple):
    job: str
    inode: int  # of the half that was being written
    size: int  # bytes of it when the session froze
    since: float


@pytest.fixture(scope="module")
def ticket_modes() -> dict[str, tuple[int, bool]]:
    """(mode, whether in its model's group) of a ticket before and after the restart."""
    return {}


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, ticket_modes: dict[str, tuple[int, bool]]
) -> Iterator[Hardened]:
    made = Hardened(tmp_path_factory.mktemp("hardened"), MODELS)
    try:
        made.serve()
        for name, models in GRANTS.items():
            made.grant(name, *models)
        first = made.submit("alpha", "before")
        ticket_modes["before"] = _ticket_mode(made, first)
        made.client.kill(first)
        made.serve()
        ticket_modes["after"] = _ticket_mode(made, made.submit("alpha", "after"))
        made.host.start_sshd("-o", "MaxStartups=200:30:400")
        for name in ("w1", "w2", "w4"):
            made.furnish(name, *GRANTS[name])
            made.start(name, slots=2)
        made.ready("w1", "w2", "w4")
        yield made
    finally:
        made.close()


def _ticket_mode(machine: Hardened, job: str) -> tuple[int, bool]:
    new = machine.spool / "models/alpha/new"
    (name,) = wait_for(lambda: [n for n in os.listdir(new) if job in n], "its ticket")
    info = (new / name).stat()
    return stat.S_IMODE(info.st_mode), info.st_gid == new.stat().st_gid


@pytest.fixture(scope="module", autouse=True)
def frozen(machine: Hardened) -> Frozen:
    """A session of w4 that was frozen in the middle of a put."""
    job = machine.submit("cold", "cold", size=str(LARGE))
    tmp = machine.home("w4") / "tmp"

    def freeze() -> Iterator[None]:
        for process in machine.sessions("w4"):
            process.send_signal(signal.SIGSTOP)
            yield

    size, inode = until_growing(tmp, 1_000_000, freeze)
    return Frozen(job, inode, size, time.monotonic())


@pytest.fixture(scope="module")
def stolen(machine: Hardened) -> Stolen:
    """Claimed over SFTP while the honest worker of alpha is stopped, and never given back."""
    text = "stolen"
    with machine.away("w2"):
        job = machine.submit("alpha", text)
        ticket = ticket_of(machine, "alpha", job)
        claim = Claim(ticket, MINE)
        with machine.wire("evil") as session:
            session.rename(f"/models/alpha/new/{ticket}", f"/workers/evil/cur/{claim}")
            put(session, f"reports/{ReportName(job, 1, 'started')}", encode(_started(claim)))
        machine.wait(job, "RUNNING")
    return Stolen(job, text, claim)


def _facts(claim: Claim) -> dict[str, Any]:
    return {"claim": str(claim), "instance": claim.instance, "host": "h\033[2J", "node_url": "x"}


def _started(claim: Claim) -> StartedReport:
    return StartedReport(**_facts(claim))


def put(session: wire.Wire, path: str, data: bytes) -> None:
    """Whole, into a folder of the hostile account's own."""
    handle = session.open("/workers/evil/tmp/half", wire.WRITE | wire.CREATE)
    session.write(handle, 0, iter([data]))
    session.close(handle)
    session.rename("/workers/evil/tmp/half", f"/workers/evil/{path}")


# --- honest ------------------------------------------------------------------------------


def test_a_job_from_submission_to_complete(machine: Hardened) -> None:
    job = machine.submit("beta", "hello", count=15)
    machine.wait(job, "RUNNING")
    wait_for(lambda: b"1\n" in machine.client.log(job).data, "a live log")
    assert machine.client.job(job)["status"] == "RUNNING", "the log was seen while it ran"
    end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
    assert (end["status"], end["attempt"], end["exit_code"]) == ("COMPLETE", 1, 0)
    assert end["worker_url"].startswith("ssh://")
    assert machine.output(job) == {"text": b"hello"}
    lines = b"".join(b"%d\n" % n for n in range(1, 16))
    assert machine.client.log(job).data == b"attempt 1\n" + lines


def test_a_kill(machine: Hardened) -> None:
    job = machine.submit("beta", count=6000)
    machine.wait(job, "RUNNING")
    machine.client.kill(job)
    assert machine.wait(job, "KILLED", "COMPLETE", "FAILED")["confirmed"] is True


def test_a_model_that_fails(machine: Hardened) -> None:
    job = machine.submit("beta", "half", fail="")
    end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
    assert (end["status"], end["exit_code"], end["attempt"]) == ("FAILED", 3, 1)
    assert b"no solution" in machine.client.log(job).data
    assert machine.output(job) == {"text": b"half"}


def test_an_output_of_20_megabytes(machine: Hardened) -> None:
    job = machine.submit("beta", size=str(SMALL))
    assert machine.wait(job, "COMPLETE", "FAILED")["status"] == "COMPLETE"
    data = machine.output(job)["data"]
    assert len(data) == SMALL
    assert hashlib.sha256(data).hexdigest() in machine.client.log(job).data.decode()


def test_the_agent_is_started_anew_while_a_job_runs(machine: Hardened) -> None:
    job = machine.submit("beta", "again", count=30)
    machine.wait(job, "RUNNING")
    with machine.away("w1"):
        assert machine.client.job(job)["status"] == "RUNNING"
    assert machine.wait(job, "COMPLETE", "FAILED")["attempt"] == 1
    assert machine.history(job).count("Started") == 1
    assert machine.output(job) == {"text": b"again"}


def test_the_session_is_killed_in_the_middle_of_a_put(machine: Hardened) -> None:
    job = machine.submit("beta", size=str(LARGE))

    def kill() -> Iterator[None]:
        for process in machine.sessions("w1"):
            process.kill()
            yield

    size, _ = until_growing(machine.home("w1") / "tmp", 1_000_000, kill)
    assert size < LARGE, "it was not in the middle"
    end = machine.wait(job, "COMPLETE", "FAILED")
    assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
    data = machine.output(job)["data"]
    assert hashlib.sha256(data).hexdigest() in machine.client.log(job).data.decode()


def test_models_that_are_not_granted_hold_up_no_other(machine: Hardened) -> None:
    """w2 has two of them; it says so, and goes on with its own."""
    machine.furnish("w2", "later", "cold")
    for model in ("later", "cold"):
        closed = f"models/{model}/new: Permission denied"
        wait_for(lambda c=closed: c in machine.said("w2"), f"{closed}, in its log")  # type: ignore[misc]
    for n in range(4):  # each makes it look at all its models
        job = machine.submit("alpha", f"beside {n}")
        assert machine.wait(job, "COMPLETE", "FAILED")["worker"] == "w2"
    assert "could not be started" not in machine.node("w2")["paused"]
    words = ("not granted", "Permission denied")  # it says either
    wait_for(lambda: any(w in str(machine.node("w2")) for w in words), "its next beat")


def test_the_grant_of_a_second_model_while_both_live(machine: Hardened) -> None:
    """Neither the primary nor the worker is started anew; the session is, as the grant says."""
    machine.furnish("w2", "later")
    job = machine.submit("later", "second")
    wait_for(lambda: job in str(os.listdir(machine.spool / "models/later/new")), "its ticket")
    said = machine.grant("w2", "later")
    assert "pkill -KILL -u mr-w2" in said
    for process in machine.sessions("w2"):
        process.kill()
    end = machine.wait(job, "COMPLETE", "FAILED", patience=2 * PATIENCE)
    assert (end["status"], machine.output(job)) == ("COMPLETE", {"text": b"second"})
    assert machine.wait(machine.submit("alpha"), "COMPLETE")["attempt"] == 1


def test_a_check_of_a_granted_account(machine: Hardened) -> None:
    machine.furnish("w5", "alpha")
    code, said = machine.check("w5")
    assert (code, "FAILED" in said) == (0, False), said
    for what in ("logged in as mr-w5", "posix-rename", "stop/ can be", "jobs can be claimed"):
        assert re.search(rf"^ok .*{what}", said, re.M), said


def test_a_check_says_what_is_missing(machine: Hardened) -> None:
    machine.ssh("w5")
    machine.furnish("w5", "beta")
    out = machine.home("w5") / "out"
    before = stat.S_IMODE(out.stat().st_mode)
    out.chmod(0o550)
    try:
        code, said = machine.check("w5")
    finally:
        out.chmod(before)
    assert code == 1
    failed = re.findall(r"^(?:FAILED|note) +(.*)\n {8}(.*)$", said, re.M)
    assert [what.split()[0] for what, _ in failed] == ["out/", "model"], said
    assert all("modelrunner spool grant" in hint for _, hint in failed)
    assert "beta" in failed[1][0]


def test_a_worker_that_is_revoked(machine: Hardened) -> None:
    machine.furnish("w9", "brief")
    machine.furnish("w8", "brief")
    agent = machine.start("w9")
    machine.ready("w9")
    job = machine.submit("brief", "moved", hang="")
    assert machine.wait(job, "RUNNING")["worker"] == "w9"
    machine.start("w8")
    machine.host.modelrunner("spool", "revoke", "w9")
    for process in machine.sessions("w9"):
        process.kill()
    end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
    assert (end["status"], end["attempt"], end["worker"]) == ("COMPLETE", 2, "w8")
    assert machine.output(job) == {"text": b"moved"}
    assert "accepted no key of mr-w9" in machine.said("w9")
    assert "Traceback" not in machine.said("w9")
    agent.terminate()
    agent.wait(PATIENCE)


# --- modes -------------------------------------------------------------------------------


def test_the_modes_of_the_layout_after_real_jobs(machine: Hardened) -> None:
    def owned(path: Path) -> tuple[str, str, int]:
        said = machine.host.run("stat", "-c", "%U %G %a", _inside(machine, path)).stdout.split()
        return said[0], said[1], int(said[2], 8)

    for model in ("alpha", "beta", "cold", "brief"):
        new = machine.spool / f"models/{model}/new"
        assert owned(new) == (PRIMARY, f"mr-model-{model}", 0o2770)
    for worker in ("w1", "w2", "w4", "evil"):
        home = machine.home(worker)
        assert owned(home) == ("root", PRIMARY, 0o751)
        for folder in FOLDERS:
            assert owned(home / folder) == (f"mr-{worker}", PRIMARY, 0o2770)
        assert owned(home / "stop") == (PRIMARY, f"mr-{worker}", 0o2750)
    assert owned(machine.spool)[::2] == ("root", 0o751)
    assert owned(machine.spool / "workers")[0] == "root"
    for parent in (machine.spool, *machine.spool.parents):
        if parent == machine.path("/srv").parent:
            break
        assert parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o022, parent


def test_the_modes_of_tickets(ticket_modes: dict[str, tuple[int, bool]]) -> None:
    assert ticket_modes == {"before": (0o444, False), "after": (0o440, True)}


def _inside(machine: Hardened, path: Path) -> str:
    """Its path inside the machine."""
    return f"/{path.relative_to(machine.path('/'))}"


# --- hostile: what lies in a file's place -----------------------------------------------

TRAPS = {
    "a FIFO": "os.mkfifo(p)",
    "a folder": "os.makedirs(p + '/full/of')",
    "a link to a file": "os.symlink('/etc/passwd', p)",
    "a link to a folder": "os.symlink('/', p)",
    "a hole": "os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 8 << 40)",
    "a closed file": "os.close(os.open(p, os.O_CREAT, 0))",
    "a socket": "import socket; os.chdir(os.path.dirname(p)); "
    "socket.socket(socket.AF_UNIX).bind(os.path.basename(p))",
}
NASTY = (b"a\nb\033[2J", b"\377\376", b"\033]0;x\007", b".hidden", b"x" * 255)
LAY = """
import sys
for n in {nasty!r}:
    for f in {folders!r}:
        os.close(os.open(f.encode() + b"/" + n, os.O_CREAT | os.O_WRONLY))
"""
CLEAR = "os.system('rm -rf workers/evil/{0}/* workers/evil/{0}/.[!.]*')"


def clear(machine: Hardened, *folders: str) -> None:
    for folder in folders:
        machine.as_account("evil", CLEAR.format(folder))


def test_traps_hold_nobody_up(machine: Hardened, stolen: Stolen) -> None:
    """In the place of all that the primary opens in the account's folders, and beside it."""
    key = stolen.claim.key
    final = ReportName(stolen.job, 1, "final")
    places = ("reports/beat.json", f"reports/{final}", f"log/{key}.log", f"out/{key}.zip")
    lay = LAY.format(
        nasty=NASTY, folders=[*(f"workers/evil/{f}" for f in FOLDERS), "models/alpha/new"]
    )
    machine.as_account("evil", lay)
    for trap, code in TRAPS.items():
        for place in places:
            program = f"p = os.path.abspath({f'workers/evil/{place}'!r})\n{code}"
            machine.as_account("evil", program)
        alpha, beta = machine.submit("alpha", f"a {trap}"), machine.submit("beta", f"b {trap}")
        for job, model in ((alpha, "a"), (beta, "b")):
            end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
            assert (end["status"], end["attempt"]) == ("COMPLETE", 1), trap
            assert machine.output(job) == {"text": f"{model} {trap}".encode()}
        assert "beat" in machine.node("evil")["error"], trap
        part = machine.client.log(stolen.job)  # of a hole: a piece that memory can hold
        assert b"root:" not in part.data, trap
        clear(machine, "reports", "log", "out")
    clear(machine, "tmp")
    machine.as_account("evil", "os.system('rm -rf models/alpha/new/*[!p]')")


def test_a_result_with_a_trap_is_not_believed(machine: Hardened) -> None:
    """A job that it has rightly claimed: it may spoil that, but not lead the primary astray."""
    with machine.away("w2"):
        job = machine.submit("alpha", "spoilt")
        ticket = ticket_of(machine, "alpha", job)
        claim = Claim(ticket, MINE)
        with machine.wire("evil") as session:
            session.rename(f"/models/alpha/new/{ticket}", f"/workers/evil/cur/{claim}")
        victim = f"{DATA}/ledger/{sorted(os.listdir(machine.path(DATA) / 'ledger'))[-1]}"
        small = FileFact(size=4, sha256=hashlib.sha256(b"root").hexdigest())
        huge = FileFact(size=8 << 40, sha256="0" * 64)
        for fact, code in (
            (small, f"os.symlink({victim!r}, p)"),
            (small, TRAPS["a FIFO"]),
            (huge, TRAPS["a hole"]),
            (small, "open(p, 'w').write('toor')"),
        ):
            paths = (f"workers/evil/log/{claim.key}.log", f"workers/evil/out/{claim.key}.zip")
            for path in paths:
                machine.as_account("evil", f"p = os.path.abspath({path!r})\n{code}")
            words = FinalReport(
                **_facts(claim), end="ok", run=RunReport(exit_code=0), log=fact, output=fact
            )
            with machine.wire("evil") as session:
                put(session, f"reports/{ReportName(job, 1, 'final')}", encode(words))
            if fact is huge:  # there may be room for it one day: it waits
                machine.wait(machine.submit("beta"), "COMPLETE")
                clear(machine, "reports")
            else:
                heard(machine, job)
            assert machine.client.job(job)["status"] in ("QUEUED", "RUNNING")
            clear(machine, "log", "out")
        back = FinalReport(**_facts(claim), end="lost", reason="\033[2Jenough\n")
        with machine.wire("evil") as session:
            put(session, f"reports/{ReportName(job, 1, 'final')}", encode(back))
        heard(machine, job)
    end = machine.wait(job, "COMPLETE", "FAILED")
    assert (end["worker"], machine.output(job)) == ("w2", {"text": b"spoilt"})


# --- hostile: what it can read and reach ------------------------------------------------


class Target(NamedTuple):
    """A job of beta that runs at w1 or waits, and its names, all of which may be known."""

    job: str
    claim: str


@pytest.fixture
def target(machine: Hardened) -> Iterator[Target]:
    job = machine.submit("beta", "secret of beta", count=6000)
    machine.wait(job, "RUNNING")
    (claim,) = os.listdir(machine.home("w1") / "cur")
    wait_for((machine.home("w1") / f"log/{job}.1.log").exists, "its log")
    yield Target(job, claim)
    assert machine.client.job(job)["status"] == "RUNNING", "nobody else has ended it"
    assert machine.history(job) == ["Submitted", "Queued", "Started"]
    machine.client.kill(job)
    assert machine.wait(job, "KILLED", "COMPLETE", "FAILED")["confirmed"] is True


def secrets_of(machine: Hardened, target: Target) -> list[str]:
    """Files, by their paths in the spool, that exist and are nobody else's business."""
    wait_for((machine.home("w1") / "reports/beat.json").exists, "a beat")
    found = [f"workers/w1/cur/{target.claim}", f"workers/w1/log/{target.job}.1.log"]
    found += ["workers/w1/reports/beat.json"]
    assert all((machine.spool / path).is_file() for path in found)
    return found


FOLDERS_OF_OTHERS = (
    *("", "models", "models/alpha", "models/beta", "models/beta/new", "models/alpha/drop"),
    *("workers", "workers/evil", "workers/w1"),
    *(f"workers/w1/{folder}" for folder in (*FOLDERS, "stop")),
)


def test_it_reads_nothing_of_others_over_sftp(machine: Hardened, target: Target) -> None:
    with machine.wire("evil") as session:
        for path in secrets_of(machine, target):
            for how in (wire.READ, wire.WRITE, wire.WRITE | wire.CREATE):
                refused(session.open, f"/{path}", how)
            refused(session.attributes, f"/{path}")
            refused(session.rename, f"/{path}", "/workers/evil/tmp/x")
            refused(session.remove, f"/{path}")
        for folder in FOLDERS_OF_OTHERS:
            refused(lambda path: list(session.names(path)), f"/{folder}")
            refused(session.open, f"/{folder}/{target.job}.1", wire.WRITE | wire.CREATE)
        for outside in (f"{DATA}/board.sqlite", "/../data/board.sqlite", "/etc/passwd", "/srv"):
            refused(session.attributes, outside)


def refused(verb: Callable[..., object], *args: object) -> None:
    with pytest.raises(Status) as caught:
        verb(*args)
    assert caught.value.code in (wire.NO_SUCH_FILE, wire.PERMISSION_DENIED)


REACH = """
import json, os, sys
got = []
for path in json.loads(sys.argv[1]):
    for what, step in {
        "read": lambda: open(path, "rb").read(1),
        "list": lambda: os.listdir(path or "."),
        "make": lambda: os.close(os.open(f"{path or '.'}/evil", os.O_CREAT | os.O_WRONLY)),
        "write": lambda: os.close(os.open(path, os.O_WRONLY)),
        "link": lambda: os.link(path, "workers/evil/tmp/linked"),
        "take": lambda: os.rename(path, "workers/evil/tmp/taken"),
        "chmod": lambda: os.chmod(path, 0o777),
    }.items():
        try:
            step()
        except OSError:
            continue
        got.append((path, what))
print(json.dumps(got))
"""


def test_it_reaches_nothing_of_others_on_the_disk(machine: Hardened, target: Target) -> None:
    data = [f"{DATA}/{n}" for n in ("ledger", "jobs", "incoming", "bad", "board.sqlite")]
    files = [f"{DATA}/jobs/{target.job}/input.zip"]
    segments = os.listdir(machine.path(DATA) / "ledger")
    files += [f"{DATA}/ledger/{name}" for name in segments]
    done = next(j["uuid"] for j in machine.client.jobs() if j["status"] == "COMPLETE")
    files += [f"{DATA}/jobs/{done}/{n}" for n in ("input.zip", "job_log.txt", "output.zip")]
    assert all(machine.path(path).is_file() for path in files)
    paths = [*FOLDERS_OF_OTHERS, *secrets_of(machine, target), *data, *files, "workers/evil/stop/x"]
    got = json.loads(machine.as_account("evil", REACH, json.dumps(paths)))
    assert got == []
    stop = "os.close(os.open('workers/evil/stop/x', os.O_CREAT | os.O_WRONLY))"
    tried = f"try: {stop}\nexcept PermissionError: print('denied')"
    assert machine.as_account("evil", tried) == "denied\n"
    assert machine.as_account("evil", "print(os.listdir('workers/evil/stop'))") == "[]\n"


# --- hostile: packets -------------------------------------------------------------------

AT = "/workers/evil/tmp"
NOTHING = struct.pack(">I", 0)
MODE = struct.pack(">II", 4, 0o777)
Packet = tuple[int, *tuple[bytes, ...]]  # the kind, and what follows the number

# Every verb of the protocol and of OpenSSH, in a folder where the modes allow all of it.
ALLOWED: dict[str, Packet] = {
    "open": (3, string(f"{AT}/file"), struct.pack(">I", 1), NOTHING),
    "lstat": (7, string(f"{AT}/file")),
    "opendir": (11, string(AT)),
    "realpath": (16, string(AT)),
    "stat": (17, string(f"{AT}/file")),
    "posix-rename": (200, string("posix-rename@openssh.com"), string(f"{AT}/a"), string(f"{AT}/b")),
    "statvfs": (200, string("statvfs@openssh.com"), string(AT)),
    "limits": (200, string("limits@openssh.com")),
    "remove": (13, string(f"{AT}/b")),
}  # fmt: skip
FORBIDDEN: dict[str, Packet] = {
    "setstat": (9, string(f"{AT}/file"), MODE),
    "mkdir": (14, string(f"{AT}/made"), NOTHING),
    "rmdir": (15, string(f"{AT}/empty")),
    "rename": (18, string(f"{AT}/file"), string(f"{AT}/made")),
    "readlink": (19, string(f"{AT}/link")),
    "symlink": (20, string("/etc/passwd"), string(f"{AT}/made")),
    "hardlink": (200, string("hardlink@openssh.com"), string(f"{AT}/file"), string(f"{AT}/made")),
    "lsetstat": (200, string("lsetstat@openssh.com"), string(f"{AT}/file"), MODE),
    "expand-path": (200, string("expand-path@openssh.com"), string("~root/x")),
    "home-directory": (200, string("home-directory"), string("root")),
    "users-groups": (
        200, string("users-groups-by-id@openssh.com"), string(NOTHING), string(NOTHING)
    ),
    "unheard-of": (200, string("nonsense@example.org"), string(AT)),
}  # fmt: skip
BY_HANDLE: dict[str, Callable[[bytes], Packet]] = {
    "fsetstat": lambda handle: (10, string(handle), MODE),
    "fstatvfs": lambda handle: (200, string("fstatvfs@openssh.com"), string(handle)),
    "copy-data": lambda handle: (
        *(200, string("copy-data"), string(handle), struct.pack(">QQ", 0, 0)),
        *(string(handle), struct.pack(">Q", 0)),
    ),
}
# What no server expects: an answer, a greeting, verbs that do not exist.
NONSENSE = (0, 1, 2, 21, 50, 101, 105, 201, 255)


def listed(machine: Hardened) -> str:
    tmp = _inside(machine, machine.home("evil") / "tmp")
    return machine.host.run("find", tmp, "-printf", "%P %y %m %s %l\n").stdout


def test_every_verb_that_a_client_can_send(machine: Hardened) -> None:
    made = "cd workers/evil/tmp && echo x >file && echo y >a && mkdir empty && ln -s file link"
    machine.as_account("evil", f"assert os.system({made!r}) == 0")
    try:
        with machine.wire("evil") as session:
            for name, (kind, *parts) in ALLOWED.items():
                ((said, body),) = answers(session, kind, *parts)
                assert code_of(said, body) == OK, f"{name} is needed"
            before = listed(machine)
            for name, (kind, *parts) in FORBIDDEN.items():
                ((said, body),) = answers(session, kind, *parts)
                assert code_of(said, body) in (DENIED, wire.UNSUPPORTED), name
                assert listed(machine) == before, f"{name} changed something"
            handle = session.open(f"{AT}/file", wire.READ | wire.WRITE)
            for name, packet in BY_HANDLE.items():
                kind, *parts = packet(handle)
                ((said, body),) = answers(session, kind, *parts)
                assert code_of(said, body) in (DENIED, wire.UNSUPPORTED), name
                assert listed(machine) == before, f"{name} changed something"
        for kind in NONSENSE:
            with machine.wire("evil") as session, contextlib.suppress(Broken):
                session._send(kind, string("x"))
                wait_for(lambda s=session: goes_on(s), f"an answer after {kind}")  # type: ignore[misc]
        assert listed(machine) == before
    finally:
        machine.as_account("evil", "os.system('rm -rf workers/evil/tmp/*')")
    assert machine.wait(machine.submit("beta"), "COMPLETE")["attempt"] == 1


def goes_on(session: wire.Wire) -> bool:
    """Whether it answers by now. OpenSSH may need another packet behind one it leaves alone."""
    session._send(REALPATH, string("."))
    channel = session._stream
    assert isinstance(channel, paramiko.Channel)
    return bool(channel.recv_ready() or channel.closed or channel.eof_received)


def test_packets_that_lie_about_their_length(machine: Hardened) -> None:
    for size in (0xFFFFFFFF, 256 * 1024 + 1, 0):
        with machine.wire("evil") as session, pytest.raises(Broken):
            session._stream.send(struct.pack(">IB", size, 3) + bytes(64))
            session._packet()
    assert machine.wait(machine.submit("beta"), "COMPLETE")["attempt"] == 1


# --- hostile: forgery -------------------------------------------------------------------


def say_all(machine: Hardened, claim: Claim, *, text: bytes = b"forged") -> None:
    """Reports about a claim with what belongs to them, as if its job had ended well."""
    key = claim.key
    fact = FileFact(size=len(text), sha256=hashlib.sha256(text).hexdigest())
    words: dict[str, AnyReport] = {
        "started": _started(claim),
        "processed": ProcessedReport(**_facts(claim), run=RunReport(exit_code=0)),
        "final": FinalReport(
            **_facts(claim), end="ok", run=RunReport(exit_code=0), log=fact, output=fact
        ),
    }
    job, attempt = claim.ticket.job, claim.ticket.attempt
    with machine.wire("evil") as session:
        for path in (f"log/{key}.log", f"out/{key}.zip"):
            put(session, path, text)
        for kind, word in words.items():
            put(session, f"reports/{ReportName(job, attempt, kind)}", encode(word))


def heard(machine: Hardened, *jobs: str) -> None:
    """Until the primary has looked at the final reports about the jobs, and taken them away."""

    def gone() -> bool:
        there = os.listdir(machine.home("evil") / "reports")
        return not any(name.startswith(jobs) and name.endswith("-final") for name in there)

    wait_for(gone, "the forged reports to be refused")


@pytest.mark.parametrize("as_whom", ["w1", "evil"])
def test_a_job_that_another_runs_cannot_be_reported(
    machine: Hardened, target: Target, as_whom: str
) -> None:
    """With the true claim's name, or as if it were a claim of its own; ``target`` looks after."""
    claim = parse_claim(target.claim)
    assert claim is not None
    if as_whom == "evil":
        claim = Claim(claim.ticket, MINE)
    say_all(machine, claim)
    heard(machine, target.job)


def test_a_forged_claim_of_a_job_of_another_model(machine: Hardened) -> None:
    """The job waits; claims are made of files of its own, of nothing, and of the bell."""
    ways = {
        "a copy": "open(path, 'wb').write(b'forged')",
        "a link": "os.symlink('/etc/passwd', path)",
        "the bell": "os.link('bell', path)",  # where the kernel lets it: protected_hardlinks
        "a folder": "os.mkdir(path)",
    }
    waiting: dict[str, str] = {}
    with machine.away("w1"):
        for way, code in ways.items():
            job = waiting[way] = machine.submit("beta", way)
            ticket = ticket_of(machine, "beta", job)
            claim = Claim(ticket, MINE)
            tried = f"try: {code}\nexcept PermissionError: pass"
            machine.as_account("evil", f"path = {f'workers/evil/cur/{claim}'!r}\n{tried}")
            say_all(machine, claim)
        heard(machine, *waiting.values())
        for job in waiting.values():
            assert machine.history(job) == ["Submitted", "Queued"]
    for way, job in waiting.items():
        end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
        assert (end["status"], end["worker"], end["attempt"]) == ("COMPLETE", "w1", 1)
        assert machine.output(job) == {"text": way.encode()}


def ticket_of(machine: Hardened, model: str, job: str) -> Ticket:
    new = machine.spool / "models" / model / "new"
    (name,) = wait_for(lambda: [n for n in os.listdir(new) if job in n], "a ticket")
    ticket = parse_ticket(name)
    assert ticket is not None
    return ticket


def test_a_ticket_of_its_own_model_renamed_to_a_claim_of_another(machine: Hardened) -> None:
    """The inode is an input of the primary's: only not that one."""
    with machine.away("w1", "w2"):
        theirs = machine.submit("beta", "theirs")
        mine = machine.submit("alpha", "mine")
        claim = Claim(ticket_of(machine, "beta", theirs), MINE)
        own = ticket_of(machine, "alpha", mine)
        with machine.wire("evil") as session:
            session.rename(f"/models/alpha/new/{own}", f"/workers/evil/cur/{claim}")
        say_all(machine, claim)
        heard(machine, theirs)
        assert machine.history(theirs) == ["Submitted", "Queued"]
    end = machine.wait(theirs, "COMPLETE", "FAILED")
    assert (end["worker"], end["attempt"], machine.output(theirs)) == ("w1", 1, {"text": b"theirs"})
    end = machine.wait(mine, "COMPLETE", "FAILED")  # its ticket was put back: only delayed
    assert (end["worker"], machine.output(mine)) == ("w2", {"text": b"mine"})
    assert end["attempt"] == 2


def test_a_forged_ticket_in_the_queue_of_its_model(machine: Hardened) -> None:
    with machine.away("w2"):
        job = machine.submit("alpha", "true")
        name = str(ticket_of(machine, "alpha", job))
        program = "import sys; p = 'models/alpha/new/' + sys.argv[1]; os.unlink(p); "
        machine.as_account("evil", f"{program}open(p, 'wb').write(b'forged')", name)
    end = machine.wait(job, "COMPLETE", "FAILED")
    assert (end["status"], machine.output(job)) == ("COMPLETE", {"text": b"true"})


# --- hostile: floods --------------------------------------------------------------------

FLOOD = """
import sys, uuid
first, last = map(int, sys.argv[1:])
for folder in ("reports", "cur", "tmp"):
    at = os.open(f"workers/evil/{folder}", os.O_RDONLY | os.O_DIRECTORY)
    for i in range(first, last):
        job = uuid.UUID(int=i + (1 << 120))
        name = {"reports": f"{job}.1.3-final", "tmp": f"{i}"}.get(folder)
        name = name or f"{i:020d}.1-{job}-{'ab' * 32}.zip~{'e' * 16}"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at))
"""

UNFLOOD = """
import shutil, sys
for folder in ("reports", "cur", "tmp"):
    for entry in os.scandir(f"workers/evil/{folder}"):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != sys.argv[1]:
            try:
                os.unlink(entry)
            except FileNotFoundError:
                pass  # the primary was faster
"""


def batch(machine: Hardened, models: tuple[str, ...], name: str) -> float:
    """Seconds that jobs take from the first submission to the last right output."""
    begun = time.monotonic()
    texts = [f"{name} {n}" for n in range(4)]
    jobs = [(machine.submit(model, text), text) for text in texts for model in models]
    for job, text in jobs:
        end = machine.wait(job, "COMPLETE", "FAILED", "KILLED")
        assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
        assert machine.output(job) == {"text": text.encode()}
    return time.monotonic() - begun


def test_a_flood_delays_nobody(machine: Hardened, stolen: Stolen) -> None:
    """Up to the cap every one of its names is looked at; above it none."""
    usual = batch(machine, ("alpha", "beta"), "quiet")
    laid = 0
    try:
        for names, said in (
            (MAX_NAMES - 100, r"workers/evil/cur: \d{4} claims are not believed"),
            (20_000, f"workers/evil/reports: more than {MAX_NAMES} names"),
        ):
            with machine.held():  # so that all of it is there at once
                machine.as_account("evil", FLOOD, str(laid), str(names))
            laid = names

            def told(said: str = said) -> bool:
                code, text = machine.command("doctor")
                return code == 1 and re.search(said, text) is not None

            wait_for(told, "doctor's word")
            flooded = batch(machine, ("alpha", "beta"), "flooded")
            print(f"{names} names: {flooded:.1f} s, and {usual:.1f} s without")
            assert flooded < 5 * usual + 20
            assert told(), "the flood was still there"
            if names <= MAX_NAMES:  # the primary looks at them, and refuses them at its pace
                reports = machine.home("evil") / "reports"
                wait_for(lambda: len(os.listdir(reports)) < names - REFUSED, "refusals")  # noqa: B023
    finally:
        machine.as_account("evil", UNFLOOD, str(stolen.claim))


def test_a_flooded_queue_delays_its_model_alone(machine: Hardened) -> None:
    program = "for i in range(10_001): os.close(os.open(f'models/alpha/new/x{i}', os.O_CREAT))"
    machine.as_account("evil", program)
    try:
        batch(machine, ("beta",), "beside")
        assert any("model alpha" in line for line in machine.client.doctor())
        job = machine.submit("alpha", "waits")
    finally:
        machine.as_account("evil", "for i in range(10_001): os.unlink(f'models/alpha/new/x{i}')")
    end = machine.wait(job, "COMPLETE", "FAILED")
    assert (end["attempt"], machine.output(job)) == (1, {"text": b"waits"})


# --- the end -----------------------------------------------------------------------------


def test_a_job_that_it_sat_on_is_only_delayed(machine: Hardened, stolen: Stolen) -> None:
    end = machine.wait(stolen.job, "COMPLETE", "FAILED", "KILLED")
    assert (end["status"], end["attempt"], end["worker"]) == ("COMPLETE", 2, "w2")
    assert machine.output(stolen.job) == {"text": stolen.text.encode()}


def test_the_frozen_session_costs_time_alone(machine: Hardened, frozen: Frozen) -> None:
    """Back before the session thaws, which it never does here: by the deadline of 30 s."""
    assert 0 < frozen.size < LARGE, "it was not in the middle"
    end = machine.wait(frozen.job, "COMPLETE", "FAILED", "KILLED", patience=3 * PATIENCE)
    assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
    data = machine.output(frozen.job)["data"]
    assert hashlib.sha256(data).hexdigest() in machine.client.log(frozen.job).data.decode()
    assert machine.wait(machine.submit("cold"), "COMPLETE")["attempt"] == 1


def test_nothing_raw_is_shown(machine: Hardened) -> None:
    said = [machine.said_by_primary()]
    for words in (("doctor",), ("status",), ("jobs",)):
        code, text = machine.command(*words)
        assert code in (0, 1) and text
        said.append(text)
    for text in said:
        assert all(c.isprintable() or c in "\n\t" for c in text), repr(text)
    assert "evil" in said[1] and "evil" in said[2]
    assert len(said[1]) < 50_000
    assert said[0].count("is not believed") < REFUSED / 2, "its log is bounded"
    assert "Traceback" not in said[0]


def test_the_ledger_holds(machine: Hardened) -> None:
    machine.stop_primary()
    machine.host.modelrunner("ledger", "verify", "--data", DATA, user=PRIMARY)
