"""``modelrunner deploy``: hosts set up over SSH, from the keeper's machine.

Exit codes: 0 done, or nothing to do; 1 something failed, or a host could not be looked at;
2 wrong use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec

import click
import msgspec

from deploy import firewall, hosts, looking, progress, release, report, showing
from deploy.commanding import command_all
from deploy.deployment import Deployment, Plans, Sources, key_command, touched
from deploy.desired import paths_of
from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.push import Outcome
from deploy.remote import Remote
from deploy.survey import Trouble
from spool.errors import Refused, SpoolError

P = ParamSpec("P")


class Options(NamedTuple):
    """What stands before the command."""

    hosts: Path
    ssh: Path | None
    source: Path | None
    wheels: tuple[Path, ...]
    offline: bool


class Setting(NamedTuple):
    """What a command works with."""

    fleet: Fleet
    remotes: Mapping[str, Remote]
    deployment: Deployment


@click.group()
@click.option(
    "--hosts", "file", type=click.Path(path_type=Path), default=Path(hosts.FILE), metavar="FILE",
    show_default=True, help="What hosts there are, and what each shall be.",
)  # fmt: skip
@click.option(
    "--ssh", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="A folder with config, known_hosts and keys, instead of ~/.ssh.",
)  # fmt: skip
@click.option(
    "--source", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The checkout that is shipped; else the one that this program runs from.",
)  # fmt: skip
@click.option(
    "--wheels", multiple=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="A folder with wheels, to be looked in before any package index.",
)  # fmt: skip
@click.option(
    "--offline", is_flag=True,
    help="Ask no package index, neither here nor there: what is missing is refused.",
)  # fmt: skip
@click.pass_context
def deploy(
    ctx: click.Context,
    file: Path,
    ssh: Path | None,
    source: Path | None,
    wheels: tuple[Path, ...],
    offline: bool,
) -> None:
    """Set up hosts over SSH, and look after them: see README, and examples/hosts.toml.

    Begin with `plan`, which changes nothing. Hosts need Python 3.11 and sshd; what is
    installed there is built from this checkout and sent along.
    """
    ctx.obj = Options(file, ssh, source, wheels, offline)


def with_setting(
    command: Callable[Concatenate[Setting, P], int],
) -> Callable[..., None]:
    """Gives the command its setting, and exits with what it returns."""

    @wraps(command)
    def run(options: Options, /, *args: P.args, **named: P.kwargs) -> None:
        try:
            with _setting(options) as setting:
                code = command(setting, *args, **named)
        except (SpoolError, OSError) as e:
            click.echo(f"Error:  {e}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
        sys.exit(code)

    return run


@contextmanager
def _setting(options: Options) -> Iterator[Setting]:
    fleet = hosts.load(options.hosts)
    with ExitStack() as stack:
        remotes = {
            host.name: stack.enter_context(Remote(host, options.ssh)) for host in fleet.hosts
        }
        sources = Sources(
            checkout=release.source(options.source),
            cache=release.cache_folder(),
            wheels=options.wheels,
            offline=options.offline,
        )
        yield Setting(fleet, remotes, Deployment(fleet, remotes, sources))


_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_full = click.option("--full", is_flag=True, help="With the commands, and new files' texts.")


@deploy.command()
@_full
@_json
@click.pass_obj
@with_setting
def plan(setting: Setting, full: bool, as_json: bool) -> int:
    """Show what apply would do on each host, and change nothing."""
    troubles = setting.deployment.look()
    plans = {} if troubles else setting.deployment.plan()
    _show(setting, plans, troubles, full=full, as_json=as_json)
    return 1 if troubles else 0


@deploy.command()
@_yes
@click.pass_obj
@with_setting
def apply(setting: Setting, yes: bool) -> int:
    """Make all hosts what hosts.toml says. What is so already is left alone."""
    deployment = setting.deployment
    _look(setting)
    plans = deployment.plan()
    _show(setting, plans)
    if not touched(plans):
        return 0
    _ask("Do this?", yes)
    if deployment.linger():  # who keeps the services is another now
        _look(setting)
        plans = deployment.plan()
    first = deployment.found[setting.fleet.primary.name].version is None
    code = _carry_out(setting, plans)
    if code == 0 and first:
        showing.lines(showing.Line(text) for text in _welcome(setting))
    return code


@deploy.command()
@_yes
@click.pass_obj
@with_setting
def upgrade(setting: Setting, yes: bool) -> int:
    """Bring this checkout's version to all hosts; if it is not well, the old one comes back.

    Running models go on meanwhile.
    """
    _look(setting)
    plans = setting.deployment.plan_upgrade()
    _show(setting, plans)
    if not touched(plans):
        return 0
    _ask("Do this?", yes)
    return _carry_out(setting, plans)


@deploy.command()
@click.argument("name")
@_yes
@click.pass_obj
@with_setting
def model(setting: Setting, name: str, yes: bool) -> int:
    """Install or update the model NAME where it runs, with its setup script."""
    _look(setting)
    plans = setting.deployment.plan_model(name)
    _show(setting, plans)
    if not touched(plans):
        return 0
    _ask("Do this?", yes)
    return _carry_out(setting, plans)


@deploy.command()
@_yes
@click.pass_obj
@with_setting
def remove(setting: Setting, yes: bool) -> int:
    """Take it all away again, but for the data. Runs that go on are ended."""
    _look(setting)
    plans = setting.deployment.plan_removal()
    _show(setting, plans, version=None)
    if not touched(plans):
        return 0
    _ask("End all services and remove this? The data stays.", yes)
    code = _carry_out(setting, plans)
    if code == 0:
        showing.lines(showing.Line(text) for text in _data_left(setting))
    return code


@deploy.command()
@_json
@click.pass_obj
@with_setting
def status(setting: Setting, as_json: bool) -> int:
    """Show the services of all hosts, and the workers as the primary sees them."""
    troubles = setting.deployment.look()
    shown = looking.standing(setting.fleet, _seen(setting, troubles), setting.remotes)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(shown), indent=2))
    else:
        showing.table(*looking.table(shown))
        if shown.unasked:
            click.echo(f"the workers, as the primary sees them: {shown.unasked}", err=True)
    return 0 if shown.well else 1


@deploy.command()
@click.argument("names", metavar="[HOST]...", nargs=-1)
@click.option("-n", "lines", type=click.IntRange(0), default=50, show_default=True)
@click.option("-f", "follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.pass_obj
@with_setting
def logs(setting: Setting, names: tuple[str, ...], lines: int, follow: bool) -> int:
    """Show what the services of the hosts said last."""
    wanted = [host.name for host in _named(setting.fleet, names)]
    seen = _seen(setting, setting.deployment.look())
    troubles = looking.logs(
        setting.fleet, seen, setting.remotes, wanted, lines=lines, follow=follow, write=click.echo
    )
    for trouble in troubles:
        showing.lines((showing.Line(trouble.host, "bold"), *report.trouble(trouble)))
    return 1 if troubles else 0


def _verb(verb: str, text: str) -> None:
    """One of start, stop, restart."""

    @click.argument("names", metavar="[HOST]...", nargs=-1)
    @click.pass_obj
    @with_setting
    def run(setting: Setting, names: tuple[str, ...]) -> int:
        wanted = _named(setting.fleet, names)
        _look(setting)
        plans = command_all(verb, wanted, setting.deployment.found)
        return _carry_out(setting, plans)

    deploy.command(verb, help=text)(run)


_verb("start", "Start the services of HOSTs, or of all.")
_verb("stop", "Stop the services of HOSTs, or of all. Runs that go on are ended.")
_verb("restart", "Start primaries and agents of HOSTs, or of all, anew. Runs go on.")


# --- inside ------------------------------------------------------------------------


def _named(fleet: Fleet, names: Sequence[str]) -> tuple[Host, ...]:
    known = {host.name: host for host in fleet.hosts}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no host {name!r}; hosts.toml has {', '.join(known)}")
    return tuple(known[name] for name in names) if names else fleet.hosts


def _seen(setting: Setting, troubles: Sequence[Trouble]) -> dict[str, Found | Trouble]:
    """All hosts, whether they could be looked at or not."""
    return {**setting.deployment.found, **{trouble.host: trouble for trouble in troubles}}


def _look(setting: Setting) -> None:
    """Raises Refused where a host cannot be looked at: nothing is begun then."""
    troubles = setting.deployment.look()
    if troubles:
        for trouble in troubles:
            showing.lines((showing.Line(trouble.host, "bold"), *report.trouble(trouble)))
        names = ", ".join(trouble.host for trouble in troubles)
        raise Refused(f"nothing was begun: {names} cannot be looked at")


def _show(
    setting: Setting,
    plans: Plans,
    troubles: Sequence[Trouble] = (),
    *,
    version: str | None = "",
    full: bool = False,
    as_json: bool = False,
) -> None:
    deployment = setting.deployment
    seen = _seen(setting, troubles)
    to_be = deployment.version if version == "" else version
    if as_json:
        click.echo(json.dumps(report.plan_json(setting.fleet, seen, plans, to_be), indent=2))
    else:
        showing.lines(report.plan(setting.fleet, seen, plans, to_be, full=full))
        if to_be is not None:
            showing.lines(showing.Line(f"note: {text}") for text in deployment.notes())


def _ask(question: str, yes: bool) -> None:
    """Raises Refused where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused("nothing was changed: there is nobody to ask here", "--yes does not ask")
    if not click.confirm(question):
        raise Refused("nothing was changed")


