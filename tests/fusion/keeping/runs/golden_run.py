"""One small kept run of every format version, and the program that writes it.

::

    python -m tests.fusion.keeping.runs.golden_run     writes golden/v<version> beside it if it is not there yet

What was written once is never written again: released runs must read for ever.
"""

from __future__ import annotations

from pathlib import Path

from cer_fusion.fusion.keeping.runs import FORMAT_VERSION
from tests.fusion.kept import kept

GOLDEN = Path(__file__).parent / "golden"
GROUPS = tuple(f"video{i // 3}" for i in range(21))

if __name__ == "__main__":
    kept(GOLDEN / f"v{FORMAT_VERSION}", groups=GROUPS)
