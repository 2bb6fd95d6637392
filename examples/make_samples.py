"""Make the sample zips: ``python examples/make_samples.py``. The same bytes each time.

``models/<model>/example.zip`` is that model's own example input; the zips in
``examples/`` are for the bash functions and for ``curl``.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def sample(files: dict[str, bytes]) -> bytes:
    """A zip of ``files``. Stored, for how deflate packs depends on zlib's version."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2014, 9, 24, 0, 0, 0))
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return out.getvalue()


def samples() -> dict[str, bytes]:
    """All sample zips by their path in the repository."""
    problem = sample({"problem.lp": (ROOT / "models/glpsol/example.lp").read_bytes()})
    spring = sorted((ROOT / "models/spring/example").iterdir())
    return {
        "examples/sleep_count_8.zip": sample({"sleep_count": b"8\n"}),
        "examples/sleep_count_30.zip": sample({"sleep_count": b"30\n"}),
        "examples/glpsol_example.zip": problem,
        "models/glpsol/example.zip": problem,
        "models/spring/example.zip": sample({file.name: file.read_bytes() for file in spring}),
        "models/test/example.zip": sample({"sleep_count": b"8\n"}),
        "models/test_2/example.zip": sample({"sleep_count": b"8\n"}),
    }


if __name__ == "__main__":
    for path, content in samples().items():
        (ROOT / path).write_bytes(content)
        print(path)
