"""The command line: wiring, and nothing a test would want to import.

Loads click alone; each command loads what it needs. ``modelrunner --help`` and
``from modelrunner import Client`` must not wait for the server's libraries, so
imports stand inside functions here, and only here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import click

# name: (module, attribute, one line of help)
COMMANDS = {
    "serve": ("modelrunner", "serve", "Run the primary: ledger, spool, API and pages."),
    "submit": ("client.commands.submitting", "submit", "Submit a zip, a folder or an address."),
    "check": ("client.commands.submitting", "check", "Check an input without running it."),
    "example": ("client.commands.submitting", "example", "Run a model on its own example."),
    "jobs": ("client.commands.lists", "jobs", "List the jobs."),
    "status": ("client.commands.lists", "status", "Show the nodes, or a job."),
    "wait": ("client.commands.waiting", "wait", "Wait for a job's end; exit with its result."),
    "log": ("client.commands.log", "log", "Print a job's log; -f follows it."),
    "outputs": ("client.commands.outputs", "outputs", "List a job's output files, or fetch some."),
    "kill": ("client.commands.waiting", "kill", "Kill a job."),
    "rerun": ("client.commands.submitting", "rerun", "Run a job's input again, as a new job."),
    "models": ("client.commands.lists", "models", "List the models."),
    "doctor": ("client.commands.lists", "doctor", "Show what somebody should look at."),
    "completion": (
        "client.commands.completion",
        "completion",
        "Print what completes all this in a shell.",
    ),
    "key": ("primary.keycommands", "key", "Make access keys, list them, take them back."),
    "ledger": ("modelrunner", "ledger", "Verify, show or export the ledger."),
    "deploy": ("deploy.commands", "deploy", "Set up hosts over SSH, and look after them."),
    "spool": (
        "deploy.grants.commands",
        "spool",
        "Let workers and colleagues in, or shut them out.",
    ),
}

# what ``from modelrunner import ...`` gives, of client.api
PUBLIC = (
    *("Client", "ClientError", "BadInput", "TimedOut", "Unreachable"),
    *("Job", "JobDetail", "LogPart", "OutputFile"),
)


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(import_module("client.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class LazyGroup(click.Group):
    """A group that loads a command when it is called, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        # "modelrunner" is this very file, which may be running as __main__
        found = globals() if module == "modelrunner" else vars(import_module(module))
        command: click.Command = found[attribute]
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """The commands' names, without loading the commands."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=row[2])
            for name, row in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in COMMANDS.items()])


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"modelrunner {version('modelrunner')}")
    except PackageNotFoundError:
        click.echo("modelrunner (not installed: run from a checkout)")
    ctx.exit()


EXIT_CODES = """\b
Exit codes of the commands that ask a server:
  0  all well
  1  the job FAILED or was KILLED, the input is bad, or doctor found something
  2  wrong use, or a file here cannot be read or written
  3  the server is not reachable, or refused
  4  not over after --timeout
  130  interrupted; a job that was submitted goes on
