"""A Python on a host: found by the host's own shell, whatever it is called there. Pure."""

from __future__ import annotations

from deploy.steps import Command

NONE = 69  # exit code: no Python at all

# The system's own first: it stays, and every account may use it. Isolated (-I): what the login
# has in its environment and home is not ours.
_FIND = """\
find() {
    for p in /usr/bin/python3 /usr/local/bin/python3 \\
        /usr/bin/python3.1[1-9] /usr/local/bin/python3.1[1-9] \\
        python3 python3.14 python3.13 python3.12 python3.11 \\
        "$HOME"/.local/bin/python3 "$HOME"/.local/bin/python3.1[1-9]
    do
        p=$(command -v "$p") || continue
        if "$p" -I -c "import sys; sys.exit(sys.version_info < $1)" </dev/null 2>/dev/null
        then return 0; fi
    done
    return 1
}
if find '(3, 11)' || find '(3, 8)'; then exec "$p" -I "$@"; fi
echo 'there is no Python 3 here' >&2
exit 69"""


def python(*arguments: str) -> Command:
    """Python >= 3.11 with ``arguments``; an older one (from 3.8) where there is no other."""
    return ("sh", "-c", _FIND, "sh", *arguments)
