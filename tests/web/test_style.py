"""The style: contrast in both schemes (WCAG 2.2 AA), and colours from one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from web.pages import STATIC

STYLE = (STATIC / "style.css").read_text()
DARK = "@media (prefers-color-scheme: dark)"

# Which colours stand as text on which grounds.
SOFT = ("good", "bad", "warn", "run")
TEXT = {
    "fg": ("bg", "card", "shade", "accent-soft"),
    "quiet": ("bg", "card", "shade", "accent-soft", "bad-soft"),
    "accent": ("bg", "card", "shade", "accent-soft"),
    "on-accent": ("accent",),
    **{name: ("bg", "card", f"{name}-soft") for name in SOFT},
}
# What must be seen beside these grounds, but is not read: edges of controls, bars, the focus.
SHAPES = {"edge": ("bg", "card"), "accent": ("bg", "card"), "quiet": ("card",)}


def variables(text: str) -> dict[str, str]:
    block = re.search(r":root \{(.*?)\}", text, re.DOTALL)
    assert block is not None
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block[1]))


LIGHT_COLOURS = variables(STYLE)
SCHEMES = {
    "light": LIGHT_COLOURS,
    "dark": LIGHT_COLOURS | variables(STYLE[STYLE.index(DARK) :]),
}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("least", "pairs"), [(4.5, TEXT), (3.0, SHAPES)], ids=["text", "shapes"])
def test_contrast(scheme: str, least: float, pairs: dict[str, tuple[str, ...]]) -> None:
    colours = SCHEMES[scheme]
    too_low = {
        (front, ground): round(contrast(colours[front], colours[ground]), 2)
        for front, grounds in pairs.items()
        for ground in grounds
        if contrast(colours[front], colours[ground]) < least
    }
    assert too_low == {}


def test_the_dark_scheme_says_every_colour_anew() -> None:
    dark = variables(STYLE[STYLE.index(DARK) :])
    assert dark.keys() == LIGHT_COLOURS.keys()


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.css")), ids=lambda file: file.name)
def test_colours_come_from_the_variables_alone(file: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
    known = set(re.findall(r"--([a-z0-9-]+):", STYLE + text))
    assert set(re.findall(r"var\(--([a-z0-9-]+)", text)) <= known
    if file.name in (
        "job.css",
        "preview.css",
    ):  # a terminal has sixteen colours, a picture a ground
        return
    rules = re.sub(r"--[a-z0-9-]+: [^;]+;", "", text)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[^{}]*;)|rgba?\(|hsla?\(", rules) == []


def test_motion_is_for_those_who_do_not_mind() -> None:
    for file in STATIC.glob("*.css"):
        text = file.read_text()
        calm = re.sub(
            r"@media \(prefers-reduced-motion: no-preference\) \{.*?\n\}", "", text, flags=re.DOTALL
        )
        if "prefers-reduced-motion: reduce" not in calm:
            assert not re.search(r"^\s*[^/@\n]*\b(animation|transition):", calm, re.MULTILINE), (
                file.name
            )