"""


@click.group(cls=LazyGroup, epilog=EXIT_CODES)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version.",
)  # fmt: skip
def main() -> None:
    """Share a model: submit a zip, a worker runs it, the log and the output come back."""


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    """HOST:PORT, with [...] around an IPv6 address; nothing and * as HOST mean every address."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bad_host = ":" in host and not bracketed
    if not colon or bad_host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:8080")
    host = host[1:-1] if bracketed else host
    return "0.0.0.0" if host in ("", "*") else host, int(port)


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The data directory; made if it is not there.",
)
@click.option(
    "--listen",
    required=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where to answer HTTP; port 0 takes a free one.",
)
@click.option(
    "--models",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder with one folder for each model.",
)
@click.option(
    "--slots",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Keep a local worker beside it that runs this many jobs at once.",
)
@click.option(
    "--admin-key",
    envvar="MODELRUNNER_ADMIN_KEY",
    metavar="KEY",
    help="Who has it may do everything. It, or one of 'modelrunner key add', is needed where "
    "other machines can reach us.  [env: MODELRUNNER_ADMIN_KEY]",
)
@click.option(
    "--anonymous", type=click.Choice(("none", "read", "submit", "admin")), metavar="ROLE",
    help="What may be done without a key: none, read, submit or admin. As anonymous below "
    "[access] in DATA/config.toml, and above it; else admin where nobody but this machine can "
    "reach us, and submit elsewhere.",
)  # fmt: skip
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A further name of ours.")
@click.option(
    "--allow-url", "allow_urls", multiple=True, metavar="HOST",
    help="A host that zip_url may name although its address is not public.",
)  # fmt: skip
@click.option(
    "--behind-proxy", is_flag=True,
    help="Requests come by a proxy on this machine: believe what it says of who asks "
    "(X-Forwarded-For, X-Forwarded-Proto).  Needs an admin key.",
)  # fmt: skip
@click.option(
    "--accel", metavar="PREFIX",
    help="That proxy, nginx, sends the files of finished jobs: PREFIX, such as /finished/, "
    "leads it to DATA/jobs.  Its group must be ours.",
)  # fmt: skip
def serve(
    data: Path,
    listen: tuple[str, int],
    models: Path,
    slots: int,
    admin_key: str | None,
    anonymous: Literal["none", "read", "submit", "admin"] | None,
    hosts: tuple[str, ...],
    allow_urls: tuple[str, ...],
    behind_proxy: bool,
    accel: str | None,
) -> None:
    """Run the primary: ledger, spool, API and pages."""
    from web import serving

    host, port = listen
    sys.exit(
        serving.serve(
            data=data.absolute(),
            host=host,
            port=port,
            models=models.absolute(),
            slots=slots,
            admin_key=admin_key,
            hosts=hosts,
            allow_urls=allow_urls,
            behind_proxy=behind_proxy,
            accel=accel,
            anonymous=anonymous,
        )
    )


_data = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The primary's data directory.",
)


@click.group()
def ledger() -> None:
    """Verify, show or export the ledger."""


@contextmanager
def _one_line() -> Iterator[None]:
    """What cannot be done is one line on stderr and exit code 1."""
    from ledger.errors import LedgerError

    try:
        yield
    except BrokenPipeError:  # whoever read our output has gone
        sys.stderr.close()
    except LedgerError as e:
        click.echo(f"Error:  {e}", err=True)
        sys.exit(1)
    except OSError as e:
        click.echo(f"Error:  {e.filename}: {e.strerror}" if e.filename else str(e), err=True)
        sys.exit(1)


@ledger.command()
@_data
def verify(data: Path) -> None:
    """Check the chain, and the hashes of the files of finished jobs."""
    from ledger import commands

    with _one_line():
        report = commands.verify(data)
        for finding in report.findings:
            click.echo(f"{finding.where}: {finding.what}", err=True)
        click.echo(f"{report.records} records, {report.files} files; head {report.head}")
        if not report.sound:
            click.echo("Error:  the ledger and its files do not hold", err=True)
            sys.exit(1)


@ledger.command()
@_data
@click.argument("job")
def show(data: Path, job: str) -> None:
    """Print the records of one job, one JSON object a line."""
    import json

    import msgspec

    from ledger import commands

    with _one_line():
        found = False
        for record in commands.show(data, job):
            found = True
            # flat, as the line in the ledger is
            members = msgspec.structs.asdict(record)
            event = msgspec.to_builtins(members.pop("event"))
            line = {"seq": members.pop("seq"), "time": members.pop("time"), **event, **members}
            click.echo(json.dumps(line))
        if not found:
            click.echo(f"Error:  the ledger has no job {job!r}", err=True)
            sys.exit(1)


@ledger.command()
@_data
def export(data: Path) -> None:
    """Print all records, one JSON object a line."""
    from ledger import commands

    with _one_line():
        for line in commands.export(data):
            click.echo(line, nl=False)


if __name__ == "__main__":
    main()
