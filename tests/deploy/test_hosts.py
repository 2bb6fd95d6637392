"""What hosts.toml may say, and how each mistake in it is told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from deploy import hostkeys
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.hosts import load
from spool.errors import Refused

ROOT = Path(__file__).resolve().parent.parent.parent

# What each mistake is made in; alpha and beta stand in lines 1 to 7.
WHOLE = """\
[hosts.alpha]
address = "10.0.0.1"
[hosts.alpha.primary]
names = ["models.example.org"]
[hosts.beta]
address = "10.0.0.2"
[hosts.beta.worker]
"""


def write(folder: Path, text: str, models: tuple[str, ...] = ("test", "other")) -> Path:
    for name in models:
        home = folder / "models" / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "model.toml").write_text('command = ["true"]\n')
    file = folder / "hosts.toml"
    file.write_text(text)
    return file


def refused(folder: Path, text: str) -> str:
    with pytest.raises(Refused) as e:
        load(write(folder, text))
    return str(e.value)


# --- what holds --------------------------------------------------------------------


def test_a_fleet_with_every_key(tmp_path: Path) -> None:
    text = """
    models = "models"
    [hosts.alpha]
    address = "10.0.0.1"
    user = "keeper"
    port = 2222
    sudo = true
    reach = "fe80::1"
    reach_port = 22
    primary = { listen = "[::1]:8080", names = ["a.example.org", "10.0.0.1"], nginx = true }
    worker = { models = ["test"], slots = 2, name = "near" }
    [hosts.beta.worker]
    """
    fleet = load(write(tmp_path, text))
    alpha = Host(
        name="alpha",
        address="10.0.0.1",
        user="keeper",
        port=2222,
        sudo=True,
        reach="fe80::1",
        reach_port=22,
        primary=Primary(listen="[::1]:8080", names=("a.example.org", "10.0.0.1"), nginx=True),
        worker=Worker(models=("test",), slots=2, name="near"),
    )
    beta = Host(name="beta", address="beta", worker=Worker())
    assert fleet == Fleet(hosts=(alpha, beta), models=tmp_path / "models", names=("other", "test"))


def test_models_that_no_worker_runs_are_no_part_of_it(tmp_path: Path) -> None:
    file = write(tmp_path, WHOLE + 'models = ["test"]\n')
    (tmp_path / "models/other/model.toml").write_text("broken")
    assert load(file).names == ("test",)


def test_the_example_loads_and_shows_every_key() -> None:
    file = ROOT / "examples" / "hosts.toml"
    fleet = load(file)
    assert [host.name for host in fleet.hosts] == ["alpha", "beta", "gamma"]
    # with what stands there commented it must hold as well
    text = re.sub(r"^# (?=[a-z_]+ = )", "", file.read_text(), flags=re.M)
    whole = tomllib.loads(text)
    hosts = whole["hosts"].values()
    assert whole.keys() == hostkeys.FLEET.keys()
    assert {key for host in hosts for key in host} == hostkeys.HOST.keys()
    assert {key for host in hosts for key in host.get("primary", ())} == hostkeys.PRIMARY.keys()
    assert {key for host in hosts for key in host.get("worker", ())} == hostkeys.WORKER.keys()
    for host in hosts:
        for role, known in (("primary", hostkeys.PRIMARY), ("worker", hostkeys.WORKER)):
            for key, value in host.get(role, {}).items():
                known[key].read(value)


# --- what does not -----------------------------------------------------------------

MISTAKES = {  # name: (the whole text, what must be said of it)
    "not TOML": ("[hosts", "not valid TOML"),
    "empty": ("", "no hosts; expected a table such as [hosts.alpha]"),
    "an unknown table": (
        f"{WHOLE}[host.gamma]\n",
        "host (line 8): unknown key; did you mean 'hosts'?",
    ),
    "a typo": (
        f"{WHOLE}slot = 2\n",
        "hosts.beta.worker.slot (line 8): unknown key; did you mean 'slots'?",
    ),
    "in another table": (
        f"{WHOLE}nginx = true\n",
        "hosts.beta.worker.nginx (line 8): unknown key; it belongs in [hosts.beta.primary]",
    ),
    "unknown": (f"{WHOLE}xyz = 1\n", "unknown key; expected one of models, slots, name"),
    "a wrong kind": (
        f"{WHOLE}slots = true\n",
        "hosts.beta.worker.slots (line 8): expected a whole number from 1 to 1024, not True",
    ),
    "too few": (f"{WHOLE}slots = 0\n", "from 1 to 1024, not 0"),
    "a role that is no table": (
        '[hosts.a]\nworker = "test"\n',
        "hosts.a.worker (line 2): expected a table such as [hosts.alpha.worker], not 'test'",
    ),
    "a host that is no table": ("hosts.a = 1\n", "hosts.a (line 1): expected a table [hosts.a]"),
    "an address that is an option": (
        WHOLE.replace("10.0.0.2", "-oProxyCommand=x"),
        "hosts.beta.address (line 6): expected a host's name",
    ),
    "an address with a blank": (WHOLE.replace("10.0.0.2", "a b"), "without spaces, not 'a b'"),
    "a user that is an option": (
        WHOLE.replace('"10.0.0.2"', '"x"\nuser = "-l"'),
        "hosts.beta.user (line 7): expected the name of an account",
    ),
    "a port": (WHOLE.replace('"10.0.0.2"', '"x"\nport = 70000'), "expected a number from 1 to"),
    "a host's name": (
        WHOLE.replace("hosts.beta", "hosts.Beta"),
        "hosts.Beta (line 5): a host is called by 1 to 64 of a-z",
    ),
    "no primary": (
        WHOLE.replace("alpha.primary", "alpha.worker").replace("names", "#"),
        "no prima",
    ),
    "two primaries": (
        f"{WHOLE}[hosts.gamma.primary]\n",
        "hosts.gamma.primary (line 8): there is one primary only, and alpha is it",
    ),
    "no worker": ("[hosts.alpha.primary]\n", "no worker; at least one host needs"),
    "no role": (f"{WHOLE}[hosts.gamma]\n", "hosts.gamma (line 8): it has no role; give it a table"),
    "reach of a worker": (
        WHOLE.replace('"10.0.0.2"', '"x"\nreach = "y"'),
        "hosts.beta.reach (line 7): it says where workers reach the primary",
    ),
    "one login twice": (
        WHOLE.replace("10.0.0.2", "10.0.0.1"),
        "hosts.beta (line 5): the same login as alpha, 10.0.0.1: one table can have both roles",
    ),
    "the default port, said": (
        WHOLE.replace('"10.0.0.2"', '"10.0.0.1"\nport = 22'),
        "the same login as alpha",
    ),
    "one worker twice": (
        f'{WHOLE}[hosts.gamma.worker]\nname = "beta"\n',
        "hosts.gamma.worker.name (line 9): beta's worker is called beta, too",
    ),
    "a reserved name": (
        f'{WHOLE}name = "local"\n',
        "hosts.beta.worker.name (line 8): a worker cannot be called local",
    ),
    "a worker's name": (f'{WHOLE}name = "Beta"\n', "expected 1 to 64 of a-z 0-9 _ . -"),
    "no account of that name": (
        f'{WHOLE}name = "a.b"\n',
        "its account on the primary would be mr-a.b",
    ),
    "no models": (f"{WHOLE}models = []\n", "not []: leave the key out, then it is all of them"),
    "a model twice": (f'{WHOLE}models = ["test", "test"]\n', "one stands there twice"),
    "a model that is not there": (
        f'{WHOLE}models = ["tset"]\n',
        "did you mean 'test'?",
    ),
    "the folder of models": (f'models = "nowhere"\n{WHOLE}', "models (line 1): "),
    "listen without a port": (
        WHOLE.replace("names", 'listen = "127.0.0.1"\nnames'),
        'hosts.alpha.primary.listen (line 4): expected HOST:PORT, such as "127.0.0.1:8080"',
    ),
    "listen with a bare IPv6": (WHOLE.replace("names", 'listen = "::1:80"\nnames'), "not '::1:80'"),
    "listen with no such port": (
        WHOLE.replace("names", 'listen = "127.0.0.1:0"\nnames'),
        "ports are numbers from 1 to 65535",
    ),
    "root's port": (
        WHOLE.replace("names", 'listen = "0.0.0.0:80"\nnames'),
        "cannot have a port below 1024; nginx = true answers on 80 and 443",
    ),
    "past nginx": (
        WHOLE.replace("names", 'nginx = true\nlisten = "0.0.0.0:8080"\nnames'),
        "hosts.alpha.primary.listen (line 5): behind nginx it must not be reached past it",
    ),
    "nginx without root": (
        WHOLE.replace('"10.0.0.1"', '"x"\nuser = "keeper"').replace("names", "nginx = true\nnames"),
        "hosts.alpha.primary.nginx (line 5): nginx needs root, and keeper is not; sudo = true",
    ),
    "half a certificate": (
        WHOLE.replace("names", 'nginx = true\ncertificate = "/x.pem"\nnames'),
        "hosts.alpha.primary.certificate (line 5): certificate_key must be given, too",
    ),
    "a certificate for nobody": (
        WHOLE.replace("names", 'certificate = "/x"\ncertificate_key = "/y"\nnames'),
        "nginx is what has a certificate",
    ),
    "a path that is none": (
        WHOLE.replace("names", 'certificate = "x;y"\nnames'),
        "expected an absolute path on that host",
    ),
    "a name with a slash": (WHOLE.replace("models.example", "http://x"), "'http://x.org' is none"),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told(text: str, said: str, tmp_path: Path) -> None:
    told = refused(tmp_path, text)
    assert told.startswith(f"{tmp_path}/hosts.toml: ")
    assert said in told


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, WHOLE.replace("names", "nams") + 'slots = "two"\n')
    assert told.splitlines() == [
        f"{tmp_path}/hosts.toml: 2 mistakes:",
        "  hosts.alpha.primary.nams (line 4): unknown key; did you mean 'names'?",
        "  hosts.beta.worker.slots (line 8): expected a whole number from 1 to 1024, not 'two'",
    ]


def test_a_file_that_is_not_there_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no .*/hosts.toml .*a copy of examples/hosts.toml"):
        load(tmp_path / "hosts.toml")


def test_a_model_that_does_not_hold_is_told_with_its_file(tmp_path: Path) -> None:
    file = write(tmp_path, WHOLE)
    (tmp_path / "models/other/model.toml").write_text('comand = ["true"]\n')
    with pytest.raises(Refused, match=r"other/model.toml: comand: unknown key .* 'command'"):
        load(file)


def test_without_root_a_primary_makes_no_accounts(tmp_path: Path) -> None:
    text = WHOLE.replace('"10.0.0.1"', '"x"\nuser = "keeper"') + 'name = "a.b"\n'
    assert load(write(tmp_path, text)).workers[0].worker_name == "a.b"
