"""``modelrunner spool grant`` and ``revoke`` on a machine of its own: what is so afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.grants.conftest import OTHER
from tests.deploy.grants.host import DATA, PRIMARY, Host, host
from tests.system import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("openssh-server"),
    pytest.mark.needs("passwd"),
    pytest.mark.needs("util-linux"),
]

SSHD_FILE = "/etc/ssh/sshd_config.d/modelrunner.conf"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Host]:
    with host(tmp_path / "host") as made:
        made.add_primary("count", OTHER)
        yield made


def grant(
    host: Host, name: str, *more: str, data: str = DATA, user: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    key = f"{host.key(name)}.pub"
    Path(key).parent.chmod(0o755)
    return host.modelrunner(
        "spool", "grant", name, "--key", _inside(host, key), "--data", data, *more,
        user=user, check=check,
    )  # fmt: skip


def _inside(host: Host, key: str) -> str:
    """A copy of the key where every account can read it."""
    target = host.srv / "keys" / Path(key).name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(Path(key).read_bytes())
    return f"/srv/keys/{target.name}"


def state(host: Host) -> str:
    """Everything that a grant makes: owners, modes, accounts, files; without numbers."""
    listing = host.run("find", "/srv", "-printf", "%M %u:%g %p -> %l\n").stdout
    names = host.run("sh", "-c", "cut -d: -f1,5- /etc/passwd; cut -d: -f1,4 /etc/group; "
                     "cut -d: -f1,2 /etc/shadow").stdout  # fmt: skip
    folders = "/etc/ssh/modelrunner /etc/ssh/sshd_config.d"
    script = f"ls -lR --time-style=+ {folders}; for d in {folders}; do cat $d/*; done"
    ssh = host.run("sh", "-c", script, check=False).stdout
    return "\n".join((*sorted(listing.splitlines()), names, ssh))


def reachable(host: Host, account: str, name: str) -> str:
    """What sftp(1) says to ``get /bell``; empty if all went well."""
    return host.sftp(account, name, "get /bell /dev/null").stderr


# --- the same by every way ---------------------------------------------------------


def test_a_second_grant_has_nothing_to_do(fresh: Host) -> None:
    grant(fresh, "gpu1")
    grant(fresh, "bob", "--drop", "count")
    before = state(fresh)
    for name, *more in (("gpu1",), ("gpu1", "--model", "count"), ("bob", "--drop", "count")):
        said = grant(fresh, name, *more).stdout
        assert said.startswith(f"nothing to do: the account mr-{name} is as it should be\n")
    assert state(fresh) == before


GRANTS = (("gpu1", "--model", "count"), ("gpu2",), ("bob", "--drop", OTHER))


def test_the_script_that_others_get_does_the_same(fresh: Host, tmp_path: Path) -> None:
    """Asked by the primary's own account, run by root."""
    with host(tmp_path / "second") as second:
        second.add_primary("count", OTHER)
        for name, *more in GRANTS:
            key = second.key(name)
            for end in ("", ".pub"):  # the same key on both
                Path(f"{key}{end}").write_bytes(Path(f"{fresh.key(name)}{end}").read_bytes())
            grant(fresh, name, *more)
            untouched = state(second)
            asked = grant(second, name, *more, user=PRIMARY)
            assert state(second).replace(f"/srv/keys/{name}.pub", "") == _with_key(
                second, untouched, name
            )
            assert "Nothing was changed" in asked.stderr
            second.run("sh", text=asked.stdout)
            second.run("sh", text=asked.stdout)  # a second time does no harm
        assert state(second) == state(fresh)
        second.start_sshd()
        assert reachable(second, "mr-gpu1", "gpu1") == ""


def _with_key(host: Host, before: str, name: str) -> str:
    """The state before, but for the folder of keys that the test itself fills."""
    now = state(host)
    assert set(before.splitlines()) <= set(now.splitlines())
    rest = [line for line in now.splitlines() if line not in before.splitlines()]
    assert all("/srv/keys" in line for line in rest)
    return now.replace(f"/srv/keys/{name}.pub", "")


def test_a_dry_run_changes_nothing_as_root_either(fresh: Host) -> None:
    grant(fresh, "gpu1", "--dry-run")  # the key's copy is made
    before = state(fresh)
    said = grant(fresh, "gpu1", "--dry-run").stdout
    assert said.startswith("#!/bin/sh\n")
    assert "useradd" in said
    assert state(fresh) == before


