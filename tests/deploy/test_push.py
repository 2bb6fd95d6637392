"""Plans carried out: files in their place, steps in their order, and the way back.

Hosts are this machine: a Remote of ours runs the same commands without SSH (which
test_remote has), each host with a folder of its own.
"""

from __future__ import annotations

import io
import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from deploy import progress
from deploy.fleet import Host
from deploy.push import News, Outcome, StepFailed, carry_out
from deploy.remote import Ended, Login, Lost, Overdue, Remote
from deploy.steps import Bundle, FileOf, HostPlan, Input, Phase, Put, Step, Text
from spool.errors import Refused, SpoolError, Unreachable
from tests.system import wait_for


class Here(Remote):
    """A host that is this machine. ``argv`` keeps what everybody here could read."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(Host(name=name, address="127.0.0.1"))
        self.folder = folder
        folder.mkdir()
        self.argv: list[str] = []
        self.raises: dict[str, SpoolError] = {}  # by a command's first word

    @property
    def login(self) -> Login:
        return Login(os.getuid(), pwd.getpwuid(os.getuid()).pw_name, 22)

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes | Iterable[bytes] = b"",
        root: bool = False,
        seconds: float = 120.0,
        each: Callable[[bytes], None] | None = None,
    ) -> Ended:
        assert root == self.rooted and each is None
        self.argv += command
        if command[0] in self.raises:
            raise self.raises[command[0]]
        given = input if isinstance(input, bytes) else b"".join(input)
        done = subprocess.run(
            command, input=given, capture_output=True, cwd=self.folder, timeout=min(seconds, 60)
        )
        return Ended(done.returncode, done.stdout, done.stderr)


class Heard(News):
    """What was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def host_step(self, host: str, n: int, of: int, sentence: str) -> None:
        self.told.append(f"{host} {n}/{of} {sentence}")

    def sent(self, host: str, size: int) -> None:
        self.told.append(f"{host} sent {size}")

    def done(self, host: str) -> None:
        self.told.append(f"{host} done")

    def failed(self, failed: StepFailed) -> None:
        self.told.append(f"{failed.host} failed {failed.sentence}")

    def stopping(self) -> None:
        self.told.append("stopping")


@pytest.fixture
def alpha(tmp_path: Path) -> Here:
    return Here("alpha", tmp_path / "alpha")


@pytest.fixture
def beta(tmp_path: Path) -> Here:
    return Here("beta", tmp_path / "beta")


def supply(bundle: Bundle) -> Iterator[bytes]:
    yield f"{bundle.kind} ".encode()
    yield bundle.name.encode()


def carry(plans: Mapping[Here, Sequence[Step]], heard: News | None = None) -> Outcome:
    return carry_out(
        [HostPlan(host=remote.host.name, steps=tuple(steps)) for remote, steps in plans.items()],
        {remote.host.name: remote for remote in plans},
        supply,
        heard or Heard(),
    )


def sh(script: str, phase: Phase = Phase.PREPARE, **other: Any) -> Step:
    return Step(phase=phase, sentence=script, commands=(("sh", "-c", script),), **other)


def failure(remote: Here, step: Step) -> StepFailed:
    outcome = carry({remote: [step]})
    assert not outcome.whole and outcome.missing == {remote.host.name: (step.sentence,)}
    (failed,) = outcome.failed
    assert failed.host == remote.host.name and failed.sentence == step.sentence
    return failed


# --- files ---------------------------------------------------------------------------


def put(path: Path, text: str = "new\n", **other: Any) -> Step:
    commands = other.pop("commands", ())
    undo = other.pop("undo", ())
    file = Put(path=str(path), text=text, **other)
    return Step(phase=Phase.PREPARE, sentence="put", put=file, commands=commands, undo=undo)


