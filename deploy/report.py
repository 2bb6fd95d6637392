"""What a deployment would do, and what it did, in words. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.push import Outcome, StepFailed
from deploy.remote import shown
from deploy.showing import Line
from deploy.steps import HostPlan, Put, Step
from deploy.survey import Trouble

NOTHING = "nothing to do: all hosts are as hosts.toml says"
MOST = 60  # lines of one file's diff, where not everything is wanted

_STYLES = {"+": "green", "-": "red", "~": "yellow", "@": "cyan"}

Look = Mapping[str, Found | Trouble]


# --- a plan ------------------------------------------------------------------------


def plan(
    fleet: Fleet,
    found: Look,
    plans: Mapping[str, HostPlan],
    version: str | None,
    *,
    full: bool = False,
) -> Iterator[Line]:
    """The plans as a difference to what was found.

    ``version`` is the one to be, None: none, for a removal. ``full``: with the commands, and with
    the whole text of files that are new.
    """
    for host in fleet.hosts:
        here = found.get(host.name)
        yield Line(_heading(host, here, version), "bold")
        if isinstance(here, Trouble):
            yield from trouble(here)
        elif (its := plans.get(host.name)) is not None:
            yield from _host(its, full=full)
        if isinstance(here, Found):
            yield from (Line(f"    problem: {text}", "bold red") for text in here.problems)
            yield from (Line(f"    note: {text}", "dim") for text in here.notes)
        yield Line("")
    yield Line(totals(fleet, found, plans), "bold")


def totals(fleet: Fleet, found: Look, plans: Mapping[str, HostPlan]) -> str:
    """One line: how much there is to do, and where nothing can be."""
    off = [host.name for host in fleet.hosts if not _is_plain(found.get(host.name))]
    busy = [its for its in plans.values() if its.steps]
    steps = sum(len(its.steps) for its in busy)
    if not off and not busy:
        return NOTHING
    said = [f"{_count(steps, 'step')} on {_count(len(busy), 'host')}" if busy else "no steps"]
    if idle := len(fleet.hosts) - len(busy) - len(off):
        are = "is as it should be" if idle == 1 else "are as they should be"
        said.append(f"{_count(idle, 'host')} {are}")
    if off:
        said.append(f"cannot be planned: {', '.join(off)}")
    return "; ".join(said)


def trouble(here: Trouble) -> Iterator[Line]:
    """A host that could not be looked at."""
    yield Line(f"    {here.what.removeprefix(f'{here.host}: ')}", "bold red")
    if here.hint:
        yield Line(f"    what to do: {here.hint}")


def plan_json(
    fleet: Fleet, found: Look, plans: Mapping[str, HostPlan], version: str | None
) -> dict[str, Any]:
    """The same for programs; no secrets, and no commands, which change from release to release."""
    hosts = []
    for host in fleet.hosts:
        here, its = found.get(host.name), plans.get(host.name, HostPlan(host=host.name))
        hosts.append(
            {
                "name": host.name,
                "address": host.shown,
                "error": here.what if isinstance(here, Trouble) else None,
                "system": here.system if isinstance(here, Found) else None,
                "root": here.root if isinstance(here, Found) else None,
                "version": here.version if isinstance(here, Found) else None,
                "problems": list(here.problems) if isinstance(here, Found) else [],
                "notes": [*its.notes, *(here.notes if isinstance(here, Found) else ())],
                "steps": [
                    {
                        "phase": step.phase.name.lower(),
                        "mark": mark(step),
                        "sentence": step.sentence,
                        "path": step.put.path if step.put is not None else None,
                        "diff": list(_diff(step)),
                    }
                    for step in sorted(its.steps, key=lambda step: step.phase)
                ],
            }
        )
    changes = any(its.steps for its in plans.values())
    return {"version": version, "changes": changes, "hosts": hosts}


def mark(step: Step) -> str:
    """+ made, ~ changed, - taken away."""
    if step.mark:
        return step.mark
    return "~" if step.put is not None and step.before is not None else "+"


def _heading(host: Host, here: Found | Trouble | None, version: str | None) -> str:
    words = [host.name, host.shown]
    if isinstance(here, Found):
        words.append(f"{here.system} {here.machine}, Python {here.python_version}")
        words.append("with root" if here.root else f"without root, as {here.user}")
        before, after = here.version or "nothing", version or "nothing"
        words.append(f"version {after}" if before == after else f"{before} -> {after}")
    return "  ".join(words)


def _host(its: HostPlan, *, full: bool) -> Iterator[Line]:
    steps = sorted(its.steps, key=lambda step: step.phase)
    wide = len(str(len(steps)))
    for number, step in enumerate(steps, 1):
        yield Line(f"  {number:>{wide}} {mark(step)} {step.sentence}", _STYLES[mark(step)])
        yield from _file(step, full=full)
        if full:
            yield from (Line(f"        $ {shown(command)}", "dim") for command in step.commands)
    if its.same:
        yield Line(f"    as it should be: {', '.join(its.same)}", "dim")
    elif not steps:
        yield Line("    as it should be", "dim")
    yield from (Line(f"    note: {text}", "dim") for text in its.notes)


def _file(step: Step, *, full: bool) -> Iterator[Line]:
    """What becomes of the step's file."""
    put = step.put
    if put is None:
        return
    yield Line(f"        {_kind(put, step.before)}", "dim")
    if step.before is None and not full:
        return
    differing = list(_diff(step))
    for text in differing if full else differing[:MOST]:
        yield Line(f"        {text}", _STYLES.get(text[:1], ""))
    if len(differing) > MOST and not full:
        yield Line(f"        … {len(differing) - MOST} more lines", "dim")


