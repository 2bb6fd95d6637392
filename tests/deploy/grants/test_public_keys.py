"""Which files are taken as a public key; made by the real ssh-keygen."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from deploy.grants.keys import parse_public_key
from spool.errors import Refused

pytestmark = pytest.mark.needs("openssh-client")

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAyqCltLbJZbMhipHRV7sGITeMXaQ4+uvcHrWZme09/h"


def make(folder: Path, type_: str, bits: int | None = None, comment: str = "gpu one") -> Path:
    key = folder / "key"
    size = ["-b", str(bits)] if bits else []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", type_, *size, "-N", "", "-C", comment, "-f", str(key)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return key


@pytest.mark.parametrize(
    ("type_", "bits"),
    [("ed25519", None), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048)],
)
def test_keys_of_ssh_keygen_are_taken(tmp_path: Path, type_: str, bits: int | None) -> None:
    public = make(tmp_path, type_, bits).with_suffix(".pub")
    key = parse_public_key(public.read_bytes(), "key.pub")
    assert str(key) == public.read_text().strip()
    assert key.comment == "gpu one"
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(public)], check=True, capture_output=True, text=True
    )
    assert key.fingerprint == shown.stdout.split()[1]


def test_a_security_key_is_taken() -> None:
    """Made by hand: ssh-keygen wants the device."""
    type_ = b"sk-ssh-ed25519@openssh.com"
    fields = (type_, b"k" * 32, b"ssh:")
    blob = base64.b64encode(b"".join(len(f).to_bytes(4, "big") + f for f in fields)).decode()
    line = f"{type_.decode()} {blob} token"
    assert str(parse_public_key(line.encode(), "key.pub")) == line


@pytest.mark.parametrize("old", [False, True], ids=["OpenSSH", "PEM"])
def test_a_private_key_is_refused_and_not_repeated(tmp_path: Path, old: bool) -> None:
    key = make(tmp_path, "rsa", 2048)
    if old:
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-N", "", "-m", "PEM", "-f", str(key)], check=True
        )
    with pytest.raises(Refused, match=r"is a private key .*ends in \.pub") as refused:
        parse_public_key(key.read_bytes(), "key")
    secrets = [line for line in key.read_text().splitlines() if "-----" not in line]
    assert not any(line in str(refused.value) for line in secrets)


def test_another_program_s_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    public = make(tmp_path, "ed25519").with_suffix(".pub")
    exported = subprocess.run(
        ["ssh-keygen", "-e", "-f", str(public)], check=True, capture_output=True
    )
    with pytest.raises(Refused, match=r"ssh-keygen -i -f key\.pub"):
        parse_public_key(exported.stdout, "key.pub")
    with pytest.raises(Refused, match="private key"):
        parse_public_key(b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "key.ppk")


def test_a_weak_key_is_refused(tmp_path: Path) -> None:
    public = make(tmp_path, "rsa", 1024).with_suffix(".pub")
    with pytest.raises(Refused, match="1024 bits is too weak"):
        parse_public_key(public.read_bytes(), "key.pub")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 lines"),
        ("# nothing but this\n", "0 lines"),
        (f"{ED25519} a\n{ED25519} b\n", "2 lines"),
        (f'command="sh" {ED25519}', "options"),
        (f"no-pty {ED25519}", "options"),
        (ED25519.replace("ssh-ed25519", "ssh-dss"), "known"),
        (ED25519.replace("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"), "known"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "not of the type"),
        (ED25519[:-4], "cut off"),
        (ED25519 + "AAAA", "cut off"),
        (ED25519.replace("AAAA", "A*AA"), "cut off"),
        ("ssh-ed25519", "not of the type"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "cut off"),
        ("\x00\xff\n", "known"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        parse_public_key(text.encode(errors="replace"), "key.pub")


@pytest.mark.parametrize(
    ("comment", "kept"),
    [("", ""), ("a b", "a b"), ("t\xe9l\xe9", ""), ("\x1b[31m", ""), ("a\tb", "")],
)
def test_a_comment_that_a_terminal_must_not_see_is_left_out(comment: str, kept: str) -> None:
    key = parse_public_key(f"{ED25519} {comment}\n".encode(), "key.pub")
    assert key.comment == kept


def test_windows_line_ends_and_comments_are_no_harm() -> None:
    assert str(parse_public_key(f"# mine\r\n{ED25519} me\r\n".encode(), "k")) == f"{ED25519} me"