def test_a_file_appears_whole_with_its_mode_and_nobody_reads_it_on_the_way(alpha: Here) -> None:
    path = alpha.folder / "primary.env"
    path.write_text("old\n")
    was = path.stat().st_ino
    (alpha.folder / ".primary.env.half").write_text("of a line that broke")
    assert carry({alpha: [put(path, "KEY=s3cret ü\n", mode=0o640, secret=True)]}).whole
    assert path.read_text() == "KEY=s3cret ü\n" and path.stat().st_mode & 0o7777 == 0o640
    assert path.stat().st_ino != was, "renamed, not written over"
    assert os.listdir(alpha.folder) == ["primary.env"]
    assert "s3cret" not in " ".join(alpha.argv)


@pytest.mark.root
def test_a_file_gets_its_owner(alpha: Here) -> None:
    path = alpha.folder / "key"
    assert carry({alpha: [put(path, owner="daemon:tty", mode=0o400)]}).whole
    assert (path.owner(), path.group(), path.stat().st_mode & 0o777) == ("daemon", "tty", 0o400)
    alpha.folder.chmod(0o755)
    failed = failure(alpha, put(path, "newer\n", owner="nobody-of-that-name:tty"))
    assert "there is no owner nobody-of-that-name:tty" in failed.output[-1]
    assert failed.undone and failed.left == "nothing was changed"
    assert path.read_text() == "new\n" and os.listdir(alpha.folder) == ["key"]


def test_a_file_that_cannot_be_put_says_where_and_why(alpha: Here) -> None:
    failed = failure(alpha, put(alpha.folder / "none" / "file"))
    assert failed.command == f"write {alpha.folder}/none/file" and failed.code == 1
    assert failed.output == (f"{alpha.folder}/none/.file.half: No such file or directory",)
    assert failed.undone
    (alpha.folder / "folder").mkdir()
    failed = failure(alpha, put(alpha.folder / "folder"))
    assert "Is a directory" in failed.output[-1] and os.listdir(alpha.folder) == ["folder"]


def test_what_a_file_breaks_is_put_right_again(alpha: Here) -> None:
    """As nginx -t would refuse it."""
    path = alpha.folder / "site.conf"
    path.write_text("old s3cret\n")
    path.chmod(0o604)
    check = ("sh", "-c", "echo checked; grep -q old site.conf || { echo no old >&2; exit 3; }")
    undo = (("sh", "-c", "cat site.conf > seen"),)
    failed = failure(alpha, put(path, commands=(check,), undo=undo))
    assert (failed.what, failed.code) == ("exit code 3", 3)
    assert failed.output == ("checked", "no old") and failed.command.startswith("sh -c 'echo")
    assert failed.undone and "undone" in failed.left
    assert path.read_text() == "old s3cret\n" and path.stat().st_mode & 0o777 == 0o604
    assert (alpha.folder / "seen").read_text() == "old s3cret\n", "undo comes after the file"
    path.unlink()
    assert failure(alpha, put(path, commands=(check,))).undone
    assert not path.exists(), "there was none before"
    path.symlink_to("elsewhere")
    failed = failure(alpha, put(path, commands=(check,)))
    assert not failed.undone and "was no file that could be put back" in failed.left
    assert "s3cret" not in str(failed) + " ".join(alpha.argv)


# --- commands ------------------------------------------------------------------------


def test_a_step_without_a_way_back_says_so(alpha: Here) -> None:
    failed = failure(alpha, sh("seq 30; printf 'red \\033[31m\\n' >&2; exit 1", hint="look there"))
    assert failed.output[-2:] == ("30", "red  [31m") and len(failed.output) == 20
    assert (failed.undone, failed.left) == (False, "what it did until then stays")
    assert failed.hint == "look there"


def test_a_way_back_that_fails_is_told(alpha: Here) -> None:
    failed = failure(alpha, sh("exit 1", undo=(("sh", "-c", "echo stuck; exit 4"), ("true",))))
    assert not failed.undone
    assert "undoing it failed, too: sh -c 'echo stuck; exit 4': exit code 4 stuck" in failed.left
    assert alpha.argv[-1] == "true", "the rest of it is tried"
    assert failure(alpha, sh("exit 1", undo=(("true",),))).undone


def lost() -> Lost:
    e = Lost("alpha: touch: the connection broke; it may or may not have been done")
    e.printed = b"begun\n"
    return e


