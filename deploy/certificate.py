"""A certificate for nginx, signed by itself. Runs on the primary's host, in the version's venv.

    python -m deploy.certificate --to DIR --names NAME,NAME

One that is there, covers the names and is valid for a month is left as it is.

Ten years: browsers limit what authorities sign, not what a keeper tells them to trust by hand,
and nobody would be reminded in time to make a new one.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.paths import CERTIFICATE, CERTIFICATE_KEY, Paths
from deploy.steps import Command

_LIFE = timedelta(days=3650)
_LEFT = timedelta(days=30)  # valid for less: time for a new one
_SKEW = timedelta(days=1)  # clocks may go wrong by that


def make_command(where: Paths, names: Sequence[str]) -> Command:
    """What makes it on the host, beside the rest of the configuration."""
    module = (f"{where.current}/bin/python", "-I", "-m", "deploy.certificate")
    return (*module, "--to", where.tls, "--names", ",".join(names))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="deploy.certificate")
    parser.add_argument("--names", required=True, help="names and addresses, parted by commas")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    names = [name.strip() for name in options.names.split(",") if name.strip()]
    if not names:
        parser.error("--names: at least one name is needed")
    try:
        print(make(names, options.to, datetime.now(UTC)))
    except OSError as e:
        print(f"no certificate: {e.filename}: {e.strerror}", file=sys.stderr)
        return 1
    except ValueError as e:
        print(f"no certificate for {', '.join(names)}: {e}", file=sys.stderr)
        return 1
    return 0


def make(names: Sequence[str], folder: Path, now: datetime) -> str:
    """Make key and certificate, if need be; what was done. Raises OSError, ValueError."""
    file = folder / CERTIFICATE
    if holds(file, folder / CERTIFICATE_KEY, names, now):
        return f"{file} is there, and covers {', '.join(names)}"
    key = ec.generate_private_key(ec.SECP256R1())  # what every client of today takes
    certificate = _certificate(key, names, now)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _put(folder / CERTIFICATE_KEY, private, 0o600)
    _put(file, certificate.public_bytes(Encoding.PEM), 0o644)
    digest = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return f"{file} made for {', '.join(names)}; its SHA-256 fingerprint is {digest}"


def holds(file: Path, key_file: Path, names: Sequence[str], now: datetime) -> bool:
    """Whether what is there can stay: they belong together, for these names, for long enough."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    covered = {str(name.value) for name in extension.value}
    wanted = {str(_general(name).value) for name in names}
    if certificate.not_valid_after_utc - now < _LEFT or certificate.not_valid_before_utc > now:
        return False
    return wanted <= covered and certificate.public_key() == key.public_key()


def _certificate(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> x509.Certificate:
    # The name itself is for people; clients read the alternative names. 64 is X.509's limit.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    # Not an authority: a client that trusts it trusts this server, and nothing it might sign.
    no_authority = x509.BasicConstraints(ca=False, path_length=None)
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(alternatives, critical=False)
        .add_extension(no_authority, critical=True)
        .add_extension(usage, critical=False)
        .add_extension(identity, critical=False)
        .sign(key, hashes.SHA256())
    )


def _general(name: str) -> x509.DNSName | x509.IPAddress:
    """A name or an address, as a certificate has it. Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii") if not name.isascii() else name)


def _put(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others for a moment. Raises OSError."""
    half = path.with_name(f".{path.name}.half")
    with contextlib.suppress(FileNotFoundError):
        half.unlink()
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.chmod(mode)
    half.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
