"""The step that writes a file, if it is not so already. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.found import Entry
from deploy.steps import Command, Phase, Put, Step


def is_so(put: Put, entry: Entry | None) -> bool:
    """Whether what was found is that file; ``secret`` texts are not read, and count as equal."""
    return (
        entry is not None
        and entry.kind == "file"
        and (put.secret or entry.text == put.text)
        and entry.mode == put.mode
        and (not put.owner or entry.owner == put.owner)
    )


def written(
    put: Put,
    entry: Entry | None,
    *,
    phase: Phase = Phase.PREPARE,
    after: tuple[Command, ...] = (),
) -> Iterator[Step]:
    """One step, or none. ``after``: what has to be done once it lies there; if that fails, what
    lay there before is put back."""
    if not is_so(put, entry):
        yield Step(
            phase=phase,
            sentence=f"{put.path} written",
            put=put,
            before=entry.text if entry is not None else None,
            commands=after,
        )
