"""A submission: one class id for each frame of the template, as text and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.challenge.submission.checking import check
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.files.atomic import write_atomic
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Submission:
    """Answers in the order of the template."""

    names: tuple[str, ...]
    """Frame names, all different."""
    y: IntArray
    """(n,) class ids of the challenge."""

    def text(self, challenge: Challenge) -> str:
        """Return the file's text: the header, then ``01/00001.jpg,<id>`` a row, line feeds only."""
        rows = (f"{name},{y}" for name, y in zip(self.names, self.y.tolist(), strict=True))
        return "\n".join((challenge.header, *rows)) + "\n"

    def write(self, path: Path, challenge: Challenge, *, overwrite: bool = True) -> Path:
        """Write the file, whole or not at all; see `write_atomic`."""
        return write_atomic(path, self.text(challenge).encode(), overwrite=overwrite)


def read_submission(path: Path, challenge: Challenge) -> Submission:
    """Read a submission of any number of frames.

    Raises
    ------
    SubmissionError
        Naming the first fault of its form and its line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SubmissionError(f"cannot read {path}: {error.strerror}") from None
    faults = check(data, challenge, whole=False)
    if faults:
        more = f" (and {len(faults) - 1:,} more faults)" if len(faults) > 1 else ""
        raise SubmissionError(
            f"{path}:{faults[0].line}: {faults[0].text}{more}\n  see them all with: cer-fuse submit --check {path}"
        )
    rows = [line.split(",") for line in data.decode().splitlines()[1:]]
    return Submission(names=tuple(name for name, _ in rows), y=np.array([int(y) for _, y in rows], dtype=np.int64))
