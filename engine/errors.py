"""What can go wrong between an agent and its runner."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot do what was asked. The message says why, and what to do about it."""


class NoRunner(EngineError):
    """No runner is there, and whoever keeps it will start one. The loop acts: try again."""
