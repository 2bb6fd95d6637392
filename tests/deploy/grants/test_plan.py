"""The plan of a grant, from made-up facts."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.grants import home, layout
from deploy.grants.admission import Grant
from deploy.grants.facts import Account, Entry, Machine, Place, Spool
from deploy.grants.keys import PublicKey
from deploy.grants.planning import plan
from deploy.grants.revoke import revocation
from deploy.grants.steps import Command, Plan, script
from spool.errors import BadName, Refused

KEY = PublicKey(
    "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIAyqCltLbJZbMhipHRV7sGITeMXaQ4+uvcHrWZme09/h", "me"
)
P = Account("runner", "runner", "")
ROOT = Account("root", "root", "root")


def machine(**more: Any) -> Machine:
    facts: dict[str, Any] = {
        "accounts": {"root": ROOT, "runner": P},
        "groups": {"root": frozenset(), "runner": frozenset()},
        "files": {},
        "key_folder": None,
        "sshd": True,
        "included": True,
        "sshd_folder": True,
        "unit": "ssh",
        "gates": (),
        "port": 22,
        "host": "vm",
        "host_keys": (),
    }
    return Machine(**{**facts, **more})


def folder(owner: str, group: str, mode: int) -> Entry:
    return Entry("folder", owner, group, mode)


def spool(*models: str, owner: Account = P, **more: Any) -> Spool:
    """One that its primary has just laid out in a data directory of its own."""
    own = owner.name, owner.group
    entries = {path: folder(*own, 0o711) for path in ("", "models", "workers")}
    entries["bell"] = Entry("file", *own, 0o644)
    for model in models or ("count",):
        entries[f"models/{model}"] = folder(*own, 0o711)
        entries[f"models/{model}/new"] = entries[f"models/{model}/drop"] = folder(*own, 0o750)
    mine = owner is ROOT
    above = (
        Place("/srv/mr/data", mine, "1"),
        Place("/srv/mr", mine, "1"),
        Place("/srv", True, "1"),
    )
    facts: dict[str, Any] = {
        "data": "/srv/mr/data",
        "owner": owner,
        "link": "/srv/mr/data/spool",
        "path": "/srv/mr/data/spool",
        "mount": "1",
        "above": (*above, Place("/", True, "0")),
        "homes": (*above[1:], Place("/", True, "0")),
        "wanted": None,
        "taken": frozenset(),
        "entries": entries,
    }
    return Spool(**{**facts, **more})


def said(planned: Plan) -> str:
    return "\n".join(step.sentence for step in planned.steps)


def ran(planned: Plan) -> list[str]:
    """The commands, without what leaves them out the second time."""
    return [" ".join(_bare(command)) for step in planned.steps for command in step.commands]


def _bare(command: Command) -> Sequence[str]:
    if command[:2] == ("sh", "-c") and len(command) == 3:
        return shlex.split(command[2].rpartition(" || ")[2])
    return command


def test_a_first_worker_on_a_new_machine() -> None:
    planned = plan(Grant(name="gpu1", key=KEY), machine(), spool())
    assert (planned.account, planned.models) == ("mr-gpu1", ("count",))
    assert planned.chroot == "/srv/data-spool"
    assert ran(planned)[:4] == [
        "groupadd --system mr-workers",
        "groupadd --system mr-model-count",
        "useradd --system --user-group --no-create-home --home-dir /nonexistent "
        "--shell /usr/sbin/nologin --password * --comment Model Runner worker gpu1 mr-gpu1",
        "usermod -a -G mr-workers,mr-model-count mr-gpu1",
    ]
    assert any("restart the primary" in note for note in planned.notes)
    assert any("models that come later" in note for note in planned.notes)


def test_nobody_is_let_in_before_all_is_closed() -> None:
    """The key comes last, sshd's file before it, and the chroot before what is in it."""
    planned = plan(Grant(name="gpu1", key=KEY), machine(), spool())
    files = [step.file.path for step in planned.steps if step.file is not None]
    assert files == [layout.SSHD_FILE, f"{layout.KEYS}/mr-gpu1"]
    assert planned.steps[-1].file is not None
    changed = [c for c in ran(planned) if c.split()[0] in ("mv", "chown", "chmod", "chgrp")]
    assert changed[0].startswith("mv ")
    assert changed[1] == "chown -h root:runner /srv/data-spool"
    last = ran(planned).index("chmod 2750 /srv/data-spool/workers/gpu1/stop")
    assert all("chmod" not in c and "chown" not in c for c in ran(planned)[last + 1 :])


