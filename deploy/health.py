"""Whether a service is well, asked where the primary runs, in a version's venv.

    python -m deploy.health primary --url URL --version V --seconds N
    python -m deploy.health worker --url URL --name NAME --version V --seconds N [--key-file FILE]

Waits until it is so, N seconds at most. Exit code 0; or 1, with one line that says what is not so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.fleet import Primary
from deploy.nginx import upstream
from deploy.paths import Paths
from deploy.steps import Command

_PAUSE = 0.5  # seconds between two looks
_PATIENCE = 10.0  # seconds for one answer
_MOST = 16 << 20  # bytes of one answer
_KEY = "MODELRUNNER_ADMIN_KEY="

# Asked directly, whatever proxy the environment names.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def primary_command(where: Paths, listen: str, version: str, seconds: float) -> Command:
    """Until the primary that listens there answers, and is of that version."""
    return (*_module(where, "primary", listen), *_expected(version, seconds))


def worker_command(where: Paths, role: Primary, name: str, version: str, seconds: float) -> Command:
    """On the primary's host: until it has heard that worker, in that version."""
    # Asked without a key where that will do: an admin key is shown to nobody for nothing.
    keyed = ("--key-file", where.primary_env) if role.anonymous == "none" else ()
    module = _module(where, "worker", role.listen)
    return (*module, "--name", name, *keyed, *_expected(version, seconds))


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)

    def look() -> str:
        if options.what == "primary":
            return primary(options.url, options.version)
        return worker(options.url, options.name, options.version, options.key_file)

    wrong = waited(look, options.seconds)
    if wrong:
        print(f"{wrong} (after {options.seconds:.0f} s)", file=sys.stderr)
    return int(bool(wrong))


def waited(look: Callable[[], str], seconds: float) -> str:
    """``look`` again and again, until nothing is wrong; what is wrong at the end, or ""."""
    until = time.monotonic() + seconds
    while (wrong := look()) and time.monotonic() < until:
        time.sleep(_PAUSE)
    return wrong


def primary(url: str, version: str) -> str:
    """What is wrong with the primary, or ""."""
    found, why = _asked(f"{url}/healthz")
    if why:
        return why
    return primary_fault(found, version)


def primary_fault(found: Mapping[str, Any], version: str) -> str:
    """What is wrong with a primary that answered this, or "". Pure."""
    if found.get("version") == version:
        return ""
    return f"the primary is of version {found.get('version') or '?'}, not {version}"


def worker(url: str, name: str, version: str, key_file: str = "") -> str:
    """What is wrong with a worker as the primary sees it, or ""."""
    found, why = _asked(f"{url}/status", key_of(Path(key_file)) if key_file else "")
    return why or worker_fault(found.get("data") or (), name, version)


def worker_fault(nodes: Sequence[Mapping[str, Any]], name: str, version: str) -> str:
    """The same of the primary's nodes. Pure."""
    node = next((n for n in nodes if (n.get("node_type"), n.get("name")) == ("WORKER", name)), None)
    if node is None:
        return f"the primary has not heard of worker {name} yet"
    if node.get("liveness") != "alive":
        return f"worker {name} is {node.get('liveness')}: it was heard {_ago(node)}"
    if node.get("version") != version:
        return f"worker {name} is of version {node.get('version') or '?'}, not {version}"
    return ""


def _ago(node: Mapping[str, Any]) -> str:
    seconds = node.get("last_seen")
    return "never" if seconds is None else f"{float(seconds):.0f} s ago"


def key_of(path: Path) -> str:
    """The admin key in the primary's environment, as systemd reads that; "" if there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    keys = [line.removeprefix(_KEY).strip() for line in lines if line.startswith(_KEY)]
    return keys[-1].strip("\"'") if keys else ""


def _asked(url: str, key: str = "") -> tuple[Mapping[str, Any], str]:
    """The JSON object at ``url``, or why there is none."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        with _open(request, timeout=_PATIENCE) as answer:
            found = json.loads(answer.read(_MOST))
    except urllib.error.HTTPError as e:
        with e:
            return {}, f"{url} answered {e.code}: {_detail(e.read(_MOST)) or e.reason}"
    except (OSError, http.client.HTTPException, ValueError) as e:
        return {}, f"{url} does not answer: {getattr(e, 'reason', e)}"
    return (found, "") if isinstance(found, dict) else ({}, f"{url} is no Model Runner")


def _detail(body: bytes) -> str:
    """What a problem document says."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("detail") or "") if isinstance(found, dict) else ""


def _module(where: Paths, what: str, listen: str) -> Command:
    module = (f"{where.current}/bin/python", "-I", "-m", "deploy.health", what)
    return (*module, "--url", f"http://{upstream(listen)}")


def _expected(version: str, seconds: float) -> Command:
    return ("--version", version, "--seconds", f"{seconds:.0f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy.health")
    parser.add_argument("what", choices=("primary", "worker"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--key-file", default="")
    parser.add_argument("--version", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
