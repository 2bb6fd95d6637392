"""Starting the model's command: its environment, its program, its log."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

from engine.contract import Order
from engine.rundir import RunDir

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
LANG = "C.UTF-8"


class CannotStart(Exception):
    """The command could not be executed. The message names the file and what to do."""


def output_mark(run: RunDir) -> str:
    """The variable that every process of this run was started with."""
    return f"MODELRUNNER_OUTPUT_DIR={run.output}"


def environment(order: Order, run: RunDir, home: str) -> dict[str, str]:
    """All that the command finds in its environment; nothing of ours is inherited."""
    return {
        "PATH": PATH,
        "HOME": home,
        "LANG": LANG,
        "TMPDIR": str(run.tmp),
        **order.env,
        "MODELRUNNER_JOB_ID": order.job,
        "MODELRUNNER_MODEL": order.model,
        "MODELRUNNER_ATTEMPT": str(order.attempt),
        "MODELRUNNER_INPUT_DIR": str(run.input),
        "MODELRUNNER_OUTPUT_DIR": str(run.output),
    }


def start(order: Order, run: RunDir, home: str) -> int:
    """Start the command in its own session; returns its pid. Raises CannotStart.

    Changes this process's working directory to the model's folder.
    """
    try:
        os.chdir(order.cwd)
    except OSError as e:
        raise CannotStart(
            f"the model's folder {order.cwd}: {e.strerror}; check the worker's models"
        ) from None
    env = environment(order, run, home)
    program = _find(order, env["PATH"])
    log = open_log(run)
    try:
        # posix_spawn does not copy this process's memory (a fork would, and takes
        # longer than many a model); ignored signals would outlive the exec.
        return os.posix_spawn(
            program,
            [*order.argv, str(run.input), str(run.output)],
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )
    except OSError as e:
        raise CannotStart(_why(program, order, e)) from None
    except ValueError as e:  # a NUL in an argument or a "=" in a variable's name
        raise CannotStart(f"{program}: {e}; check command and [env] in model.toml") from None
    finally:
        os.close(log)


def fault(order: Order) -> str:
    """What would keep the command from being started, as far as can be seen without; else ""."""
    if not os.path.isdir(order.cwd):
        return f"the model's folder {order.cwd}: not there"
    path = order.env.get("PATH", PATH)
    try:
        program = os.path.join(order.cwd, _find(order, path))
    except CannotStart as e:
        return str(e)
    if not os.path.isfile(program):
        return _why(program, order, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not os.access(program, os.X_OK):
        return _why(program, order, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    words = _first_line(program)
    if not words:
        return ""
    if not os.access(words[0], os.X_OK):
        return _why(program, order, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if os.path.basename(words[0]) == b"env" and len(words) == 2:
        asked = os.fsdecode(words[1])
        if shutil.which(asked, path=path) is None:
            return f"{program}: its interpreter {asked} is not in {path}; install it"
    return ""


def open_log(run: RunDir) -> int:
    """The run's log, to be appended to. Raises OSError."""
    return os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


_DEFAULTED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def _find(order: Order, path: str) -> str:
    """The program's file; one without a slash is looked for in ``path``."""
    if not order.argv:
        raise CannotStart("the command is empty; check command in model.toml")
    name = order.argv[0]
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    hint = (
        f"; for the file in the model's folder write ./{name} in model.toml"
        if os.path.exists(name)
        else "; install it on this worker, or check command in model.toml"
    )
    raise CannotStart(f"{name}: no such command in {path}{hint}")


def _why(program: str, order: Order, error: OSError) -> str:
    """What the kernel's refusal means, and what to do."""
    file = os.path.join(order.cwd, program)
    if error.errno == errno.ENOENT and os.path.lexists(program):
        if interpreter := _interpreter(program):
            return (
                f"{file}: its interpreter {interpreter} is not there;"
                " install it, or correct the file's first line"
            )
        return f"{file}: it, or a loader it needs, is not there"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{file}: no such file; check command in model.toml"
    if error.errno == errno.EACCES:
        if (interpreter := _interpreter(program)) and os.access(program, os.X_OK):
            return f"{file}: its interpreter {interpreter} may not be executed"
        return f"{file}: may not be executed; make it executable (chmod +x)"
    if error.errno == errno.ENOEXEC:
        return f"{file}: not a program; a script's first line must name one, such as #!/bin/sh"
    return f"{file}: {error.strerror}"


def _interpreter(program: str) -> str | None:
    """What a script's first line names; None if it is no script."""
    words = _first_line(program)
    if not words:
        return None
    # A file with Windows line ends asks for "bash\r", which looks right and is not there.
    shown = words[0].decode("utf-8", "replace").rstrip("\r")
    return f"{shown} (the file has Windows line ends)" if words[-1].endswith(b"\r") else shown


def _first_line(program: str) -> list[bytes]:
    """The words after ``#!``, as the kernel sees them: a stray CR belongs to the last one."""
    try:
        with Path(program).open("rb") as f:
            first = f.read(256)
    except OSError:
        return []
    if not first.startswith(b"#!"):
        return []
    line = first[2:].partition(b"\n")[0]
    return [word for word in line.replace(b"\t", b" ").split(b" ") if word]
