from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.submission import Submission, read_submission
from cer_fusion.fusion.errors import SubmissionError

from tests.challenge.submission.templates import CHALLENGE, names_of


def test_a_submission_is_the_file_the_challenge_describes(tmp_path):
    found = Submission(names=("01/00001.jpg", "01/00002.jpg"), y=np.array([0, 6]))
    found.write(tmp_path / "s.txt", CHALLENGE)
    assert (tmp_path / "s.txt").read_bytes() == (
        b"image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
        b"Angrily_Surprised,Sadly_Fearful,Sadly_Angry\n01/00001.jpg,0\n01/00002.jpg,6\n"
    )


def test_a_submission_survives_its_file(tmp_path):
    names = tuple(names_of({"07": 20, "03": 5}))
    given = Submission(names=names, y=np.random.default_rng(0).integers(0, 7, 25))
    again = read_submission(given.write(tmp_path / "s.txt", CHALLENGE), CHALLENGE)
    assert again.names == names
    assert (again.y == given.y).all()


def test_a_file_with_faults_is_refused_naming_the_first(tmp_path):
    (tmp_path / "s.txt").write_text(f"{CHALLENGE.header}\n01/00001.jpg,7\nx,1\n")
    with pytest.raises(SubmissionError, match=r"s\.txt:2: expected a class id .*\(and 1 more faults\)\n.*--check"):
        read_submission(tmp_path / "s.txt", CHALLENGE)
    with pytest.raises(SubmissionError, match="cannot read"):
        read_submission(tmp_path / "none.txt", CHALLENGE)
