"""Steps: done by us, and by the script in a real shell, with the same end."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.grants.apply import apply
from deploy.grants.steps import File, Step, script
from spool.errors import Refused

Doer = Callable[[list[Step]], list[str]]


def by_us(steps: list[Step]) -> list[str]:
    said: list[str] = []
    apply(steps, said.append)
    return said


def by_the_script(steps: list[Step]) -> list[str]:
    text = script("title", ["a reason"], steps)
    ended = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Refused(f"{ended.stdout}{ended.stderr}")
    return ended.stdout.splitlines()


@pytest.fixture(params=[by_us, by_the_script], ids=["applied", "script"])
def do(request: pytest.FixtureRequest) -> Doer:
    doer: Doer = request.param
    return doer


NASTY = 'it\'s $HOME `id` "x" \\n; rm * #'


def test_commands_and_files_in_their_order(tmp_path: Path, do: Doer) -> None:
    folder = tmp_path / NASTY
    file = File(path=str(folder / "file"), text=f"$(id) {NASTY}\nEND\n")
    steps = [
        Step(f"folder {NASTY}", (("mkdir", str(folder)), ("chmod", "0711", str(folder)))),
        Step("file", (("touch", str(folder / "before")),), file),
    ]
    assert do(steps) == [step.sentence for step in steps]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert {p.name for p in folder.iterdir()} == {"file", "before"}
    assert (folder / "file").read_text() == file.text
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o644


def test_the_first_that_fails_is_named_and_ends_it(tmp_path: Path, do: Doer) -> None:
    path = tmp_path / "a"
    steps = [
        Step("a made", (("mkdir", str(path)),)),
        Step("a made again", (("mkdir", str(path)),)),
        Step("b made", (("mkdir", str(tmp_path / "b")),)),
    ]
    with pytest.raises(Refused, match="File exists") as refused:
        do(steps)
    assert "a made" in str(refused.value)
    assert path.exists() and not (tmp_path / "b").exists()


def test_what_we_say_of_a_failure(tmp_path: Path) -> None:
    steps = [Step("fine", (("true",),)), Step("the worst", (("false",),)), Step("never", ())]
    with pytest.raises(Refused) as refused:
        apply(steps, lambda _: None)
    text = str(refused.value)
    assert "this step failed: the worst: false: exit code 1" in text
    assert "1 steps are done, 2 are left" in text
    with pytest.raises(Refused, match="no program nothing-of-this-name"):
        apply([Step("x", (("nothing-of-this-name",),))], lambda _: None)
    gone = File(path=str(tmp_path / "no" / "file"), text="\n")
    with pytest.raises(Refused, match="No such file"):
        apply([Step("x", (), gone)], lambda _: None)


@pytest.mark.parametrize("before", [None, "the old\n"])
@pytest.mark.parametrize("holds", [True, False])
def test_a_file_that_does_not_hold_is_taken_back(
    tmp_path: Path, do: Doer, before: str | None, holds: bool
) -> None:
    path = tmp_path / "file.conf"
    if before is not None:
        path.write_text(before)
    seen = tmp_path / "seen"
    checks = (("cp", str(path), str(seen)), ("true",) if holds else ("false",))
    step = Step("file", (), File(path=str(path), text="the new\n", checks=checks))
    if holds:
        do([step])
        assert path.read_text() == "the new\n"
    else:
        with pytest.raises(Refused, match="taken back"):
            do([step])
        assert (path.read_text() if path.exists() else None) == before
    assert seen.read_text() == "the new\n", "checked in its place"
    assert {p.name for p in tmp_path.iterdir()} <= {"file.conf", "seen"}


def test_a_sentence_never_becomes_a_command(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    sentence = f"data in /srv/x\ntouch {mark}\n"
    text = script(sentence, [sentence], [Step(sentence, (("true",),))])
    subprocess.run(["sh"], input=text, check=True, text=True, capture_output=True)
    assert not mark.exists()


@pytest.mark.needs("shellcheck")
def test_the_script_passes_shellcheck() -> None:
    file = File(path="/etc/a b", text="x\n", checks=(("sshd", "-t"), ("true",)))
    text = script("title", ["why"], [Step("one", (("true", "a'b"),), file)])
    ended = subprocess.run(
        ["shellcheck", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
