"""The models that are shipped: which version each is, and how a host gets it.

A host gets a model's folder as a tar, with ``modelinstaller`` in it, which does the rest there.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from deploy import modelinstaller
from deploy.fleet import Fleet, Host
from deploy.modelinstaller import BARE, Found
from deploy.paths import Paths
from deploy.steps import Command, Text
from spool.errors import Refused
from spool.manifest import SETUP

LARGE = 1 << 30  # bytes of a model above which somebody is told
SETUP_SECONDS = 3000.0  # for a setup script; the step that runs it must be given more
BLOCK = 1 << 20  # bytes

# What the modeller's own tools leave in a folder, and what would not work elsewhere.
_LEFT_OUT = {
    *(".git", ".hg", ".svn", ".gitignore", ".gitattributes", ".DS_Store", ".idea", ".vscode"),
    *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints"),
    "Thumbs.db",
}
_LEFT_OUT_ENDS = ("~", ".pyc", ".pyo", ".swp", ".swo")
_VENV = "pyvenv.cfg"  # a folder with it is a Python environment, full of this machine's paths

_INSTALL = """\
set -eu
umask 022
versions=$1 python=$2
shift 2
mkdir -p "$versions"
half=$(mktemp -d "$versions/.half-XXXXXX")
trap 'rm -rf "$half"' EXIT
trap 'exit 1' HUP INT TERM
tar -xomf - -C "$half"
"$python" -I "$half/install.py" --versions "$versions" --half "$half" "$@"
"""


def version_of(folder: Path) -> str:
    """12 hex digits that change with anything in it that is shipped. Raises Refused."""
    with _reading(folder):
        return modelinstaller.version(folder, _checked(folder))


def on_host(fleet: Fleet, host: Host, versions: Mapping[str, str]) -> dict[str, str]:
    """What shall lie on ``host``, by model: the version, marked where setup is left out.

    Only workers need what setup makes. So a primary that becomes a worker as well gets
    another version, and with it the script is run.
    """
    runs = fleet.runs(host)
    return {
        name: versions[name] if name in runs else f"{versions[name]}{BARE}"
        for name in fleet.models_of(host)
    }


def notes(folder: Path) -> tuple[str, ...]:
    """What the keeper may not know of a model. Raises Refused."""
    said: list[str] = []
    with _reading(folder):
        size = sum(info.st_size for _, info in _checked(folder))
        script = folder / SETUP
        if script.is_file() and not os.access(script, os.X_OK):
            said.append(
                f"model {folder.name}: its file {SETUP} is not executable, so no host runs it; "
                f"if it is the setup script: chmod +x {script}"
            )
    if size > LARGE:
        said.append(f"model {folder.name} is {size / 1e9:.1f} GB: each host gets all of it")
    return tuple(said)


def bundle(folder: Path) -> Iterator[bytes]:
    """A tar of the installer and the model, the same for the same model. Raises Refused."""
    installer = Path(modelinstaller.__file__).read_bytes()
    yield _header("install.py", tarfile.REGTYPE, 0o644, len(installer))
    yield from _padded(iter((installer,)))
    with _reading(folder):
        yield _header("model", tarfile.DIRTYPE, 0o755)
        for rel, info in _checked(folder):
            yield from _member(folder / rel, f"model/{rel}", info)
    yield bytes(2 * tarfile.BLOCKSIZE)


def install_command(
    python: str, paths: Paths, name: str, version: str, *, seconds: float = SETUP_SECONDS
) -> Command:
    """What a host runs with ``bundle`` on stdin; ``version`` is from ``on_host``.

    It can be run again. Whatever fails, the model is as it was before. ``seconds`` are setup's.
    """
    argv = ["--name", name, "--version", version, "--seconds", f"{seconds:g}"]
    if paths.mode == "system":
        argv += ["--account", paths.account]
    shell = ("sh", "-c", _INSTALL, "sh", paths.model_versions, python)
    return (*shell, *argv, *_where(paths))


def prune_command(python: str, paths: Paths, drop: Iterable[str] = ()) -> tuple[Command, Text]:
    """What takes the models ``drop`` away, and removes what no process uses; and its input."""
    dropped = [word for name in drop for word in ("--drop", name)]
    where = ("--versions", paths.model_versions, *_where(paths))
    source = Path(modelinstaller.__file__).read_bytes()
    return (python, "-I", "-", *where, *dropped), Text(source)


def _where(paths: Paths) -> tuple[str, ...]:
    return ("--models", paths.models, "--state", paths.state)


# --- a model's folder --------------------------------------------------------------


class _reading:
    """Turns what cannot be read in a model's folder into Refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            what = f"{error.filename or self._folder}: {error.strerror}"
            raise Refused(f"model {self._folder.name} cannot be read: {what}") from None


def _checked(folder: Path) -> Iterator[Found]:
    """All that is shipped of it. Raises Refused for what cannot be, and OSError."""
    inside = os.path.realpath(folder)
    for rel, info in modelinstaller.entries(folder, _is_left_out):
        if stat.S_ISLNK(info.st_mode):
            target = os.readlink(folder / rel)
            leads = os.path.realpath(folder / rel)
            if os.path.isabs(target) or not f"{leads}/".startswith(f"{inside}/"):
                raise Refused(
                    f"model {folder.name}: {rel} is a link that leads out of the folder, "
                    f"to {target}, which hosts do not have",
                    "put a copy in its place, or let the setup script fetch it there",
                )
        elif not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise Refused(
                f"model {folder.name}: {rel} is no file, folder or link", "move it elsewhere"
            )
        yield rel, info


def _is_left_out(folder: str, name: str) -> bool:
    if name in _LEFT_OUT or name.endswith(_LEFT_OUT_ENDS) or name.startswith(".#"):
        return True
    return os.path.lexists(os.path.join(folder, name, _VENV))


# --- a tar -------------------------------------------------------------------------


def _member(path: Path, name: str, info: os.stat_result) -> Iterator[bytes]:
    """One entry. Raises Refused where a file changes meanwhile, and OSError."""
    if stat.S_ISLNK(info.st_mode):
        yield _header(name, tarfile.SYMTYPE, 0o777, link=os.readlink(path))
    elif stat.S_ISDIR(info.st_mode):
        yield _header(name, tarfile.DIRTYPE, 0o755)
    else:
        yield _header(name, tarfile.REGTYPE, 0o755 if info.st_mode & 0o111 else 0o644, info.st_size)
        yield from _padded(_contents(path, info.st_size))


def _contents(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size:
            data = file.read(min(size, BLOCK))
            if not data:
                raise Refused(f"{path} was changed while it was sent", "try again")
            size -= len(data)
            yield data


def _padded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        yield block
    yield bytes(-size % tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, size: int = 0, link: str = "") -> bytes:
    """Root's, and of no time: the same model is the same tar."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, link
    info.uname = info.gname = "root"
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
