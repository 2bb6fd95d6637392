"""The certificate that nginx gets where the keeper has none."""

from __future__ import annotations

import contextlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy import certificate
from deploy.paths import CERTIFICATE, CERTIFICATE_KEY

NAMES = ("models.example.org", "10.0.0.1", "2001:db8::1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_it_is_made_once_and_covers_names_and_addresses(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    said = certificate.make(NAMES, folder, NOW)
    file, key = folder / CERTIFICATE, folder / CERTIFICATE_KEY
    made = x509.load_pem_x509_certificate(file.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == set(NAMES)
    assert "fingerprint" in said
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(folder.iterdir()) == [file, key]
    for name in NAMES:
        assert _shake_hands(file, key, name) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _shake_hands(file, key, "other.example.org")

    before = (file.read_bytes(), file.stat().st_ino, key.read_bytes())
    assert "is there" in certificate.make(NAMES[:2], folder, NOW + timedelta(days=3000))
    assert (file.read_bytes(), file.stat().st_ino, key.read_bytes()) == before


def test_a_new_one_is_made_where_the_old_does_not_do(tmp_path: Path) -> None:
    file, key = tmp_path / CERTIFICATE, tmp_path / CERTIFICATE_KEY
    certificate.make(NAMES, tmp_path, NOW)
    first = key.read_bytes()
    assert "made" in certificate.make((*NAMES, "new.example.org"), tmp_path, NOW)
    second = key.read_bytes()
    assert second != first
    later = NOW + timedelta(days=3650 - 29)
    assert not certificate.holds(file, key, NAMES, later)
    assert certificate.holds(file, key, NAMES, later - timedelta(days=2))
    key.write_bytes(first)  # of another certificate
    assert "made" in certificate.make(NAMES, tmp_path, NOW)
    file.write_text("damaged")
    assert "made" in certificate.make(NAMES, tmp_path, NOW)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file")
    assert certificate.main(["--names", "a", "--to", str(tmp_path / "tls")]) == 1


def _shake_hands(file: Path, key: Path, name: str) -> str | None:
    """A client that was told to trust the certificate meets the server as ``name``."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(file, key)
    theirs = ssl.create_default_context(cafile=str(file))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons have it by themselves
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up, server_hostname=name)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.version()
