"""The last day as a picture: which worker ran what. From runs to numbers for an SVG. Pure.

One lane per worker, in it one line per run at a time. A bar is a run. Where runs are so short
and so many that their bars would lie on each other, some share a bar, with a part for each end.
Lengths are in the SVG's units, which are pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from primary.timeline import End, Run, Timeline
from web import words

WIDTH = 944.0  # of all the time; with the names beside it as wide as the page at its widest
APART = 38.0  # the least from one time written above it to the next
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240)  # minutes between such times
LINE, BAR = 17.0, 14.0  # heights: from one line to the next, and of a bar in it
MARGIN = 7.0  # above and below the lines of a lane
HEAD = 40.0  # for the days and times
LINES = 8  # runs at a time that a lane draws; more share the last line
LEAST = 2.0  # the least width of a bar
CROWD = 6.0  # a bar that several runs share is not begun wider than this
LANES = 60  # workers that are drawn; the table beside the picture has all
SHORT = 17  # characters of a worker's name

ENDS: tuple[End, ...] = ("COMPLETE", "KILLED", "LOST", "FAILED", "RUNNING")
"""How a run can stand; parts of a shared bar lie in this order, from below."""


class Part(NamedTuple):
    """A piece of a bar: all of it for one run, a share of its height for several."""

    end: str
    y: float
    height: float


class Bar(NamedTuple):
    """One run, or ``runs`` of them. ``job`` is None for several: there is no one page to open."""

    x: float
    width: float
    parts: tuple[Part, ...]
    title: str
    job: str | None
    runs: int


class Lane(NamedTuple):
    """A worker's runs. ``label`` is its name, cut; ``y`` is the lane's upper edge."""

    worker: str
    label: str
    y: float
    height: float
    bars: tuple[Bar, ...]


class Tick(NamedTuple):
    """A time above the picture. ``day`` is its date, where a new day begins or the picture does."""

    x: float
    time: str
    label: str
    day: str


class Picture(NamedTuple):
    """``shared`` says that some bars are several runs, ``missing`` how many lanes are left out."""

    width: float
    height: float
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    shared: bool
    missing: int


class _Span(NamedTuple):
    """A run with its beginning and end in pixels from the left; it took ``seconds``."""

    start: float
    end: float
    run: Run
    seconds: float


def draw(timeline: Timeline) -> Picture:
    """The picture of ``timeline``: always as wide, and a lane for each worker."""
    since, until = words.parsed(timeline.since), words.parsed(timeline.until)
    scale = WIDTH / max((until - since).total_seconds(), 60.0)  # pixels a second
    by_worker: dict[str, list[_Span]] = {}
    for run in timeline.runs:
        by_worker.setdefault(run.worker, []).append(_span(run, since.timestamp(), scale))
    lanes: list[Lane] = []
    y = HEAD
    for worker in sorted(by_worker)[:LANES]:
        lane = _lane(worker, by_worker[worker], y)
        lanes.append(lane)
        y += lane.height
    return Picture(
        width=WIDTH,
        height=round(y, 1),
        lanes=tuple(lanes),
        ticks=tuple(_ticks(since, until, scale)),
        shared=any(bar.runs > 1 for lane in lanes for bar in lane.bars),
        missing=max(0, len(by_worker) - LANES),
    )


def _span(run: Run, since: float, scale: float) -> _Span:
    """From where to where the run reaches: it may have begun before the picture does."""
    begun = _seconds(run.started)
    ended = _seconds(run.ended) if run.ended else since + WIDTH / scale
    start = min(max((begun - since) * scale, 0.0), WIDTH)
    end = min(max((ended - since) * scale, start), WIDTH)
    return _Span(start, end, run, max(0.0, ended - begun))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _lane(worker: str, spans: list[_Span], y: float) -> Lane:
    lines = _lines(sorted(spans, key=lambda span: (span.start, span.end, span.run.job)))
    bars: list[Bar] = []
    for number, line in enumerate(lines):
        top = y + MARGIN + number * LINE
        bars += [_bar(group, top) for group in _groups(line)]
    label = worker if len(worker) <= SHORT else f"{worker[: SHORT - 1]}…"
    height = 2 * MARGIN + len(lines) * LINE - (LINE - BAR)
    return Lane(worker, label, round(y, 1), round(height, 1), tuple(bars))


def _lines(spans: Iterable[_Span]) -> list[list[_Span]]:
    """The runs in lines in which none runs while another does; the last takes what is left."""
    lines: list[list[_Span]] = []
    for span in spans:
        free = next((line for line in lines if line[-1].end <= span.start), None)
        if free is None and len(lines) < LINES:
            free = []
            lines.append(free)
        (lines[-1] if free is None else free).append(span)
    return lines


def _groups(line: Sequence[_Span]) -> list[list[_Span]]:
    """The runs of a line by bars: those share one that would lie on each other."""
    groups: list[list[_Span]] = []
    begin = drawn = ended = 0.0  # of the last group: where it begins, is drawn to, ends in truth
    for span in line:
        overlaps = groups and span.start < ended  # too many at a time for the lines
        short = span.end - span.start < CROWD  # a long one has room for a bar of its own
        crowded = groups and short and span.start < drawn and span.start - begin < CROWD
        if overlaps or crowded:
            groups[-1].append(span)
        else:
            groups.append([span])
            begin = span.start
            ended = 0.0
        ended = max(ended, span.end)
        drawn = max(begin + LEAST, span.start + LEAST, ended)
    return groups


def _bar(group: Sequence[_Span], top: float) -> Bar:
    x = min(group[0].start, WIDTH - LEAST)
    right = max(span.end for span in group)
    x, width = round(x, 1), round(max(LEAST, right - x), 1)
    if len(group) == 1:
        run = group[0].run
        return Bar(x, width, (Part(run.end, round(top, 1), BAR),), _one(group[0]), run.job, 1)
    ends = Counter(span.run.end for span in group)
    return Bar(x, width, _parts(ends, top), _several(group, ends), None, len(group))


def _parts(ends: Counter[End], top: float) -> tuple[Part, ...]:
    """The bar's height by the share of each end; each that occurs can be seen."""
    shares = {end: max(ends[end] / ends.total(), 0.2) for end in ENDS if ends[end]}
    whole = sum(shares.values())
    parts, below = [], top + BAR
    for end, share in shares.items():
        height = BAR * share / whole
        below -= height
        parts.append(Part(end, round(below, 1), round(height, 1)))
    return tuple(parts)


