"""The pages' script and the server say times and lengths in the same words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page

from web import words

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BEFORE = [0, 9.9, 10, 59.9, 60, 3599, 3600, 86399, 86400, 172_799, 172_800, 700_000, 4e7]  # seconds
LENGTHS = [0.05, 0.1, 9.94, 10, 59, 60, 3599.6, 3600, 86399, 90000]  # seconds

SAID = """async ({ times, now, lengths }) => {
  const { ago, duration } = await import("/static/times.js");
  return [times.map((time) => ago(time, now)), lengths.map(duration)];
}"""


def test_both_say_the_same(page: Page) -> None:
    times = [(NOW - timedelta(seconds=s)).replace(tzinfo=None).isoformat() + "Z" for s in BEFORE]
    page.goto("/models")
    asked = {"times": times, "now": NOW.timestamp() * 1000, "lengths": LENGTHS}
    said = page.evaluate(SAID, asked)
    wanted = [[words.ago(time, NOW) for time in times], [words.duration(s) for s in LENGTHS]]
    assert said == wanted
