"""The picture of a day: every run is in it once, and bars can be seen and told apart."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from primary.timeline import End, Run, Timeline
from web import daypicture
from web.daypicture import BAR, CROWD, ENDS, HEAD, LANES, LEAST, LINES, WIDTH, Bar, draw

UNTIL = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
SINCE = UNTIL - timedelta(hours=24)
SECOND = WIDTH / 86400  # pixels


def stamp(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def run(
    start: float, seconds: float | None, worker: str = "w", end: End = "COMPLETE", name: str = "a"
) -> Run:
    """A run that began ``start`` seconds after the picture does."""
    begun = SINCE + timedelta(seconds=start)
    ended = None if seconds is None else stamp(begun + timedelta(seconds=seconds))
    end = "RUNNING" if seconds is None else end
    return Run(worker, f"job-{start}", name, "m", 1, stamp(begun), ended, end)


def day(*runs: Run, cut: bool = False) -> Timeline:
    return Timeline(stamp(SINCE), stamp(UNTIL), cut, runs)


def bars(*runs: Run) -> list[Bar]:
    picture = draw(day(*runs))
    return [bar for lane in picture.lanes for bar in lane.bars]


def test_all_ends_are_drawn() -> None:
    assert set(ENDS) == set(get_args(End))


def test_a_run_lies_where_its_time_is() -> None:
    (bar,) = bars(run(6 * 3600, 12 * 3600))
    assert (bar.x, bar.width) == (round(WIDTH / 4, 1), round(WIDTH / 2, 1))
    assert bar.job == f"job-{6 * 3600}" and bar.runs == 1
    (part,) = bar.parts
    assert (part.end, part.height) == ("COMPLETE", BAR)


def test_a_run_that_began_before_the_picture_or_goes_on_is_cut_at_its_edges() -> None:
    (bar,) = bars(run(-5000, 5000 + 3600))
    assert (bar.x, bar.width) == (0.0, round(3600 * SECOND, 1))
    (bar,) = bars(run(80000, None))
    assert bar.x + bar.width == pytest.approx(WIDTH, abs=0.2)
    assert bar.parts[0].end == "RUNNING" and "still running" in bar.title


@pytest.mark.parametrize("start", [0, 1000, 86399.9, 86400, 90000])
def test_the_shortest_run_can_be_seen_and_lies_inside(start: float) -> None:
    (bar,) = bars(run(start, 0.01))
    assert bar.width >= LEAST and 0 <= bar.x <= WIDTH - LEAST


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_runs_at_the_same_time_have_a_line_each(number: int) -> None:
    found = bars(*(run(1000 + n, 5000) for n in range(number)))
    assert len({bar.parts[0].y for bar in found}) == len(found) == number


def test_more_runs_at_a_time_than_lines_share_the_last_one() -> None:
    found = bars(*(run(1000 + n, 5000, end="FAILED") for n in range(LINES + 5)))
    assert len(found) == LINES and [bar.runs for bar in found[:-1]] == [1] * (LINES - 1)
    assert found[-1].runs == 6 and found[-1].job is None


def test_runs_one_after_the_other_share_a_line_and_no_bar() -> None:
    first, second = bars(run(0, 20000), run(20000, 30000))
    assert first.parts[0].y == second.parts[0].y and (first.runs, second.runs) == (1, 1)


def test_crowded_runs_share_bars_of_a_limited_width() -> None:
    picture = draw(day(*(run(n, 0.5) for n in range(0, 80000, 10))))
    (lane,) = picture.lanes
    assert picture.shared and sum(bar.runs for bar in lane.bars) == 8000
    assert all(LEAST <= bar.width <= CROWD + LEAST + 0.1 for bar in lane.bars)
    assert len(lane.bars) > 100  # still a picture of a day, not one block
    assert lane.bars[0].job is None and "runs: " in lane.bars[0].title


def test_a_shared_bar_shows_each_end_by_its_share_and_the_rarest_too() -> None:
    many = [run(1000 + n / 100, 0.001) for n in range(500)]
    (bar,) = bars(*many, run(1006, 0.001, end="FAILED"), run(1007, 0.001, end="KILLED"))
    assert [part.end for part in bar.parts] == ["COMPLETE", "KILLED", "FAILED"]
    assert sum(part.height for part in bar.parts) == pytest.approx(BAR, abs=0.3)
    assert min(part.height for part in bar.parts) >= 2
    assert "502 runs: 500 COMPLETE, 1 KILLED, 1 FAILED" in bar.title


# All patterns of a few runs: short ones and long ones, apart, touching, one upon the other.
STARTS = (0.0, 40.0, 100.0, 900.0, 4000.0)
LENGTHS = (0.0, 60.0, 800.0, 20000.0)
CASES = [
    tuple(run(start, length) for start, length in zip(starts, lengths, strict=True))
    for starts in itertools.combinations_with_replacement(STARTS, 3)
    for lengths in itertools.product(LENGTHS, repeat=3)
]


def test_no_run_is_lost_and_no_bar_covers_another() -> None:
    assert len(CASES) > 2000
    for case in CASES:
        found = bars(*case)
        assert sum(bar.runs for bar in found) == len(case), case
        by_line: dict[float, list[Bar]] = {}
        for bar in found:
            assert bar.width >= LEAST
            by_line.setdefault(bar.parts[0].y, []).append(bar)
        for line in by_line.values():
            line.sort(key=lambda bar: bar.x)
            for left, right in itertools.pairwise(line):
                # a bar made visible may reach into the next one, never over it
                assert right.x + right.width > left.x + left.width - 0.11, case
                assert left.x + left.width - right.x <= LEAST + 0.11, case


def test_lanes_by_worker_one_below_the_other() -> None:
    picture = draw(day(run(0, 10, "zeta"), run(0, 10, "alpha"), run(5, 10, "alpha")))
    alpha, zeta = picture.lanes
    assert (alpha.worker, zeta.worker) == ("alpha", "zeta")
    assert alpha.y == HEAD and zeta.y == pytest.approx(alpha.y + alpha.height)
    assert picture.height == pytest.approx(zeta.y + zeta.height) and alpha.height > zeta.height
    for lane in picture.lanes:
        for bar in lane.bars:
            assert all(lane.y < part.y for part in bar.parts)
            assert all(part.y + part.height < lane.y + lane.height for part in bar.parts)


def test_too_many_workers_are_counted_and_long_names_cut() -> None:
    picture = draw(day(*(run(0, 10, f"worker-{n:03}") for n in range(LANES + 3))))
    assert (len(picture.lanes), picture.missing) == (LANES, 3)
    (lane,) = draw(day(run(0, 10, "x" * 100))).lanes
    assert lane.label.endswith("…") and len(lane.label) == daypicture.SHORT


def test_the_hours_are_full_ones_and_say_their_day() -> None:
    ticks = draw(day()).ticks
    assert len(ticks) == 24 and [tick.label for tick in ticks[:2]] == ["10:00", "11:00"]
    assert [(tick.label, tick.day) for tick in ticks if tick.day] == [
        ("10:00", "2026-11-22"),
        ("00:00", "2026-11-23"),
    ]
    assert ticks[0].x == pytest.approx(WIDTH / 48, abs=0.1) and ticks[0].time.endswith("T10:00:00Z")


@pytest.mark.parametrize("minutes", [0, 1, 3, 30, 61, 240, 24 * 60, 7 * 24 * 60])
def test_times_are_never_too_close_to_read(minutes: int) -> None:
    since = stamp(UNTIL - timedelta(minutes=minutes))
    picture = draw(Timeline(since, stamp(UNTIL), True, ()))
    places = [tick.x for tick in picture.ticks]
    if minutes <= 24 * 60:
        assert all(b - a >= daypicture.APART - 0.2 for a, b in itertools.pairwise(places))
    assert all(0 <= x <= WIDTH for x in places)
    assert minutes < 3 or places