def _kind(put: Put, before: str | None) -> str:
    rights = f"{put.mode:04o}{f' {put.owner}' if put.owner else ''}"
    if put.secret:
        return f"{rights}, secret: not shown"
    if before is None:
        return f"{rights}, new, {_count(len(put.text.splitlines()), 'line')}"
    return f"{rights}, the same text" if before == put.text else rights


def _diff(step: Step) -> Iterator[str]:
    """Without the two lines of names; nothing of secrets."""
    if step.put is None or step.put.secret:
        return
    before, after = (step.before or "").splitlines(), step.put.text.splitlines()
    found = difflib.unified_diff(before, after, lineterm="", n=2)
    yield from (text for number, text in enumerate(found) if number >= 2)


# --- what was done -----------------------------------------------------------------


def outcome(ended: Outcome) -> Iterator[Line]:
    """What is done, what failed and why, what is left, and what to do."""
    for failed in ended.failed:
        yield from failure(failed)
        yield from _rest(failed.host, ended)
        yield Line("")
    others = [host for host in ended.missing if host not in {f.host for f in ended.failed}]
    waiting = [host for host in others if ended.missing[host]]
    for host in waiting:
        done = len(ended.done.get(host, ()))
        yield Line(f"{host}: stopped after {_count(done, 'step')}", "yellow")
        yield from _missing(ended.missing[host])
    steps = sum(len(done) for done in ended.done.values())
    if ended.whole:
        yield Line(f"done: {_count(steps, 'step')} on {_count(len(ended.done), 'host')}", "bold")
        return
    why = "broken off" if ended.interrupted else "failed"
    hosts = ", ".join(failed.host for failed in ended.failed)
    yield Line(f"{why}{f' on {hosts}' if hosts else ''}: {_count(steps, 'step')} done", "bold red")
    yield Line(
        "the same command goes on with what is missing; what is done already is left out then"
    )


def failure(failed: StepFailed) -> Iterator[Line]:
    """One step that did not come true."""
    yield Line(f"{failed.host}: FAILED: {failed.sentence}", "bold red")
    yield Line(f"    {failed.what.removeprefix(f'{failed.host}: ')}")
    if failed.command:
        yield Line(f"    command: {failed.command}", "dim")
    if failed.output:
        yield Line("    the last that it printed:", "dim")
    yield from (Line(f"    | {text}") for text in failed.output)
    if failed.hint:
        yield Line(f"    what to do: {failed.hint}", "bold")
    if failed.left:
        yield Line(f"    {failed.left}")


def _rest(host: str, ended: Outcome) -> Iterator[Line]:
    done = len(ended.done.get(host, ()))
    yield Line(f"    {_count(done, 'step')} of this host {'was' if done == 1 else 'were'} done")
    yield from _missing(ended.missing.get(host, ())[1:])


def _missing(sentences: tuple[str, ...]) -> Iterator[Line]:
    if sentences:
        yield Line("    not done:", "dim")
        yield from (Line(f"      {sentence}", "dim") for sentence in sentences)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _is_plain(here: Found | Trouble | None) -> bool:
    return isinstance(here, Found)