RAISED = {
    "not reached": (Unreachable("alpha: gone"), True, "nothing was changed", ""),
    "no sudo": (Refused("alpha: sudo asks", "log in as root"), True, "nothing was", "as root"),
    "broken": (lost(), False, "may still go on", "same command again"),
    "too slow": (Overdue("alpha: too slow", "see why"), True, "it was undone", "see why"),
}


@pytest.mark.parametrize(("error", "undone", "left", "hint"), RAISED.values(), ids=RAISED.keys())
def test_a_command_that_does_not_end(
    alpha: Here, error: SpoolError, undone: bool, left: str, hint: str
) -> None:
    alpha.raises["touch"] = error
    step = Step(
        phase=Phase.PREPARE, sentence="t", commands=(("touch", "x"),), undo=(("rm", "-f", "x"),)
    )
    failed = failure(alpha, step)
    assert failed.code is None and failed.what.startswith("alpha: ")
    assert failed.undone == undone and left in failed.left and hint in failed.hint
    assert ("rm" in alpha.argv) == (left == "it was undone")
    assert failed.output == (("begun",) if isinstance(error, Lost) else ())


def test_what_takes_itself_back_does_not_where_it_was_ended(alpha: Here) -> None:
    alpha.raises["touch"] = Overdue("alpha: too slow", "see why")
    step = Step(phase=Phase.PREPARE, sentence="t", commands=(("touch", "x"),), atomic=True)
    failed = failure(alpha, step)
    assert not failed.undone and failed.left == "what it did until then stays"


# --- inputs --------------------------------------------------------------------------


def taking(given: Input) -> Step:
    return Step(
        phase=Phase.PREPARE,
        sentence="taken",
        commands=(("tee", "first"), ("tee", "second")),
        input=given,
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Text(b"as it is"), "as it is"),
        (FileOf("beta", "KEY"), "ssh-ed25519 AAAA"),
        (Bundle("model", "spring"), "model spring"),
    ],
    ids=["text", "another host's file", "bundle"],
)
def test_the_first_command_gets_the_input(alpha: Here, beta: Here, given: Input, text: str) -> None:
    (beta.folder / "KEY").write_text("ssh-ed25519 AAAA")
    heard = Heard()
    assert carry({alpha: [taking(given)], beta: []}, heard).whole
    assert (alpha.folder / "first").read_text() == text
    assert (alpha.folder / "second").read_text() == ""
    assert ("alpha sent 12" in heard.told) == isinstance(given, Bundle)


