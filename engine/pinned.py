"""A process stays with the version that it was started from.

``current/bin/python`` leads through a link that an upgrade switches, and Python does not
resolve it: a module that is imported later, or a runner that is started later, would come
from another version than the code that asks for it.
"""

from __future__ import annotations

import os
import sys


def pin() -> None:
    """Begin anew by the resolved path of this environment, where a link led here.

    For the start of a program, before anything has happened: it does not return then. The
    process stays the same (its pid, its environment, its descriptors).
    """
    prefix = os.path.realpath(sys.prefix)
    program = os.path.join(prefix, "bin", os.path.basename(sys.executable))
    if prefix == sys.prefix or program == sys.executable or not os.access(program, os.X_OK):
        return
    os.execv(program, [program, *sys.orig_argv[1:]])
