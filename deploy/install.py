"""A version on its way to a host: what is sent, and the commands that install and prune.

The host has Python and nothing of ours, so ``installer`` is sent along, as install.py.
"""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Iterator, Sequence

from deploy import installer
from deploy.paths import Paths
from deploy.release import Release
from deploy.wheels import digest

CHUNK = 1 << 18

# A dropped connection ends tar, and so all of this; the trap leaves nothing of the bundle.
# The version is made with python3.11, not python3: an upgrade of the system would turn the latter
# into a Python that does not see the version's packages; without the former, it is made anew.
_INSTALL = """\
umask 022
mkdir -p {versions} || exit 1
bundle=$(mktemp -d {versions}/.bundle-XXXXXX) || exit 1
trap 'rm -rf "$bundle"' EXIT
trap 'exit 143' HUP INT TERM
tar -xof - -C "$bundle" || {{
  echo "Error:  the bundle was not unpacked in {versions}; see that there is room, try again" >&2
  exit 1
}}
"$(readlink -f {python})" -I "$bundle/install.py" --bundle "$bundle" --to {to}
"""


def install_command(python: str, where: Paths, version: str) -> tuple[str, ...]:
    """Installs a version from its bundle on stdin; does nothing to one that is there whole."""
    script = _INSTALL.format(
        versions=shlex.quote(where.versions),
        python=shlex.quote(python),
        to=shlex.quote(where.version(version)),
    )
    return ("sh", "-c", script)


def prune_command(where: Paths, keep: Sequence[str]) -> tuple[str, ...]:
    """Removes all versions but those to ``keep``, the current one, and those still running."""
    python = f"{where.current}/bin/python"
    return (python, "-I", "-m", "deploy.pruning", where.versions, where.current, *keep)


def bundle(release: Release) -> Iterator[bytes]:
    """A tar: install.py, SHA256SUMS, and the wheels in wheels/. Raises OSError."""
    with open(installer.__file__, "rb") as file:
        script = file.read()
    sums = "".join(f"{digest(path)}  wheels/{path.name}\n" for path in release.files)
    yield from _member("install.py", script)
    yield from _member("SHA256SUMS", sums.encode())
    for path in release.files:
        with path.open("rb") as file:
            info = tarfile.TarInfo(f"wheels/{path.name}")
            info.size = path.stat().st_size
            yield info.tobuf()
            while piece := file.read(CHUNK):
                yield piece
        yield _padding(info.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    yield info.tobuf()
    yield data
    yield _padding(info.size)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