@pytest.mark.needs("shellcheck")
def test_the_script_of_a_whole_grant_passes_shellcheck(fresh: Host) -> None:
    texts = [grant(fresh, "gpu1", "--dry-run").stdout]
    grant(fresh, "gpu1")
    for more in ((), ("--model", "count")):
        revoke = ("spool", "revoke", "gpu1", "--now", "--dry-run", *more)
        texts.append(fresh.modelrunner(*revoke).stdout)
    for text in texts:
        assert text.startswith("#!/bin/sh\n")
        ended = subprocess.run(
            ["shellcheck", "-"], input=text, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout


def test_what_goes_beyond_the_account_is_said_before_it_is_done(fresh: Host) -> None:
    move, startups, first, *_ = grant(fresh, "gpu1").stdout.splitlines()
    assert f"the spool moves from {DATA}/spool to /srv/data-spool" in move
    assert "MaxStartups 200:30:400" in startups and "all logins" in startups
    assert first.startswith("group ")
    assert "beyond" not in grant(fresh, "gpu2").stdout
    assert "--dry-run prints" in fresh.modelrunner("spool", "grant", "--help").stdout


@pytest.mark.parametrize("closed", ["stdout", "both"])
def test_a_pipe_that_closes_early_leaves_nothing_half_done(fresh: Host, closed: str) -> None:
    key = _inside(fresh, f"{fresh.key('gpu1')}.pub")
    args = ("-m", "modelrunner", "spool", "grant", "gpu1", "--key", key, "--data", DATA)
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as pipe:
        ended = subprocess.run(
            fresh.command(sys.executable, *args),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe if closed == "both" else subprocess.PIPE,
            env=fresh.environment(),
            timeout=120,
            check=False,
        )
    assert (ended.returncode, ended.stderr or b"") == (0, b"")
    assert grant(fresh, "gpu1").stdout.startswith("nothing to do")


def test_without_root_the_reason_and_the_other_way_are_said(fresh: Host) -> None:
    said = grant(fresh, "gpu1", user=PRIMARY).stdout
    assert "# This needs root" in said
    assert f"ssh-copy-id {PRIMARY}@" in said
    assert "any such worker can read, change and delete everything" in said


def test_whoever_may_not_look_is_told_so(fresh: Host) -> None:
    fresh.run("chmod", "0700", DATA)
    ended = grant(fresh, "gpu1", user="nobody", check=False)
    assert ended.returncode == 1
    assert "as root, or as the account that runs the primary" in ended.stderr


def test_a_grant_that_was_cut_off_is_finished_by_the_next(fresh: Host) -> None:
    """At every step: the script without its last lines, then the grant."""
    text = grant(fresh, "gpu1", "--dry-run").stdout
    body = text.split("umask 022\n")[1]
    steps = re.findall(r"(?s)\n# ([^\n]*)\n(.*?\nprintf [^\n]*\n)", body)
    assert len(steps) > 10
    for sentence, lines in steps:
        assert sentence in grant(fresh, "gpu1", "--dry-run").stdout
        fresh.run("sh", "-eu", text=f"umask 022\n{lines}")
        assert f"# {sentence}\n" not in grant(fresh, "gpu1", "--dry-run").stdout
    assert grant(fresh, "gpu1").stdout.startswith("nothing to do")


# --- where the spool lies ----------------------------------------------------------


def test_the_spool_moves_beside_the_data_and_all_in_it_stays(fresh: Host) -> None:
    note = f"{DATA}/spool/models/count/drop/note"
    fresh.run("sh", "-c", f"echo here > {note}", user=PRIMARY)
    inode = fresh.path(note).stat().st_ino
    said = grant(fresh, "gpu1").stdout
    assert f"spool moved from {DATA}/spool to /srv/data-spool" in said
    link = fresh.run("readlink", f"{DATA}/spool").stdout
    assert link == "/srv/data-spool\n"
    assert fresh.path("/srv/data-spool/models/count/drop/note").stat().st_ino == inode
    # the primary makes links across, and folders for workers of its own
    script = f"cd {DATA} && echo x > jobs/x && ln jobs/x spool/models/count/new"
    fresh.run("sh", "-c", script, user=PRIMARY)
    fresh.run("mkdir", f"{DATA}/spool/workers/local", user=PRIMARY)


def test_a_primary_of_root_s_keeps_its_spool(fresh: Host) -> None:
    fresh.add_primary("count", user="root", data="/srv/data")
    grant(fresh, "gpu1", data="/srv/data")
    assert fresh.run("stat", "-c", "%F %U %a", "/srv/data/spool").stdout == "directory root 751\n"
    fresh.start_sshd()
    assert reachable(fresh, "mr-gpu1", "gpu1") == ""
    assert "Permission denied" in fresh.sftp("mr-gpu1", "gpu1", "ls /models").stderr


def test_a_place_of_the_operator_s_choice(fresh: Host) -> None:
    fresh.run("mkdir", "/srv/chroot")
    grant(fresh, "gpu1", "--spool-home", "/srv/chroot/sp")
    assert fresh.run("readlink", f"{DATA}/spool").stdout == "/srv/chroot/sp\n"
    fresh.start_sshd()
    assert reachable(fresh, "mr-gpu1", "gpu1") == ""


@pytest.mark.parametrize("elsewhere", ["/run/sp", f"{DATA}/../sp"])
def test_a_place_that_is_not_fit_changes_nothing(fresh: Host, elsewhere: str) -> None:
    before = fresh.run("find", "/srv/modelrunner", "-ls").stdout
    ended = grant(fresh, "gpu1", "--spool-home", elsewhere, check=False)
    assert ended.returncode == 1
    assert "the spool cannot move to" in ended.stderr
    assert fresh.run("find", "/srv/modelrunner", "-ls").stdout == before
    assert fresh.run("id", "mr-gpu1", check=False).returncode != 0


def test_no_place_at_all(fresh: Host) -> None:
    fresh.run("chmod", "1777", "/srv")
    ended = grant(fresh, "gpu1", check=False)
    assert ended.returncode == 1
    assert "the spool can move nowhere" in ended.stderr
    assert "--spool-home" in ended.stderr


@pytest.mark.parametrize("way", ["ln -s /srv/roots gpu1", "mkdir gpu1"])
def test_a_folder_that_was_put_there_meanwhile_is_not_taken(fresh: Host, way: str) -> None:
    """It would be the primary's, to exchange between root's commands."""
    script = grant(fresh, "gpu1", "--dry-run").stdout
    fresh.run("install", "-d", "-m", "0700", "/srv/roots")
    fresh.run("sh", "-c", f"cd {DATA}/spool/workers && {way}", user=PRIMARY)
    ended = fresh.run("sh", text=script, check=False)
    assert ended.returncode != 0 and "File exists" in ended.stderr
    assert fresh.run("stat", "-c", "%U %G %a", "/srv/roots").stdout == "root root 700\n"
    assert not fresh.path("/etc/ssh/modelrunner/mr-gpu1").exists()


def test_a_folder_that_became_a_link_meanwhile_is_not_followed(fresh: Host) -> None:
    """The primary's account, gone astray, swaps a folder after the look and before the steps."""
    script = grant(fresh, "gpu1", "--dry-run").stdout
    fresh.run("install", "-d", "-m", "0700", "/srv/roots")
    swap = f"cd {DATA}/spool && mv workers w && ln -s /srv/roots workers"
    fresh.run("sh", "-c", swap, user=PRIMARY)
    assert fresh.run("sh", text=script, check=False).returncode != 0
    assert fresh.run("stat", "-c", "%U %a", "/srv/roots").stdout == "root 700\n"
    # nor with the primary's own rights, in folders of its own
    fresh.run("sh", "-c", f"cd {DATA}/spool/ && rm workers && mv w workers && cd models/count && "
              "mv new n && ln -s /srv/roots new")  # fmt: skip
    rest = script.split("left at", 1)[1].split("\n", 1)[1]  # without set -e: all of it is tried
    fresh.run("sh", text=rest, check=False)
    assert fresh.run("stat", "-c", "%U %G %a", "/srv/roots").stdout == "root root 700\n"


# --- sshd --------------------------------------------------------------------------


def test_sshd_does_what_the_file_says(fresh: Host) -> None:
    grant(fresh, "gpu1")
    grant(fresh, "bob", "--drop", "count")
    for account in ("mr-gpu1", "mr-bob"):
        wanted = f"user={account},host=x,addr=192.0.2.1"
        said = set(fresh.run("sshd", "-T", "-C", wanted).stdout.splitlines())
        assert said >= {
            "maxstartups 200:30:400",
            "chrootdirectory /srv/data-spool",
            "disableforwarding yes",
            "permittty no",
            "permituserrc no",
            "x11forwarding no",
            "allowagentforwarding no",
            "authorizedkeysfile /etc/ssh/modelrunner/%u",
            "authenticationmethods publickey",
            "passwordauthentication no",
            "kbdinteractiveauthentication no",
            "maxsessions 4",
            "clientaliveinterval 15",
            "clientalivecountmax 4",
        }
    others = fresh.run("sshd", "-T", "-C", "user=root,host=x,addr=192.0.2.1").stdout
    assert "chrootdirectory none" in others


BROKEN = {
    "sshd -t": ("zz.conf", "NoSuchWord yes\n", "NoSuchWord"),
    "somebody before us": ("00.conf", "Match User mr-*\n    ChrootDirectory /tmp\n", "in its way"),
}


@pytest.mark.parametrize(("file", "text", "why"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("by", ["us", "the script"])
def test_a_file_that_sshd_does_not_take_is_taken_back(
    fresh: Host, by: str, file: str, text: str, why: str
) -> None:
    broken = fresh.path(f"/etc/ssh/sshd_config.d/{file}")
    broken.write_text(text)
    if by == "us":
        ended = grant(fresh, "gpu1", check=False)
    else:
        script = grant(fresh, "gpu1", "--dry-run").stdout
        ended = fresh.run("sh", text=script, check=False)
    assert ended.returncode == 1
    assert why in ended.stderr
    assert "taken back" in ended.stderr
    assert not fresh.path(SSHD_FILE).exists()
    assert not fresh.path("/etc/ssh/modelrunner/mr-gpu1").exists(), "the key comes last"
    # put right, the next grant does what is left
    broken.unlink()
    said = grant(fresh, "gpu1").stdout
    assert "group" not in said
    assert "written, and checked by sshd" in said


def test_without_the_include_nothing_is_begun(fresh: Host) -> None:
    config = fresh.path("/etc/ssh/sshd_config")
    config.write_text(config.read_text().replace("Include", "#Include"))
    ended = grant(fresh, "gpu1", check=False)
    assert ended.returncode == 1
    assert "add as its first line: Include /etc/ssh/sshd_config.d/*.conf" in ended.stderr
    assert fresh.run("id", "mr-gpu1", check=False).returncode != 0


def test_a_port_and_a_gate_are_seen(fresh: Host) -> None:
    fresh.path("/etc/ssh/sshd_config.d/ours.conf").write_text("Port 2022\nAllowUsers admin\n")
    said = grant(fresh, "gpu1", "--host", "primary.example").stdout
    assert "sftp://mr-gpu1@primary.example:2022/" in said
    assert "ours.conf:2: AllowUsers admin: this may keep mr-gpu1 out" in said
    public = fresh.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[1]
    assert f"[primary.example]:2022 ssh-ed25519 {public}\n" in said
    shown = fresh.run("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
    assert shown.split()[1] in said


# --- more, and less ----------------------------------------------------------------


def test_a_second_worker_and_a_colleague_leave_sshd_alone(fresh: Host) -> None:
    grant(fresh, "gpu1")
    fresh.start_sshd()
    for name, *more in (("gpu2",), ("bob", "--drop", "count")):
        assert "sshd" not in grant(fresh, name, *more).stdout.split("note:")[0].split("\n\n")[0]
        assert reachable(fresh, f"mr-{name}", name) == ""


def test_models_are_added_by_granting_again(fresh: Host) -> None:
    grant(fresh, "gpu1", "--model", "count")
    fresh.start_sshd()
    look = f"ls /models/{OTHER}/new"
    assert "ermission denied" in fresh.sftp("mr-gpu1", "gpu1", look).stderr
    said = fresh.modelrunner("spool", "grant", "gpu1", "--data", DATA).stdout
    assert f"may run: count, {OTHER}." in said
    assert fresh.sftp("mr-gpu1", "gpu1", look).stderr == ""


def test_the_key_can_be_exchanged(fresh: Host) -> None:
    grant(fresh, "gpu1")
    fresh.start_sshd()
    assert reachable(fresh, "mr-gpu1", "gpu1") == ""
    new = _inside(fresh, f"{fresh.key('new')}.pub")
    fresh.modelrunner("spool", "grant", "gpu1", "--data", DATA, "--key", new)
    assert reachable(fresh, "mr-gpu1", "new") == ""
    assert "Permission denied" in reachable(fresh, "mr-gpu1", "gpu1")


def test_a_revoked_account_is_shut_out_and_can_come_back(fresh: Host) -> None:
    grant(fresh, "gpu1")
    fresh.start_sshd()
    said = fresh.modelrunner("spool", "revoke", "gpu1").stdout
    assert "pkill -KILL -u mr-gpu1" in said
    assert "until the lease is over" in said
    assert "Permission denied" in reachable(fresh, "mr-gpu1", "gpu1")
    assert fresh.run("id", "-Gn", "mr-gpu1").stdout == "mr-gpu1\n"
    assert fresh.modelrunner("spool", "revoke", "gpu1").stdout.startswith("nothing to do")
    grant(fresh, "gpu1", "--model", "count")
    assert reachable(fresh, "mr-gpu1", "gpu1") == ""
    assert "ermission denied" in fresh.sftp("mr-gpu1", "gpu1", f"ls /models/{OTHER}/new").stderr


def test_one_model_is_taken_away(fresh: Host) -> None:
    grant(fresh, "gpu1")
    said = grant(fresh, "gpu1", "--model", "count").stdout
    take = f"spool revoke gpu1 --model {OTHER}"
    assert f"may run: count, {OTHER} ({OTHER} from before; `modelrunner {take}` takes it" in said
    script = fresh.modelrunner(*take.split(), "--dry-run").stdout
    fresh.start_sshd()
    look = f"ls /models/{OTHER}/new"
    assert fresh.sftp("mr-gpu1", "gpu1", look).stderr == ""
    fresh.modelrunner(*take.split())
    assert "ermission denied" in fresh.sftp("mr-gpu1", "gpu1", look).stderr
    assert fresh.sftp("mr-gpu1", "gpu1", "ls /models/count/new").stderr == ""
    assert "may run: count.  On" in grant(fresh, "gpu1", "--model", "count").stdout
    assert fresh.modelrunner(*take.split()).stdout.startswith("nothing to do")
    fresh.run("sh", text=script)  # it is so already


@pytest.mark.needs("procps")
@pytest.mark.parametrize("by", ["us", "the script"])
def test_now_ends_the_sessions_that_are_open(fresh: Host, by: str) -> None:
    _own_ids(fresh)
    grant(fresh, "gpu1")
    uid = fresh.run("id", "-u", "mr-gpu1").stdout.strip()
    assert int(uid) >= 1_000_000
    fresh.start_sshd()
    with subprocess.Popen(
        [*fresh.ssh("ssh", "mr-gpu1", "gpu1", "-s"), "sftp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as session:
        assert session.stdin is not None and session.stdout is not None
        session.stdin.write(b"\0\0\0\5\1\0\0\0\3")  # SSH_FXP_INIT
        assert session.stdout.read(1), "the session did not begin"
        revoke = ("spool", "revoke", "gpu1", "--now")
        script = fresh.modelrunner(*revoke, "--dry-run").stdout
        assert session.poll() is None

        def do() -> None:
            if by == "us":
                fresh.modelrunner(*revoke)
            else:
                fresh.run("sh", text=script)

        do()
        assert session.wait(60) != 0
    wait_for(lambda: not _processes_of(uid), "the last process of the session to be gone")
    do()  # and when there is none


def _processes_of(uid: str) -> str:
    command = ["pgrep", "-u", uid]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _own_ids(host: Host) -> None:
    """Accounts get ids that nobody else has: whoever is killed by account is of this test."""
    first = 1_000_000 + 100 * os.getpid()
    with host.path("/etc/login.defs").open("a") as file:
        file.write(f"\nSYS_UID_MIN {first}\nSYS_UID_MAX {first + 99}\nLASTLOG_UID_MAX 999\n")


def test_revoking_needs_root(fresh: Host) -> None:
    grant(fresh, "bob", "--drop", "count")
    asked = fresh.modelrunner("spool", "revoke", "bob", "--drop", user=PRIMARY)
    assert fresh.path("/etc/ssh/modelrunner/mr-bob").exists()
    fresh.run("sh", text=asked.stdout)
    assert not fresh.path("/etc/ssh/modelrunner/mr-bob").exists()


def test_a_private_key_is_refused_before_anything_else(fresh: Host) -> None:
    secret = fresh.key("gpu1")
    ended = fresh.modelrunner(
        "spool", "grant", "gpu1", "--data", DATA, "--key", str(secret), check=False
    )
    assert ended.returncode == 1
    assert "is a private key" in ended.stderr
    assert secret.read_text().splitlines()[1] not in ended.stdout + ended.stderr
    assert fresh.run("id", "mr-gpu1", check=False).returncode != 0