def _one(span: _Span) -> str:
    run, took = span.run, words.duration(span.seconds)
    until = f"to {run.ended[11:19]} UTC, {took}" if run.ended else f"UTC, still running, {took}"
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return (
        f"{run.name} ({run.model}{attempt}), {run.end}\n"
        f"on {run.worker}, {run.started[:10]} {run.started[11:19]} {until}"
    )


def _several(group: Sequence[_Span], ends: Counter[End]) -> str:
    counts = ", ".join(f"{ends[end]:,} {end}" for end in ENDS if ends[end])
    first, last = group[0].run, group[-1].run
    return (
        f"{len(group):,} runs: {counts}\n"
        f"on {first.worker}, begun {first.started[:10]} {first.started[11:19]} "
        f"to {last.started[11:19]} UTC"
    )


def _ticks(since: datetime, until: datetime, scale: float) -> Iterable[Tick]:
    minutes = next((step for step in STEPS if step * 60 * scale >= APART), STEPS[-1])
    step = timedelta(minutes=minutes)
    time = since.replace(hour=0, minute=0, second=0, microsecond=0)
    time += step * ((since - time) // step)
    day = ""
    while time <= until:
        if time >= since:
            date = time.date().isoformat()
            yield Tick(
                x=round((time - since).total_seconds() * scale, 1),
                time=f"{time:%Y-%m-%dT%H:%M:%SZ}",
                label=f"{time:%H:%M}",
                day="" if date == day else date,
            )
            day = date
        time += step