def _carry_out(setting: Setting, plans: Plans) -> int:
    deployment = setting.deployment
    deployment.prepare(plans, lambda text: click.echo(text, err=True))
    with progress.shown(touched(plans)) as news:
        ended = deployment.carry_out(plans, news)
    showing.lines(report.outcome(ended))
    if ended.whole:
        return 0
    if not ended.interrupted:
        _back(setting, plans, ended)
    return 1


def _back(setting: Setting, plans: Plans, ended: Outcome) -> None:
    """Whoever has another version by now gets the old one again."""
    with progress.shown(touched(plans)) as news:
        again = setting.deployment.back(plans, ended, news)
    if again is not None:
        showing.lines((showing.Line("back to the version before, on all hosts:", "bold"),))
        showing.lines(report.outcome(again))


def _data_left(setting: Setting) -> Iterator[str]:
    for name, here in setting.deployment.found.items():
        yield f"{name}: {paths_of(here).var} is left; apply takes it up again"


def _welcome(setting: Setting) -> Iterator[str]:
    """What a keeper needs to know once it runs."""
    here = setting.deployment.found[setting.fleet.primary.name]
    host = setting.fleet.primary
    role = host.primary
    assert role is not None
    names = (*role.names, host.address)
    scheme = "https" if role.nginx and role.tls else "http"
    place = names[0] if role.nginx else role.listen
    yield ""
    yield f"The pages: {scheme}://{place}/"
    yield f"The admin key, for Sign in; on {host.name}: {key_command(here)}"
    yield ""
    yield from firewall.lines(setting.fleet, here.port)
