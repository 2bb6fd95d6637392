"""The form for a new job, as a browser without scripts has it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from primary.server import Primary
from web import submitpage

RIVER = """
title = "Rain to river"
description = "Makes the flow of a river."
command = ["/bin/true"]
[input]
required = ["notes.txt"]
description = "The rain of a year."
[input.files."rain.csv"]
description = "one row a day"
columns = ["date", "rain <mm>"]
[input.files."snow.csv"]
optional = true
"""


@pytest.fixture
def models(models: Path, kit: SimpleNamespace) -> Path:
    (models / "river").mkdir()
    (models / "river" / "model.toml").write_text(RIVER)
    (models / "river" / "example.zip").write_bytes(kit.zipped(a="1"))
    return models


def text(page: str) -> str:
    """What a reader sees of a page, roughly."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def field(page: str, name: str) -> str:
    found = re.search(rf'<[^>]*\bname="{name}"[^>]*>', page)
    assert found, name
    return html.unescape(found[0])


def chosen(page: str) -> list[str]:
    return re.findall(r'<input type="radio" name="model" value="([^"]*)"[^>]* checked>', page)


def test_each_model_says_what_it_takes(browser: Any) -> None:
    page = browser.call("GET", "/jobs/submit").text
    said = text(page)
    assert "Rain to river" in said and "Makes the flow of a river." in said
    assert "rain.csv : one row a day" in said and "rain <mm>" in said
    assert "snow.csv (may be left out)" in said
    assert "notes.txt" in said
    assert 'href="/models/river/example.zip"' in page
    assert 'action="/models/river/example"' in page and 'form="example-river"' in page
    assert "/models/echo/example" not in page  # it has none


def test_the_script_is_told_all_files(primary: Primary, browser: Any) -> None:
    page = browser.call("GET", "/jobs/submit").text
    found = re.search(r'data-model="river" data-wants="([^"]*)"', page)
    assert found
    wants = {file["name"]: file for file in json.loads(html.unescape(found[1]))}
    assert set(wants) == {"rain.csv", "snow.csv", "notes.txt"}
    assert wants["rain.csv"]["columns"] == ["date", "rain <mm>"]
    assert wants["snow.csv"]["optional"] is True
    assert wants["notes.txt"] == {
        "name": "notes.txt", "description": "", "optional": False, "columns": [], "pattern": None,
    }  # fmt: skip
    assert [file.name for file in submitpage.files_of(primary.models()["river"])] == list(wants)


def test_the_address_fills_in(browser: Any) -> None:
    page = browser.call("GET", "/jobs/submit?model=strict&name=A%20%22good%22%20name").text
    assert 'value="A "good" name"' in field(page, "job_name")
    assert chosen(page) == ["strict"]
    assert chosen(browser.call("GET", "/jobs/submit?model=unknown").text) == []


def test_many_models_are_a_list(
    primary: Primary, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dict(primary.models())
    for number in range(submitpage.CARDS):
        found[f"more{number}"] = msgspec.structs.replace(found["echo"], name=f"more{number}")
    monkeypatch.setattr(Primary, "models", lambda _: found)
    page = browser.call("GET", "/jobs/submit?model=river").text
    assert '<select id="model"' in page and 'type="radio"' not in page
    assert re.search(r'<option value="river" selected', page)
    assert all(f'data-model="{name}"' in page for name in found)  # each says what it takes
    assert 'form="example-river"' in page


def test_no_models(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Primary, "models", lambda _: {})
    assert "This server has no model yet" in text(browser.call("GET", "/jobs/submit").text)


def test_the_only_model_is_chosen(primary: Primary, monkeypatch: pytest.MonkeyPatch) -> None:
    river = primary.models()["river"]
    monkeypatch.setattr(Primary, "models", lambda _: {"river": river})
    assert submitpage.context(primary, {})["chosen"] == "river"


def test_submitting(browser: Any, kit: SimpleNamespace) -> None:
    fields = {"job_name": "one", "model": "strict", "zip_url": ""}
    answer = browser.upload("/jobs", fields, kit.zipped(**{"wanted.txt": "1"}))
    assert answer.status == 303 and answer.headers["location"].startswith("/jobs/")


def test_a_refusal_is_a_table_and_the_fields_are_kept(
    browser: Any, primary: Primary, kit: SimpleNamespace
) -> None:
    fields = {"job_name": "<i>my name</i>", "model": "river", "zip_url": ""}
    bad = kit.zipped(**{"rain.csv": "Date,<b>\n", "notes.txt": "x"})
    answer = browser.upload("/jobs", fields, bad)
    assert answer.status == 400
    table = re.search(r'<table class="cards findings">.*?</table>', answer.text, re.DOTALL)
    assert table
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL)
    assert text(rows[0]) == "File Expected Found"
    assert len(rows) == 3 and all(text(row).startswith("rain.csv") for row in rows[1:])
    assert "'Date'" in text(rows[1]) and "rain <mm>" in text(rows[2])
    assert "<b>" not in answer.text and "<i>" not in answer.text
    assert 'value="<i>my name</i>"' in field(answer.text, "job_name")
    assert chosen(answer.text) == ["river"]
    assert "choose it once more" in text(answer.text)
    assert not any(primary.counts().values())


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"job_name": "", "model": "strict", "zip_url": "http://example.com/a.zip"}, "job_name"),
        ({"job_name": "x", "model": "none", "zip_url": "http://example.com/a.zip"}, "model"),
        ({"job_name": "x", "model": "strict", "zip_url": "ftp://example.com/a.zip"}, "zip_url"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    fields: dict[str, str], wrong: str, browser: Any
) -> None:
    page = browser.upload("/jobs", fields).text
    said = re.search(rf'<p class="problem" id="{wrong}-problem">([^<]*)</p>', page)
    assert said and said[1]
    assert len(re.findall(r'<p class="problem" id="[a-z_]+-problem">[^<]+</p>', page)) == 1
    assert "stands beside the field" in text(page)
    if wrong == "zip_url":
        assert '<details id="by-url" open>' in page
        assert fields["zip_url"] in field(page, "zip_url")


def test_a_missing_input_is_said(browser: Any) -> None:
    page = browser.upload("/jobs", {"job_name": "x", "model": "strict", "zip_url": ""}).text
    assert "zip_file is missing" in text(page)


def test_a_model_gone_meanwhile_is_said(browser: Any, kit: SimpleNamespace) -> None:
    answer = browser.upload("/jobs", {"job_name": "x", "model": "gone"}, kit.zipped(a="1"))
    assert answer.status == 400 and "there is no model 'gone'" in html.unescape(answer.text)
    assert chosen(answer.text) == []


def test_an_input_can_be_checked_alone(
    browser: Any, primary: Primary, kit: SimpleNamespace
) -> None:
    page = browser.call("GET", "/jobs/submit").text
    assert 'formaction="/models/strict/validate" formnovalidate' in page
    fields = {"job_name": "", "model": "strict", "zip_url": ""}
    good = browser.upload("/models/strict/validate", fields, kit.zipped(**{"wanted.txt": "1"}))
    bad = browser.upload("/models/strict/validate", fields, kit.zipped(a="1"))
    assert (good.status, bad.status) == (200, 400)
    assert not any(primary.counts().values())


def test_no_script_or_style_stands_in_the_page(browser: Any) -> None:
    page = browser.call("GET", "/jobs/submit").text
    assert " style=" not in page and not re.search(r"\son[a-z]+=", page)
    assert re.findall(r"<script(?![^>]*src=)[^>]*>", page) == []
