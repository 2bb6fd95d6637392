"""The models page: what each takes and gives, and whether a job would run now."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from primary.nodes import Node
from spool.inputfiles import InputFile
from web import modelspage

FULL = """
title = "Grid & more"
description = "Solves <a grid>."
command = ["/bin/true"]
timeout = 5400
contact = "Ada <ada@example.org>"

[input]
description = "Two files."

[input.files."grid.csv"]
description = "one line for each node"
columns = ["node", "load"]

[input.files."notes <b>.txt"]
optional = true

[output]
description = "solution.csv: what each node does."
"""


@pytest.fixture
def offered(models: Path, primary: Any, kit: Any) -> Any:
    """Adds a model with all that can be said of one, and an example."""
    (models / "grid").mkdir()
    (models / "grid" / "model.toml").write_text(FULL)
    (models / "grid" / "example.zip").write_bytes(kit.zipped(**{"grid.csv": "node,load\n1,2\n"}))
    primary.tick(0.0)


@pytest.mark.usefixtures("offered")
def test_a_card_says_what_it_takes_and_gives(browser: Any) -> None:
    page = browser.get("/models").text
    card = page[page.index('<section class="card offer" id="grid"') :].partition("</section>")[0]
    for text in (
        *("Grid &amp; more", "Solves &lt;a grid&gt;.", "Two files."),
        *("grid.csv", "one line for each node; its first line must name node, load"),
        *("notes &lt;b&gt;.txt", "(optional)", "solution.csv: what each node does."),
        "Whom to ask about it: <bdi>Ada &lt;ada@example.org&gt;</bdi>.",
        *("It may run for 1 h 30 min.", "Run the example", "Download the example"),
        'href="/models/grid/example.zip"',
        'action="/models/grid/example"',
        'action="/models/grid/validate"',
        'href="/jobs/submit?model=grid"',
        'href="/jobs?model=grid"',
    ):
        assert text in card, text
    assert card.count("(optional)") == 1
    assert page.count("Run the example") == 1  # the others have none


@pytest.mark.usefixtures("offered")
def test_the_example_can_be_taken_and_run(browser: Any) -> None:
    assert browser.get("/models/grid/example.zip").body[:2] == b"PK"
    answer = browser.post("/models/grid/example", sec_fetch_site="same-origin")
    assert answer.status == 303
    assert "Example of Grid &amp; more" in browser.get(answer.headers["location"]).text


@pytest.mark.usefixtures("offered")
def test_a_bad_input_is_explained_file_by_file(browser: Any, kit: Any) -> None:
    bad = kit.zipped(**{"grid.csv": "node,weight\n1,2\n"})
    answer = browser.upload("/models/grid/validate", {}, bad)
    assert answer.status == 400
    page = answer.text
    assert 'role="alert"' in page and '<th scope="col">Expected</th>' in page
    row = page[page.index('<td class="text head" data-label="File">') :].partition("</tr>")[0]
    assert "grid.csv" in row and "load" in row
    assert '<details class="check" open>' in page


@pytest.mark.usefixtures("offered")
def test_a_good_input_leads_to_the_form(browser: Any, kit: Any) -> None:
    good = kit.zipped(**{"grid.csv": "node,load\n1,2\n"})
    page = browser.upload("/models/grid/validate", {}, good).text
    assert 'role="status"' in page and "The input is good for model grid" in page


def test_many_models_are_listed_by_title_above_them(
    browser: Any, models: Path, primary: Any
) -> None:
    assert "card index" not in browser.get("/models").text
    numbers = [*range(1, modelspage.INDEX_FROM), 9, 10]
    for number in reversed(numbers):
        (models / f"m{number}").mkdir()
        about = f'title = "basin {number}"\ncommand = ["true"]\n'
        (models / f"m{number}" / "model.toml").write_text(about)
    primary.tick(0.0)
    page = browser.get("/models").text
    by_title = [*(f"m{number}" for number in numbers), "echo", "strict"]
    assert re.findall(r'<li><a href="#([a-z0-9]+)"', page) == by_title
    assert re.findall(r'<section class="card offer" id="([a-z0-9]+)"', page) == by_title


def test_without_a_model_the_keeper_is_told_what_to_do(
    browser: Any, models: Path, primary: Any
) -> None:
    for folder in list(models.iterdir()):
        shutil.rmtree(folder)
    (models / "bad").mkdir()
    (models / "bad" / "model.toml").write_text("titel = 'x'")
    primary.tick(0.0)
    page = browser.get("/models").text
    assert "No model yet" in page and "model.toml" in page
    assert "bad is not offered" in page and "did you mean &#039;title&#039;" in page


# --- whether a job would run now


def worker(**facts: Any) -> Node:
    given: dict[str, Any] = {"name": "w", "node_url": "", "node_type": "WORKER"}
    given |= {"status": "WAITING", "liveness": "alive", "models": {"m": "1"}}
    return Node(**(given | facts))


NONE = "no worker has this model now"


@pytest.mark.parametrize(
    ("workers", "running", "waiting", "state", "word"),
    [
        ([], 0, 0, "UNREACHABLE", NONE),
        ([], 0, 3, "UNREACHABLE", NONE),
        ([worker(models={"other": "1"})], 0, 0, "UNREACHABLE", NONE),
        ([worker(liveness="unreachable")], 0, 0, "UNREACHABLE", NONE),
        ([worker(liveness="stopped")], 0, 0, "UNREACHABLE", NONE),
        ([worker()], 0, 0, "READY", "ready"),
        ([worker(), worker(paused="no room")], 0, 0, "READY", "ready"),
        ([worker(paused="no room")], 0, 2, "PAUSED", "paused"),
        ([worker()], 3, 0, "BUSY", "busy: 3 running"),
        ([worker()], 3, 1200, "BUSY", "busy: 3 running, 1,200 waiting"),
        ([worker()], 0, 1, "BUSY", "busy: 1 waiting"),
    ],
)
def test_readiness(workers: list[Node], running: int, waiting: int, state: str, word: str) -> None:
    found = modelspage.readiness("m", workers, running, waiting)
    assert found[:2] == (state, word)
    assert bool(found[2]) == (state in ("UNREACHABLE", "PAUSED"))


def test_who_waits_is_counted() -> None:
    assert modelspage.readiness("m", [], 0, 1)[2] == "1 job waits for one."
    assert modelspage.readiness("m", [], 0, 2)[2] == "2 jobs wait for one."


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (InputFile(name="a"), ""),
        (InputFile(name="a", description="a table"), "a table"),
        (InputFile(name="a", columns=("x", "y")), "its first line must name x, y"),
        (InputFile(name="a", pattern="[0-9]+"), "its text must match [0-9]+"),
        (InputFile(name="a", pattern="[0-9]+", description="a number"), "a number"),
    ],
)
def test_what_a_file_must_be(file: InputFile, said: str) -> None:
    assert modelspage.expected(file) == said