def test_root_touches_nothing_in_folders_of_the_primary() -> None:
    planned = plan(Grant(name="gpu1", key=KEY), machine(), spool("a", "b"))
    for command in ran(planned):
        if "/models/" in command:
            assert command.startswith("setpriv --reuid runner "), command


def test_nothing_is_followed_that_was_the_primary_s_before() -> None:
    planned = plan(Grant(name="gpu1", key=KEY), machine(), spool())
    commands = ran(planned)
    for path in ("/srv/data-spool", "/srv/data-spool/workers"):
        looked = max(i for i, c in enumerate(commands) if c == f"test ! -L {path}")
        assert looked < next(
            i for i, c in enumerate(commands) if c == f"chmod {_mode(path)} {path}"
        )


def _mode(path: str) -> str:
    return "1771" if path.endswith("workers") else "0751"


def test_a_primary_of_root_s_moves_nothing_and_joins_no_group() -> None:
    planned = plan(Grant(name="gpu1", key=KEY), machine(), spool(owner=ROOT))
    assert planned.chroot == "/srv/mr/data/spool"
    assert "moved" not in said(planned)
    assert not any("setpriv" in c or c.endswith(" root") for c in ran(planned))
    assert not any("restart" in note for note in planned.notes)


def test_workers_under_the_primary_s_own_account_are_closed() -> None:
    seen = spool()
    entries = {**seen.entries, "workers/local": folder("runner", "runner", 0o755)}
    planned = plan(
        Grant(name="gpu1", key=KEY), machine(), msgspec.structs.replace(seen, entries=entries)
    )
    assert any(c.endswith("chmod o-rwx /srv/data-spool/workers/local") for c in ran(planned))


def test_without_systemd_somebody_has_to_tell_sshd() -> None:
    with_it = plan(Grant(name="g", key=KEY), machine(unit="sshd"), spool())
    without = plan(Grant(name="g", key=KEY), machine(unit=None, sshd_folder=False), spool())
    checks = next(s.file.checks for s in with_it.steps if s.file and s.file.checks)
    assert checks[-1] == ("systemctl", "try-reload-or-restart", "sshd")
    assert not any("kill -HUP" in note for note in with_it.notes)
    assert any("kill -HUP" in note for note in without.notes)
    assert "mkdir -p /run/sshd" in ran(without)


def test_what_stands_in_the_way_is_said() -> None:
    gates = ("/etc/ssh/sshd_config:3: AllowUsers admin",)
    groups = {"root": frozenset[str](), "runner": frozenset({"eve"})}
    notes = plan(Grant(name="g", key=KEY), machine(gates=gates, groups=groups), spool()).notes
    assert any(note.startswith(gates[0]) and "mr-g" in note for note in notes)
    assert any(note.startswith("eve can read") for note in notes)


# --- a second time -----------------------------------------------------------------


def granted(*models: str, drop: bool = False) -> dict[str, Any]:
    """The machine on which gpu1 was granted ``models`` (or the drop of the first)."""
    if drop:
        comment, groups = layout.drop_comment(models[0], "gpu1"), [layout.DROPS_GROUP]
        groups.append(layout.drop_group(models[0]))
    else:
        comment, groups = layout.worker_comment("gpu1"), [layout.WORKERS_GROUP]
        groups += map(layout.model_group, models)
    account = Account("mr-gpu1", "mr-gpu1", comment)
    members = {group: frozenset({"mr-gpu1", "runner"}) for group in groups}
    return {
        "accounts": {"root": ROOT, "runner": P, "mr-gpu1": account},
        "groups": {"root": frozenset(), "runner": frozenset(), "mr-gpu1": frozenset(), **members},
        "key_folder": folder("root", "root", 0o755),
        "files": {
            layout.SSHD_FILE: layout.sshd_file("/srv/data-spool"),
            f"{layout.KEYS}/mr-gpu1": f"restrict {KEY}\n",
        },
    }