def test_an_input_that_is_not_there_is_told(
    alpha: Here, beta: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = carry({alpha: [taking(FileOf("beta", "KEY"))], beta: []})
    (failed,) = outcome.failed
    assert failed.what.startswith("beta: KEY cannot be read: cat: KEY") and failed.undone

    def broken(_: Bundle) -> Iterator[bytes]:
        yield b"half"
        raise Refused("a wheel is damaged", "build it again")

    monkeypatch.setitem(globals(), "supply", broken)
    (failed,) = carry({alpha: [taking(Bundle("release", "1"))]}).failed
    assert (failed.what, failed.hint) == ("a wheel is damaged", "build it again")
    assert not failed.undone, "the command had begun"


# --- phases --------------------------------------------------------------------------


def test_a_phase_begins_when_the_one_before_is_over_everywhere(alpha: Here, beta: Here) -> None:
    """Also where a plan has its steps in another order; within a phase hosts work side by side."""
    pipe = alpha.folder / "pipe"
    os.mkfifo(pipe)
    log = alpha.folder / "log"
    both = {
        alpha: [
            sh(f"echo switch >> {log}", Phase.WORKERS),
            sh(f"echo a > {pipe}"),  # waits for beta, which reads it
            sh(f"echo prepared >> {log}"),
        ],
        beta: [sh(f"cat {pipe}"), sh(f"echo start >> {log}", Phase.PRIMARY)],
    }
    heard = Heard()
    outcome = carry(both, heard)
    assert log.read_text().split() == ["prepared", "start", "switch"]
    assert outcome.whole and outcome.done["alpha"][-1] == f"echo switch >> {log}"
    assert [line for line in heard.told if "alpha" in line[:5]] == [
        f"alpha 1/3 echo a > {pipe}",
        f"alpha 2/3 echo prepared >> {log}",
        f"alpha 3/3 echo switch >> {log}",
        "alpha done",
    ]


def test_after_a_failure_the_others_finish_the_phase_and_no_other_begins(
    alpha: Here, beta: Here
) -> None:
    both = {
        alpha: [sh("true"), sh("exit 1"), sh("touch never"), sh("true", Phase.PRIMARY)],
        beta: [sh("sleep 0.3"), sh("touch b"), sh("touch never", Phase.WORKERS)],
    }
    heard = Heard()
    outcome = carry(both, heard)
    assert outcome.done == {"alpha": ("true",), "beta": ("sleep 0.3", "touch b")}
    assert outcome.missing == {
        "alpha": ("exit 1", "touch never", "true"),
        "beta": ("touch never",),
    }
    assert [failed.host for failed in outcome.failed] == ["alpha"] and not outcome.whole
    assert (beta.folder / "b").exists() and not (beta.folder / "never").exists()
    assert "alpha failed exit 1" in heard.told and "beta done" not in heard.told


def test_nothing_to_do_is_done(alpha: Here) -> None:
    assert carry({alpha: []}) == Outcome(done={}, missing={})
    assert carry({}).whole


def test_ctrl_c_finishes_what_has_begun_and_begins_nothing(alpha: Here, beta: Here) -> None:
    os.mkfifo(alpha.folder / "pipe")
    heard = Heard()

    def interrupt() -> None:
        wait_for(lambda: "alpha 1/2 cat pipe; touch whole" in heard.told, "the step to begin")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: "stopping" in heard.told, "the keeper to be heard")
        (alpha.folder / "pipe").write_text("go on\n")

    thread = threading.Thread(target=interrupt)
    thread.start()
    steps = [sh("cat pipe; touch whole"), sh("touch never")]
    outcome = carry({alpha: steps, beta: [sh("touch never", Phase.PRIMARY)]}, heard)
    thread.join()
    assert outcome.interrupted and not outcome.whole and not outcome.failed
    assert (alpha.folder / "whole").exists() and not (alpha.folder / "never").exists()
    assert outcome.done["alpha"] == (steps[0].sentence,)
    assert outcome.missing == {"alpha": ("touch never",), "beta": ("touch never",)}


# --- news ----------------------------------------------------------------------------


def told(news: News) -> None:
    news.host_step("alpha", 1, 3, "[file] written")
    news.sent("alpha", 30 << 20)
    news.done("alpha")
    news.host_step("beta", 2, 2, "services started")
    failed = StepFailed(
        **dict.fromkeys(("what", "command", "hint", "left"), ""),
        host="beta",
        sentence="services started",
        code=1,
        output=(),
        undone=False,
    )
    news.failed(failed)
    news.stopping()


def test_a_pipe_gets_lines(tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("w") as file,
        progress.shown(["alpha", "beta"], Console(file=file, width=20)) as news,
    ):
        told(news)
    assert (tmp_path / "out").read_text().splitlines()[:4] == [
        "alpha: 1/3 [file] written",
        "alpha: done",
        "beta: 2/2 services started",
        "beta: FAILED: services started",
    ]


def test_a_terminal_gets_bars() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with progress.shown(["alpha", "beta", "gamma"], console) as news:
        told(news)
        news.host_step("gamma", 2, 4, "[file] written")
        news.sent("gamma", 30 << 20)
    shown = out.getvalue()
    assert "1/4 [file] written: 30 MiB sent" in shown
    assert "3/3 done" in shown and "1/2 failed: services started" in shown
    assert progress.STOPPING in shown


def test_outcomes_can_be_told_to_a_machine(alpha: Here) -> None:
    outcome = carry({alpha: [sh("exit 1")]})
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
