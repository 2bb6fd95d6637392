"""People who submit jobs in a browser, for the tests in tests/browser: what they drop and see."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.browsing import zipped
from tests.system import System

# Says what came: each file with its contents' length, sorted.
ECHO = """#!/bin/bash
cd "$1" && find . -type f -printf '%P %s\\n' | LC_ALL=C sort > "$2/came.txt"
"""
RAIN = """
[input.files."rain.csv"]
description = "one row a day"
columns = ["date", "rain"]
[input.files."catchment/area.txt"]
description = "square kilometres, such as 312.5"
pattern = '[0-9]+(\\.[0-9]+)?'
[input.files."snow.csv"]
optional = true
"""
GOOD = {"rain.csv": "date,rain\n1,2\n", "catchment/area.txt": "312.5\n"}


@contextmanager
def river_system(root: Path) -> Iterator[System]:
    """A system with two models: ``any`` takes what comes, ``rain`` names its files."""
    system = System(root)
    system.add_model("any", ECHO)
    system.add_model("rain", ECHO, RAIN)
    zipped(system.models / "rain" / "example.zip", GOOD)
    try:
        system.start(2)
        yield system
    finally:
        system.end()


def names(river: System) -> list[str]:
    return [job["name"] for job in river.client.jobs()]


def drop(
    page: Page,
    *files: tuple[str, bytes],
    on: str = "#drop",
    kinds: tuple[str, ...] = ("dragenter", "dragover", "drop"),
) -> None:
    """Drop files that the page itself makes: all that a drag has but the mouse."""
    page.evaluate(
        """([files, on, kinds]) => {
          const transfer = new DataTransfer();
          for (const [name, text] of files) {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], name));
          }
          const about = { dataTransfer: transfer, bubbles: true, cancelable: true };
          for (const kind of kinds)
            document.querySelector(on).dispatchEvent(new DragEvent(kind, about));
        }""",
        [[[name, base64.b64encode(data).decode()] for name, data in files], on, kinds],
    )


def drop_from_disk(page: Page, *paths: Path) -> None:
    """Drag real files or folders from outside of the browser."""
    page.locator("#drop").scroll_into_view_if_needed()
    box = page.locator("#drop").bounding_box()
    assert box
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + 20, "y": box["y"] + 20}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **at})


def submitted(page: Page, river: System) -> dict[str, Any]:
    """The job on whose page we are, once it has ended."""
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    return river.wait_status(page.url.rsplit("/", 1)[1], "COMPLETE", "FAILED")


def came(river: System, job: dict[str, Any]) -> str:
    return river.output(job["uuid"])["came.txt"]


def content(tmp_path: Path, files: dict[str, str]) -> bytes:
    return zipped(tmp_path / "in.zip", files).read_bytes()


def slow(page: Page, speed: int) -> None:
    """Uploads at ``speed`` bytes a second from now on; -1: as fast as it goes."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": speed},
    )