def moved(*models: str, worker: bool = True) -> Spool:
    """The spool after that."""
    seen = spool(*models)
    entries = dict(seen.entries)
    entries[""] = folder("root", "runner", 0o751)
    entries["workers"] = folder("root", "runner", 0o1771)
    for model in models if worker else ():
        entries[f"models/{model}/new"] = folder("runner", layout.model_group(model), 0o2770)
    if worker:
        entries["workers/gpu1"] = folder("root", "runner", 0o751)
        for name in ("cur", "tmp", "log", "out", "reports"):
            entries[f"workers/gpu1/{name}"] = folder("mr-gpu1", "runner", 0o2770)
        entries["workers/gpu1/stop"] = folder("runner", "mr-gpu1", 0o2750)
    return msgspec.structs.replace(
        seen,
        path="/srv/data-spool",
        above=(Place("/srv", True, "1"), Place("/", True, "0")),
        entries=entries,
    )


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("account", ["mr-gpu1", None])
def test_what_is_so_already_is_left_out(key: PublicKey | None, account: str | None) -> None:
    again = Grant(name="gpu1", key=key, account=account)
    planned = plan(again, machine(**granted("a")), moved("a"))
    assert planned.steps == ()
    assert planned.account == "mr-gpu1"


@pytest.mark.parametrize("path", sorted(moved("a").entries))
def test_each_thing_that_is_not_so_is_one_step(path: str) -> None:
    """But for the bell and drop/, which no grant to a worker touches."""
    seen = moved("a")
    wrong = seen.entries[path]._replace(mode=0o777)
    if path == "bell":
        return
    seen = msgspec.structs.replace(seen, entries={**seen.entries, path: wrong})
    planned = plan(Grant(name="gpu1"), machine(**granted("a")), seen)
    assert [step.sentence.split(":")[0].split(" ", 1)[1] for step in planned.steps] == [
        f"/srv/data-spool/{path}".rstrip("/")
    ]


def test_a_further_model_is_added_and_a_session_is_told() -> None:
    planned = plan(Grant(name="gpu1", models=("b",)), machine(**granted("a")), moved("a", "b"))
    text = said(planned)
    assert "account mr-gpu1 put into mr-model-b" in text
    assert "mr-model-a" not in text
    assert any("pkill -KILL -u mr-gpu1" in note for note in planned.notes)


def test_what_an_earlier_grant_gave_is_said() -> None:
    seen, facts = moved("a", "b", "c"), machine(**granted("a", "b"))
    planned = plan(Grant(name="gpu1", models=("a",)), facts, seen)
    assert (planned.models, planned.before) == (("a",), ("b",))
    for other in (Grant(name="gpu1", models=("a", "b")), Grant(name="gpu1")):
        assert plan(other, facts, seen).before == ()


def test_what_changes_beyond_the_account_is_said() -> None:
    first = plan(Grant(name="gpu1", key=KEY), machine(), spool())
    place, startups = first.beyond
    assert "from /srv/mr/data/spool to /srv/data-spool" in place
    assert "MaxStartups 200:30:400" in startups
    later = plan(Grant(name="gpu2", key=KEY), machine(**granted("a")), moved("a"))
    assert later.steps and later.beyond == ()


def test_another_key_replaces_the_first() -> None:
    other = KEY._replace(comment="new machine")
    planned = plan(Grant(name="gpu1", key=other), machine(**granted("a")), moved("a"))
    assert [step.sentence.split(" ")[2] for step in planned.steps] == ["replaced:"]


