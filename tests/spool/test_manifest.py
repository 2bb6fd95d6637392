"""model.toml: what it may say, and what a typo is answered with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from spool.errors import BadModel
from spool.inputfiles import InputFile
from spool.manifest import Model, load, load_all
from spool.modelkeys import KEYS, NAME

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

[input.files."data/table.csv"]
columns = ["a", "grün b"]
optional = false

[input.files.count]
description = "a whole number "
pattern = '[0-9]+'

[input.files."notes.txt"]
optional = true

[output]
description = "A solution"
"""
LEAST = 'command = ["python3", "-V"]\n'
FILE = LEAST + '[input.files."a.csv"]\n'

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
        required=("problem.lp", "data/table.csv", "count"),
        files=(
            InputFile(name="problem.lp"),
            InputFile(name="data/table.csv", columns=("a", "grün b")),
            InputFile(name="count", description="a whole number", pattern="[0-9]+"),
            InputFile(name="notes.txt", optional=True),
        ),
        input_description="A problem",
        output_description="A solution",
        version=model.version,
    )


def test_defaults_and_the_version_of_the_bytes(make: Make) -> None:
    model = load(make(LEAST))
    assert (model.title, model.command) == ("a_model", ("python3", "-V"))
    assert (model.timeout, model.grace, model.lease, model.attempts) == (None, 5.0, 900.0, 3)
    assert load(make(LEAST, "b")).version == model.version
    assert load(make(LEAST + "# changed", "c")).version != model.version


def test_a_described_file_is_required_unless_it_is_optional(make: Make) -> None:
    model = load(make(LEAST + "[input.files.a]\n[input.files.b]\noptional = true\n"))
    assert model.required == ("a",)
    assert model.files == (InputFile(name="a"), InputFile(name="b", optional=True))


def test_the_example_in_the_documents_is_a_good_one(make: Make) -> None:
    text = (MODELS / "README.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    model = load(make(LEAST + example))
    assert model.required == ("climate.csv", "years")
    assert model.output_description


def test_a_linked_folder_has_its_own_name(make: Make, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(make(LEAST))
    assert load(tmp_path / "other").name == "other"


WRONG = {
    "typo": (LEAST + "timeuot = 3", "timeuot", "unknown key (line 2); did you mean 'timeout'?"),
    "no idea": (LEAST + "xyzzy = 3", "xyzzy", "expected one of title, description, contact, "),
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
    "output no table": (LEAST + "output = 3", "output", "a table [output], not 3 (line 2)"),
    "typo of the output": (
        LEAST + "[output]\ndescripton = ''", "output.descripton",
        "unknown key (line 3); did you mean 'description'?",
    ),
    "files no table": (
        LEAST + "[input]\nfiles = ['a']", "input.files",
        "expected tables such as [input.files.\"data.csv\"], not ['a'] (line 3)",
    ),
    "files as an array": (
        LEAST + "[[input.files]]\nname = 'a'", "input.files", "(line 2)",
    ),
    "a file no table": (
        LEAST + "[input.files]\n'a.csv' = 'x'", 'input.files."a.csv"',
        "expected a table [input.files.\"a.csv\"], not 'x' (line 3)",
    ),
    "a name without its quotes": (
        FILE + "[input.files.b.csv]\noptional = true", "input.files.b.csv",
        "unknown key (line 3); if that is one name, put it in quotes: [input.files.\"b.csv\"]",
    ),
    "a file outside": (LEAST + "[input.files.'../a']", 'input.files."../a"', "(line 2)"),
    "typo of a file's": (
        FILE + "colums = ['a']", 'input.files."a.csv".colums',
        "unknown key (line 3); did you mean 'columns'?",
    ),
    "a file's key too high": (
        LEAST + "[input]\npattern = 'a'", "input.pattern",
        "did you mean 'pattern' in [input.files.\"NAME\"]?",
    ),
    "a model's key too low": (
        FILE + "timeout = 3", 'input.files."a.csv".timeout', "'timeout' above the first table?",
    ),
    "no idea of a file": (
        FILE + "xyzzy = 3", 'input.files."a.csv".xyzzy',
        "expected one of description, optional, columns, pattern",
    ),
    "the right one of two files": (
        FILE + "optional = true\n[input.files.b] # not a\noptional = 1", "input.files.b.optional",
        "expected true or false, not 1 (line 5)",
    ),
    "inline": (
        LEAST + "[input]\nfiles = {b = {columns = []}}", "input.files.b.columns",
        "expected a list of names of columns, not [] (line 3)",
    ),
    "dotted": (
        LEAST + "input.files.b.pattern = 3", "input.files.b.pattern", "not 3 (line 2)",
    ),
    "columns as text": (FILE + "columns = 'a,b'", 'input.files."a.csv".columns', "list of names"),
    "a column with blanks": (FILE + "columns = [' a']", 'input.files."a.csv".columns', "' a' can"),
    "a column twice": (FILE + "columns = ['a', 'a']", 'input.files."a.csv".columns', "there twice"),
    "a column in two lines": (
        FILE + 'columns = ["a\\nb"]', 'input.files."a.csv".columns', r"'a\nb' cannot name a column",
    ),
    "no expression": (
        FILE + "pattern = '[0-9'", 'input.files."a.csv".pattern',
        "expected a regular expression, such as '[0-9]+', not '[0-9' (line 3): "
        "Python's re module says: unterminated character set at position 0",
    ),
    "an expression too large": (
        FILE + "pattern = 'a{99999999999999}'", 'input.files."a.csv".pattern', "re module says",
    ),
    "an expression too long": (
        FILE + f"pattern = '{'a' * 5000}'", 'input.files."a.csv".pattern', "at most 4096",
    ),
    "an empty expression": (FILE + "pattern = ''", 'input.files."a.csv".pattern', "regular expr"),
    "required and optional": (
        LEAST + "[input]\nrequired = ['a']\n[input.files.a]\noptional = true",
        "input.files.a.optional", "'a' is optional here, and required in [input] (line 5)",
    ),
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
    rows = re.findall(r"^\| `([a-zNAME.]+)` \| (.*?) \| (.*?) \| .*\|$", text, re.MULTILINE)
    return {key: (expected.replace("`", ""), default) for key, expected, default in rows}


def test_the_documented_keys_are_the_codes() -> None:
    documented = {key: expected for key, (expected, _) in table().items() if key in KEYS}
    assert documented == {key: known.expected for key, known in KEYS.items()}


def test_the_documented_defaults_are_the_codes(make: Make) -> None:
    model = load(make(LEAST))
    words = {
        "the folder's name": model.name, "empty": "", "`[]`": (), '`"never"`': None,
        "false": False, "(none)": None,
    }  # fmt: skip
    for key, (_, default) in table().items():
        if key in KEYS and key != "command":
            owner = InputFile(name="a") if NAME in key else model
            value = getattr(owner, KEYS[key].field)
            said = words[default] if default in words else float(default)
            assert value == said or (key == "env" and value == {}), key


def test_the_models_that_ship_are_good() -> None:
    models, errors = load_all(MODELS)
    assert errors == {}
    assert {"test", "test_2", "glpsol", "spring"} <= set(models)
    for model in models.values():
        assert model.title and model.description
        assert model.input_description and model.output_description
        assert all(file.description for file in model.files)
        assert f"| `{model.name}` |" in (MODELS / "README.md").read_text()
