"""A real Chromium on a real system, for the tests in tests/browser."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.system import ROOT, System

PATIENCE = 30_000  # milliseconds until Playwright gives up on what a page shall show
WIDE, PHONE = (1440, 900), (375, 812)  # CSS pixels

# What a user could call a job or a file, to make our pages run or read as something else.
HOSTILE = "<script>document.title='owned'</script>&\"'\u00e9 ../../etc"

# Tells how far it is, in both ways, and obeys TERM.
STEPS = """#!/bin/bash
n=$(cat "$1/steps")
for ((i = 1; i <= n; i++)); do
  echo "::progress $((100 * i / n)) at $i"
  printf '\\033[32mstep %d\\033[0m of %d\\n' "$i" "$n"
  sleep 0.2
done
echo "done" > "$2/result.txt"
"""

# Dies as models do.
FAULTY = """#!/usr/bin/env python3
import json, pathlib, sys

def read(path):
    return json.loads(path.read_text())["rain"]

print("reading the input", flush=True)
read(pathlib.Path(sys.argv[1]) / "input.json")
"""

# Gives a picture, a table and a text; their names, and its log, are as hostile as can be.
GALLERY = """#!/usr/bin/env python3
import pathlib, struct, sys, zlib

def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

def png(width, height):
    rows = b"".join(
        b"\\0" + bytes(v for x in range(width) for v in (x * 255 // width, y * 255 // height, 160))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))

out = pathlib.Path(sys.argv[2])
(out / "picture.png").write_bytes(png(64, 48))
(out / "table.csv").write_text("day,flow\\n1,2.5\\n2,<b>3</b>\\n")
(out / "notes.txt").write_text("all is well\\n<script>document.title='owned'</script>\\n")
(out / "<img src=x onerror=document.title='owned'>.txt").write_text("a name")
print("<script>document.title='owned'</script> \\x1b]0;owned\\x07\\x1b[31mred\\x1b[0m end")
"""

# Gives files that are called pictures: one is, but says no size; one is none; one is empty.
TORN = """#!/bin/bash
svg='<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 6"><circle r="3"/></svg>'
echo "$svg" > "$2/map.svg"
echo "no picture" > "$2/no.png"
: > "$2/empty.png"
"""

# Takes its time to end, as a model that saves its state does: until ``may_end`` says so.
UNHURRIED = """#!/bin/bash
trap 'echo saving; until [ -e "$STARTS.$MODELRUNNER_JOB_ID" ]; do sleep 0.1; done; exit 1' TERM
echo "working"
while :; do sleep 0.1; done
"""


def add_models(system: System) -> None:
    """The models that ship with it, and some that behave as models sometimes do."""
    for shipped in sorted(path.parent for path in (ROOT / "models").glob("*/model.toml")):
        shutil.copytree(shipped, system.models / shipped.name)
    required = "[input]\nrequired = ['{}']"
    system.add_model("steps", STEPS, required.format("steps"))
    system.add_model("faulty", FAULTY)
    system.add_model("gallery", GALLERY)
    system.add_model("torn", TORN)
    system.add_model("unhurried", UNHURRIED, "grace = 120")


def may_end(system: System, job: str) -> None:
    """Lets a job of the model ``unhurried`` end when it was asked to."""
    Path(f"{system.starts}.{job}").touch()


def zipped(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """A zip with ``files`` at ``path``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    # root and containers have no user namespaces for its sandbox
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = (1280, 800),
    javascript: bool = True,
    dark: bool = False,
    expected: tuple[str, ...] = (),
) -> Iterator[Page]:
    """A fresh page (no cookies) at ``address``; at the end, no script of ours may have failed.

    ``expected``: parts of console errors that the test provokes, such as a refused request.
    """
    context = browser.new_context(
        base_url=address,
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=javascript,
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        reduced_motion="reduce",
    )
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in expected):
            errors.append(message.text)

    try:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    finally:
        context.close()
    assert errors == [], f"the page's scripts complained: {errors}"


def screenshots() -> Path:
    """Where pictures of the pages go: build/screenshots, or $MR_SCREENSHOTS."""
    folder = Path(os.environ.get("MR_SCREENSHOTS") or ROOT / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