def test_an_account_of_another_name_is_found_by_its_comment() -> None:
    facts = granted("a")
    comment = layout.worker_comment("other")
    facts["accounts"]["fred"] = Account("fred", "fred", comment)
    planned = plan(Grant(name="other", key=KEY), machine(**facts), moved("a"))
    assert planned.account == "fred"
    with pytest.raises(Refused, match="fred already"):
        plan(Grant(name="other", key=KEY, account="ann"), machine(**facts), moved("a"))


# --- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        (Grant(name="Gpu1", key=KEY), "worker 'Gpu1'"),
        (Grant(name="", key=KEY), "worker ''"),
        (Grant(name="../x", key=KEY), "worker"),
        (Grant(name="B", drop="count", key=KEY), "colleague 'B'"),
        (Grant(name="local", key=KEY), "cannot be called local"),
        (Grant(name="gpu1"), "needs a key"),
        (Grant(name="a.b", key=KEY), "--account"),
        (Grant(name="g" * 30, key=KEY), "--account"),
        (Grant(name="workers", key=KEY), "--account"),
        (Grant(name="model-count", key=KEY), "--account"),
        (Grant(name="g", key=KEY, account="Ann"), "--account"),
        (Grant(name="g", key=KEY, account="root"), "not made by a grant"),
        (Grant(name="g", key=KEY, account="runner"), "not made by a grant"),
        (Grant(name="g", key=KEY, models=("none",)), "no model 'none' .it has: count"),
        (Grant(name="g", key=KEY, models=("../x",)), "model"),
        (Grant(name="g", key=KEY, drop="none"), "no model 'none'"),
    ],
)
def test_what_a_grant_may_not_ask(grant: Grant, why: str) -> None:
    with pytest.raises((Refused, BadName), match=why):
        plan(grant, machine(), spool())


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"sshd": False}, "no sshd"),
        ({"included": False}, "Include"),
        ({"groups": {"mr-g": frozenset()}}, "a group mr-g exists"),
        ({"key_folder": folder("runner", "root", 0o755)}, "is not a folder of root's"),
        ({"key_folder": Entry("link", "root", "root", 0o777)}, "is not a folder of root's"),
        (
            {"files": {layout.SSHD_FILE: layout.sshd_file("/srv/another")}},
            "into /srv/another",
        ),
    ],
)
def test_machines_that_are_not_fit(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        plan(Grant(name="g", key=KEY), machine(**facts), spool())


def test_a_second_primary_is_told_at_once_that_there_is_one() -> None:
    """Not first to choose another place, which would not help."""
    for mount in ("1", "7"):
        second = spool(taken=frozenset({"/srv/data-spool"}), mount=mount)
        with pytest.raises(Refused, match="one machine has one spool") as refused:
            plan(Grant(name="g", key=KEY), machine(**granted("a")), second)
        assert "--spool-home" not in str(refused.value)
    # one that was laid out anew where it was, and will lie where it lay, is no second one
    assert plan(Grant(name="g", key=KEY), machine(**granted("a")), spool()).steps


@pytest.mark.parametrize("missing", ["bell", "models", "workers"])
def test_a_spool_that_is_not_laid_out_is_refused(missing: str) -> None:
    seen = spool()
    left = {path: entry for path, entry in seen.entries.items() if path != missing}
    link = {**seen.entries, missing: Entry("link", "runner", "runner", 0o777)}
    for entries in (left, link):
        with pytest.raises(Refused, match="start the primary once"):
            plan(
                Grant(name="g", key=KEY),
                machine(),
                msgspec.structs.replace(seen, entries=entries),
            )


@pytest.mark.parametrize("path", ["models/count", "models/count/new", "workers/g", "workers/g/out"])
@pytest.mark.parametrize("kind", ["link", "file", "other"])
def test_what_should_be_a_folder_and_is_none_is_refused(path: str, kind: Any) -> None:
    seen = spool()
    entries = {**seen.entries, path: Entry(kind, "runner", "runner", 0o777)}
    with pytest.raises(Refused, match=f"is no folder, but a {kind}"):
        plan(Grant(name="g", key=KEY), machine(), msgspec.structs.replace(seen, entries=entries))


def test_a_name_in_use_under_the_primary_s_account_is_refused() -> None:
    seen = spool()
    mine = {f"workers/g{path}": folder("runner", "runner", 0o750) for path in ("", "/cur")}
    with pytest.raises(Refused, match="that of a worker under the account runner") as refused:
        plan(
            Grant(name="g", key=KEY),
            machine(),
            msgspec.structs.replace(seen, entries={**seen.entries, **mine}),
        )
    at = "/srv/mr/data/spool/workers/g"
    assert f": rmdir {at}/out && rmdir {at}/cur && rm -r {at})" in str(refused.value)


def test_what_is_removed_to_grant_loses_nothing(tmp_path: Path) -> None:
    """The command that the refusal names, on a folder with something left and on one without."""
    seen = spool(path=str(tmp_path))
    mine = {f"workers/g{path}": folder("runner", "runner", 0o750) for path in ("", "/cur")}
    with pytest.raises(Refused) as refused:
        plan(
            Grant(name="g", key=KEY),
            machine(),
            msgspec.structs.replace(seen, entries={**seen.entries, **mine}),
        )
    command = refused.value.hint.rpartition(": ")[2]
    there = tmp_path / "workers/g"
    for name in ("cur", "out", "reports"):
        (there / name).mkdir(parents=True)
    (there / "reports/beat.json").touch()
    for held in ("out/zip", "cur/claim"):
        (there / held).parent.mkdir(exist_ok=True)
        (there / held).touch()
        assert subprocess.run(["sh", "-c", command], check=False, capture_output=True).returncode
        assert (there / held).exists() and (there / "reports/beat.json").exists()
        (there / held).unlink()
        for name in ("cur", "out"):  # the agent makes them anew
            (there / name).mkdir(exist_ok=True)
    subprocess.run(["sh", "-c", command], check=True)
    assert not there.exists()


def test_a_name_is_one_account_s() -> None:
    """A colleague cannot be called like a worker, nor have two models by one name."""
    for facts in (granted("a"), granted("a", drop=True)):
        with pytest.raises(Refused, match="the account mr-gpu1 exists and is that of"):
            plan(Grant(name="gpu1", drop="b", key=KEY), machine(**facts), moved("a", "b"))
    with pytest.raises(Refused, match="the account mr-gpu1 exists and is that of"):
        plan(Grant(name="gpu1", key=KEY), machine(**granted("a", drop=True)), moved("a"))


# --- where the spool moves ---------------------------------------------------------


MOVES = {
    "the nearest": ({}, None, "/srv/data-spool"),
    "taken": ({"taken": frozenset({"/srv/data-spool"})}, None, "something lies there already"),
    "mount": ({"mount": "7"}, None, "another file system or mount"),
    "wanted": ({"wanted": Place("/srv/x", True, "1")}, "/srv/x/sp", "/srv/x/sp"),
    "not root's": ({"wanted": Place("/home", False, "1")}, "/home/sp", "not root's alone"),
    "elsewhere": ({"wanted": Place("/opt", True, "2")}, "/opt/sp", "another file system"),
}


@pytest.mark.parametrize(("facts", "wanted", "end"), MOVES.values(), ids=MOVES.keys())
def test_where_the_spool_moves(facts: dict[str, Any], wanted: str | None, end: str) -> None:
    grant = Grant(name="g", key=KEY, spool_home=wanted)
    if end.startswith("/"):
        planned = plan(grant, machine(), spool(**facts))
        assert planned.chroot == end
        assert f"mv -T -n /srv/mr/data/spool {end}" in ran(planned)
        assert f"ln -s -f -T {end} /srv/mr/data/spool" in ran(planned)
    else:
        with pytest.raises(Refused, match=rf"{end}.*--spool-home"):
            plan(grant, machine(), spool(**facts))


@pytest.mark.parametrize("linked", [False, True])
def test_a_move_is_done_once(tmp_path: Path, linked: bool) -> None:
    """From within the data directory, or from elsewhere by a link that stays."""
    link, target = tmp_path / "data/spool", tmp_path / "data-spool"
    link.parent.mkdir()
    path = tmp_path / "elsewhere" if linked else link
    path.mkdir()
    (path / "bell").touch()
    if linked:
        link.symlink_to(path)
    step = home.move(spool(path=str(path), link=str(link)), str(target))
    assert step is not None
    for _ in range(2):
        subprocess.run(["sh"], input=script("move", [], [step]), text=True, check=True)
        assert link.readlink() == target and not target.is_symlink()
        assert [p.name for p in target.iterdir()] == ["bell"]


def test_what_was_moved_is_looked_at_although_it_seems_right() -> None:
    """Its owner could have put a link in its place before."""
    seen = spool()
    entries = {**seen.entries, "": folder("root", "runner", 0o751)}
    planned = plan(
        Grant(name="g", key=KEY), machine(), msgspec.structs.replace(seen, entries=entries)
    )
    commands = ran(planned)
    assert "chmod 0751 /srv/data-spool" not in commands
    assert "test ! -L /srv/data-spool" in commands


# --- colleagues, and the way out ---------------------------------------------------


def test_a_colleague_has_a_drop_folder_and_no_other() -> None:
    planned = plan(Grant(name="bob", drop="a", key=KEY), machine(), spool("a", "b"))
    text = said(planned)
    assert planned.models == ("a",)
    assert "mr-bob put into mr-drops, mr-drop-a" in text
    assert "workers/bob" not in text and "mr-model" not in text
    assert any("--home-dir /models/a/drop " in c for c in ran(planned))


def test_a_revocation_takes_key_and_groups() -> None:
    planned = revocation("gpu1", False, None, machine(**granted("a")))
    assert ran(planned) == [f"rm -f {layout.KEYS}/mr-gpu1", "usermod -G  mr-gpu1"]
    facts = granted("a")
    facts["files"], facts["groups"] = {}, {}
    assert revocation("gpu1", False, None, machine(**facts)).steps == ()


def test_a_revocation_of_one_model_leaves_key_and_rest() -> None:
    facts = machine(**granted("a", "b"))
    assert ran(revocation("gpu1", False, None, facts, ["b"])) == ["gpasswd -d mr-gpu1 mr-model-b"]
    with pytest.raises(Refused, match=r"a model 'c'.*mr-model-a, mr-model-b"):
        revocation("gpu1", False, None, facts, ["a", "c"])


def test_sessions_are_ended_last_and_if_asked_for() -> None:
    facts = machine(**granted("a"))
    command = ("sh", "-c", "pkill -KILL -u mr-gpu1 || test $? -eq 1")
    planned = revocation("gpu1", False, None, facts, now=True)
    assert planned.steps[-1].commands == (command,)
    assert not any("go on" in note for note in planned.notes)
    later = revocation("gpu1", False, None, facts)
    assert command not in [c for step in later.steps for c in step.commands]
    assert any("--now" in note for note in later.notes)


def test_whoever_is_the_other_kind_is_hinted_at() -> None:
    for drop, option in ((True, "--drop"), (False, "")):
        facts = machine(**granted("a", drop=drop))
        with pytest.raises(Refused, match="no account was granted") as refused:
            revocation("gpu1", not drop, None, facts)
        assert refused.value.hint.endswith(f": modelrunner spool revoke gpu1 {option}".rstrip())


@pytest.mark.parametrize(
    ("name", "drop", "account"),
    [("gpu2", False, None), ("gpu1", True, None), ("gpu1", False, "root"), ("runner", False, None)],
)
def test_only_what_was_granted_is_revoked(name: str, drop: bool, account: str | None) -> None:
    with pytest.raises(Refused, match="no account was granted"):
        revocation(name, drop, account, machine(**granted("a")))


def test_after_a_revocation_a_key_is_needed_again() -> None:
    facts = granted("a")
    del facts["files"][f"{layout.KEYS}/mr-gpu1"]
    with pytest.raises(Refused, match="no key any more"):
        plan(Grant(name="gpu1"), machine(**facts), moved("a"))
