"""Validators of answers (RFC 9110, 8.8). Pure."""

from __future__ import annotations

import hashlib


def weak(content: bytes) -> str:
    """The weak entity tag of an answer that is made anew each time."""
    return f'W/"{hashlib.blake2b(content, digest_size=9).hexdigest()}"'


def named(if_none_match: str, tag: str) -> bool:
    """Whether the header names ``tag``, by weak comparison."""
    tags = [given.strip().removeprefix("W/") for given in if_none_match.split(",")]
    return tag.removeprefix("W/") in tags or tags == ["*"]
