"""model.toml: what it may say, and what a typo is answered with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from spool.errors import BadModel
from spool.manifest import KEYS, Model, load, load_all

MODELS = Path(__file__).parents[2] / "models"
FULL = """
title = "A model"
description = "What it does"
command = ["./run.sh", "--fast"]
parallel = 2
timeout = 60
grace = 0
lease = "never"
attempts = 5

[env]
LIMIT = "10"

[input]
required = ["problem.lp", "data/table.csv"]
description = "A problem"
"""
LEAST = 'command = ["python3", "-V"]\n'

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(text: str | bytes, name: str = "a_model") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        data = text.encode() if isinstance(text, str) else text
        (folder / "model.toml").write_bytes(data)
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o755)
        return folder

    return make


def test_all_keys(make: Make) -> None:
    folder = make(FULL)
    model = load(folder)
    assert len(model.version) == 12
    assert model == Model(
        name="a_model",
        title="A model",
        description="What it does",
        command=(str(folder / "run.sh"), "--fast"),
        folder=folder,
        parallel=2,
        env={"LIMIT": "10"},
        timeout=60.0,
        grace=0.0,
        lease=None,
        attempts=5,
        required=("problem.lp", "data/table.csv"),
        input_description="A problem",
        version=model.version,
    )


def test_defaults_and_the_version_of_the_bytes(make: Make) -> None:
    model = load(make(LEAST))
    assert (model.title, model.command) == ("a_model", ("python3", "-V"))
    assert (model.timeout, model.grace, model.lease, model.attempts) == (None, 5.0, 900.0, 3)
    assert load(make(LEAST, "b")).version == model.version
    assert load(make(LEAST + "# changed", "c")).version != model.version


def test_a_linked_folder_has_its_own_name(make: Make, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(make(LEAST))
    assert load(tmp_path / "other").name == "other"


WRONG = {
    "typo": (LEAST + "timeuot = 3", "timeuot", "unknown key (line 2); did you mean 'timeout'?"),
    "no idea": (LEAST + "xyzzy = 3", "xyzzy", "expected one of title, description, command"),
    "typo in a table": (
        LEAST + '[input]\n\nrequird = ["a"]', "input.requird",
        "unknown key (line 4); did you mean 'required'?",
    ),
    "wrong table": (LEAST + "[input]\ntimeout = 3", "input.timeout", "above the first table"),
    "should be in a table": (LEAST + "required = []", "required", "'required' in [input]?"),
    "unknown table": (LEAST + "[enviroment]\nA = 'b'", "enviroment", "line 2"),
    "no command": ("title = 'x'", "command", "missing; expected a list of strings"),
    "shell string": ('command = "./run.sh -x"', "command", "expected a list of strings"),
    "empty command": ("command = []", "command", "expected a list"),
    "empty program": ("command = ['']", "command", "is empty"),
    "number in command": ("command = ['a', 1]", "command", "expected a list of strings"),
    "no such program": ("command = ['./walk.sh']", "command", "there is no file './walk.sh'"),
    "not executable": ("command = ['./model.toml']", "command", "not executable (chmod +x"),
    "text for a number": (LEAST + "parallel = '2'", "parallel", "whole number from 1 to 1000"),
    "none at once": (LEAST + "parallel = 0", "parallel", "not 0 (line 2)"),
    "half": (LEAST + "attempts = 1.5", "attempts", "whole number from 1 to 100"),
    "truth": (LEAST + "attempts = true", "attempts", "whole number"),
    "truth for seconds": (LEAST + "timeout = true", "timeout", "a number of seconds"),
    "negative": (LEAST + "timeout = -1", "timeout", 'at least 0.1, or "never"'),
    "no timeout": (LEAST + "timeout = 0", "timeout", "at least 0.1"),
    "infinite": (LEAST + "timeout = inf", "timeout", "at least 0.1"),
    "no number": (LEAST + "lease = nan", "lease", "at least 0.1"),
    "other word": (LEAST + "lease = 'forever'", "lease", '"never"'),
    "never for grace": (LEAST + "grace = 'never'", "grace", "a number of seconds, at least 0"),
    "title": (LEAST + "title = 3", "title", "expected a string, not 3"),
    "env number": (LEAST + "[env]\nA = 3", "env", "A needs a string in quotes"),
    "env name": (LEAST + "[env]\n'A-B' = '3'", "env", "'A-B' cannot name"),
    "env taken": (LEAST + "[env]\nMODELRUNNER_X = '3'", "env", "set by Model Runner itself"),
    "env no table": (LEAST + "env = 3", "env", "expected a table [env]"),
    "input no table": (LEAST + "input = 3", "input", "expected a table [input]"),
    "required text": (LEAST + "[input]\nrequired = 'a'", "input.required", "list of file names"),
    "required outside": (LEAST + "[input]\nrequired = ['../a']", "input.required", "'../a' is no"),
    "required folder": (LEAST + "[input]\nrequired = ['a/']", "input.required", "'a/' is no"),
    "no toml": ("command = [", "", "not valid TOML"),
    "twice": (LEAST + LEAST, "", "line 2"),
    "no utf-8": (b"title = '\xff'", "", "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str, make: Make) -> None:
    text, key, said = WRONG[case]
    folder = make(text)
    with pytest.raises(BadModel) as refused:
        load(folder)
    assert refused.value.file == str(folder / "model.toml")
    assert refused.value.key == key
    assert said in refused.value.expected
    assert str(refused.value).startswith(str(folder / "model.toml"))


def test_folder_names(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="'My Model': expected 1 to 64 of a-z"):
        load(make(LEAST, "My Model"))
    with pytest.raises(BadModel, match="cannot be read: No such file"):
        load(tmp_path / "nowhere")


def test_load_all(make: Make, tmp_path: Path) -> None:
    make(LEAST, "good")
    make("command = 3", "bad")
    make("command = 3", ".hidden")
    (tmp_path / "no_model").mkdir()
    (tmp_path / "README.md").touch()
    models, errors = load_all(tmp_path)
    assert set(models) == {"good"}
    assert set(errors) == {"bad"}
    assert "command" in errors["bad"]


def test_no_folder_of_models(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="nowhere: the folder of models cannot be read"):
        load_all(tmp_path / "nowhere")


def table() -> dict[str, tuple[str, str]]:
    """The documented keys: what is expected, and the default."""
    text = (MODELS / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z.]+)` \| (.*?) \| (.*?) \| .*\|$", text, re.MULTILINE)
    return {key: (expected.replace("`", ""), default) for key, expected, default in rows}


def test_the_documented_keys_are_the_codes() -> None:
    documented = {key: expected for key, (expected, _) in table().items() if key in KEYS}
    assert documented == {key: known.expected for key, known in KEYS.items()}


def test_the_documented_defaults_are_the_codes(make: Make) -> None:
    model = load(make(LEAST))
    words = {
        "the folder's name": model.name, "empty": "", "`[]`": (), '`"never"`': None,
    }  # fmt: skip
    for key, (_, default) in table().items():
        if key in KEYS and key != "command":
            value = getattr(model, KEYS[key].field)
            said = words[default] if default in words else float(default)
            assert value == said or (key == "env" and value == {}), key


def test_the_models_that_ship_are_good() -> None:
    models, errors = load_all(MODELS)
    assert errors == {}
    assert {"test", "test_2", "glpsol"} <= set(models)
    for model in models.values():
        assert model.title and model.description and model.input_description
        assert f"| `{model.name}` |" in (MODELS / "README.md").read_text()
