"""What the form for a new job shows."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from primary.server import Primary
from spool.inputfiles import InputFile
from spool.manifest import Model
from web import words
from web.problems import Problem

CARDS = 6  # models that are shown side by side; more are a list to choose from

# Fields that have a place of their own for what is wrong with them. All else about an
# input is said above the findings.
_FIELDS = ("job_name", "model", "zip_url")


class Choice(NamedTuple):
    """A model as the form offers it: ``files`` of its input, and whether it has an example.

    ``wants`` is ``files`` as JSON, for the look that the page's script takes at the input.
    """

    model: Model
    files: tuple[InputFile, ...]
    example: bool
    wants: str


def context(
    primary: Primary, fields: dict[str, str], problem: Problem | None = None
) -> dict[str, object]:
    """The values of ``views/submit.html``: what was filled in, and what was wrong with it."""
    models = sorted(primary.models().values(), key=lambda model: words.order(model.title))
    choices = [_choice(primary, model) for model in models]
    names = [choice.model.name for choice in choices]
    chosen = fields.get("model", "")
    if chosen not in names:
        chosen = names[0] if len(names) == 1 else ""
    at = problem.field if problem and problem.field in _FIELDS else None
    return {
        "fields": fields,
        "problem": problem,
        "wrong": {at: problem.detail} if problem and at else {},
        "choices": choices,
        "cards": len(choices) <= CARDS,
        "chosen": chosen,
    }


def _choice(primary: Primary, model: Model) -> Choice:
    files = files_of(model)
    wants = msgspec.json.encode(files).decode()
    return Choice(model, files, primary.has_example(model.name), wants)


def files_of(model: Model) -> tuple[InputFile, ...]:
    """All files that the model names: those it describes, then those it only asks for."""
    described = {file.name for file in model.files}
    bare = (InputFile(name=name) for name in model.required if name not in described)
    return (*model.files, *bare)
