"""known_hosts is read as OpenSSH reads it; ssh-keygen itself makes and searches the files."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from spool.errors import Refused
from spool.hosts import algorithms, check, fingerprint, known_keys

ED, RSA = "ssh-ed25519", "ssh-rsa"
KEY, OTHER = b"\0\0\0\x0bssh-ed25519key", b"\0\0\0\x0bssh-ed25519other"


def line(names: str, key: bytes = KEY, type_: str = ED, marker: str = "") -> str:
    return f"{marker} {names} {type_} {base64.b64encode(key).decode()} comment\n".lstrip()


MATCHES = {
    ("primary", "primary"): True,
    ("PRIMARY", "primary"): True,
    ("a,primary,b", "primary"): True,
    ("primary", "primary.example"): False,
    ("*.example", "primary.example"): True,
    ("*.example,!primary.example", "primary.example"): False,
    ("!primary.example,*.example", "primary.example"): False,
    ("prim?ry", "primary"): True,
    ("[primary]:2222", "[primary]:2222"): True,
    ("[primary]:2222", "primary"): False,
    ("[primary]:*", "[primary]:2222"): True,
    ("[pq]rimary", "primary"): False,
    ("::1", "::1"): True,
    ("primary.example", "primaryxexample"): False,
    ("|1|bad", "primary"): False,
    ("|1|####|####", "primary"): False,
    ("|2|AAAA|AAAA", "primary"): False,
}


def test_a_key_that_is_revoked_for_the_host_is_revoked_for_each_port(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("primary", marker="@revoked") + line("primary"))
    with pytest.raises(Refused, match="revoked"):
        check([file], "[primary]:2222", ED, KEY, "primary:2222")
    file.write_text(line("primary"))
    check([file], "[primary]:2222", ED, KEY, "primary:2222")


@pytest.mark.parametrize(("names", "name"), MATCHES)
def test_which_lines_are_about_a_host(tmp_path: Path, names: str, name: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line(names))
    assert bool(known_keys([file], name)) is MATCHES[names, name]


@pytest.mark.needs("openssh-client")
@pytest.mark.parametrize("name", ["primary", "[primary]:2222", "::1", "[::1]:2222"])
def test_hashed_names_as_ssh_keygen_makes_them(tmp_path: Path, name: str) -> None:
    file = tmp_path / "known_hosts"
    pair = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pair], check=True)
    public = (tmp_path / "id.pub").read_text().split()
    file.write_text(f"{name} {public[0]} {public[1]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    (known,) = known_keys([file], name)
    assert known_keys([file], name + "x") == []
    check([file], name, ED, known.key, "shown")
    shown = subprocess.run(["ssh-keygen", "-lf", pair], check=True, capture_output=True, text=True)
    assert fingerprint(known.key) == shown.stdout.split()[1]


def test_an_unknown_host_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    with pytest.raises(Refused) as caught:
        check([file, tmp_path / "second"], "[primary]:2222", ED, KEY, "w@primary:2222")
    added = line("[primary]:2222").removesuffix(" comment\n")
    assert added in caught.value.hint and str(file) in caught.value.hint
    assert fingerprint(KEY) in str(caught.value)
    assert not file.exists()
    file.write_text(added + "\n")
    check([file], "[primary]:2222", ED, KEY, "w@primary:2222")


def test_a_changed_key_names_its_line_and_both_fingerprints(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# ours\n\n" + line("other") + line("primary", OTHER))
    with pytest.raises(Refused, match=r"CHANGED.*attack") as caught:
        check([file], "primary", ED, KEY, "w@primary")
    for part in (f"{file}:4", fingerprint(KEY), fingerprint(OTHER)):
        assert part in str(caught.value)
    file.write_text(file.read_text() + line("primary"))
    check([file], "primary", ED, KEY, "w@primary")  # one of several known keys will do


def test_a_key_of_a_type_that_is_not_known_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("primary", OTHER, RSA))
    with pytest.raises(Refused, match=rf"not known.*{RSA}") as caught:
        check([file], "primary", ED, KEY, "w@primary")
    assert f"{file}:1" in str(caught.value)


@pytest.mark.parametrize("first", [True, False])
def test_a_revoked_key_is_refused_though_another_line_has_it(tmp_path: Path, first: bool) -> None:
    file, second = tmp_path / "known_hosts", tmp_path / "system"
    lines = [line("*", marker="@revoked"), line("primary")]
    file.write_text("".join(lines if first else reversed(lines)))
    with pytest.raises(Refused, match="revoked") as caught:
        check([file], "primary", ED, KEY, "w@primary")
    assert f"{file}:{1 if first else 2}" in str(caught.value)
    file.write_text(lines[1])
    second.write_text(lines[0])
    with pytest.raises(Refused, match="revoked"):
        check([file, second], "primary", ED, KEY, "w@primary")


def test_a_host_that_is_known_without_its_port(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("primary"))
    check([file], "[primary]:2222", ED, KEY, "w@primary:2222")
    with pytest.raises(Refused, match="not known"):
        check([file], "[primary]:2222", ED, OTHER, "w@primary:2222")


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(
        b"primary\nprimary ssh-ed25519\nprimary ssh-ed25519 A===\n\xff\xfe \xff \xff\n"
        + line("primary", marker="@cert-authority").encode()
        + line("primary", marker="@strange").encode()
    )
    assert known_keys([file, tmp_path / "none", file / "below"], "primary") == []
    with pytest.raises(Refused, match="cannot be read"):
        known_keys([tmp_path], "primary")


def test_the_types_that_can_be_checked_are_asked_for_first(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(
        line("primary", OTHER, "ssh-dss")
        + line("primary", OTHER, RSA)
        + line("primary", OTHER, "ecdsa-sha2-nistp384")
        + line("primary", OTHER, ED, "@revoked")
    )
    order = algorithms(known_keys([file], "primary"))
    assert order[:3] == ("rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp384")
    assert set(order) == set(algorithms([])) and len(order) == 6
    assert algorithms([])[0] == ED
