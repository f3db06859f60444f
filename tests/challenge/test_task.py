"""A challenge's facts, templates and submissions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.challenge import read_template
from cer_fusion.featstore import class_set
from cer_fusion.fusion.errors import SubmissionError
from tests.challenge.templates import CHALLENGE, certain


def test_the_facts_are_those_of_the_challenge():
    assert CHALLENGE.header == (
        "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
        "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
    )
    assert (CHALLENGE.rows, CHALLENGE.videos, CHALLENGE.video_names[0], CHALLENGE.video_names[-1]) == (
        26145, 56, "01", "56",
    )  # fmt: skip
    assert CHALLENGE.prior_counts == (14445, 24915, 10780, 10637, 10535, 10112, 8878)
    assert CHALLENGE.prior.sum() == pytest.approx(1)


def test_ids_agree_with_the_manifests_class_set():
    assert CHALLENGE.ids_of(class_set("abaw7").labels) == tuple(range(7))


@pytest.mark.parametrize("spell", [str.lower, str.upper, lambda n: n.replace("_", " "), lambda n: n.replace("_", "")])
def test_classes_are_mapped_by_name_never_by_position(spell):
    shuffled = (6, 2, 0, 5, 1, 3, 4)
    found = certain([f"01/{i:05d}.jpg" for i in range(1, 8)], range(7), [spell(CHALLENGE.classes[i]) for i in shuffled])
    labelled = replace(found, labels=(found.classes[0], None, *found.classes[:5]))
    ordered = CHALLENGE.in_order(labelled)
    assert ordered.classes == CHALLENGE.classes
    assert ordered.y_pred.tolist() == list(shuffled)
    assert ordered.labels is not None
    assert ordered.labels[:2] == (CHALLENGE.classes[6], None)


def test_a_class_that_predictions_lack_gets_no_chance():
    ordered = CHALLENGE.in_order(certain(["01/00001.jpg"], [1], CHALLENGE.classes[3:5]))
    assert ordered.proba.tolist() == [[0, 0, 0, 0, 1, 0, 0]]


def test_unknown_classes_are_refused_with_the_nearest():
    with pytest.raises(SubmissionError, match=r"'Happily Disgusted' is none .*\(2 such .*did you mean 'Happily_Surpr"):
        CHALLENGE.ids_of(["Sadly Angry", "Happily Disgusted", "Neutral"])
    with pytest.raises(SubmissionError, match="mean the same id"):
        CHALLENGE.ids_of(["Sadly Angry", "sadly_angry"])


def test_the_divergence_from_the_prior_is_zero_only_at_the_prior():
    counts = np.array(CHALLENGE.prior_counts)
    assert CHALLENGE.divergence(np.repeat(np.arange(7), counts)) == pytest.approx(0, abs=1e-12)
    assert CHALLENGE.divergence(np.full(10, 6)) == pytest.approx(np.log(counts.sum() / counts[6]))
    even = np.full(7, 1 / 7)
    assert CHALLENGE.divergence(np.arange(7)) == pytest.approx((even * np.log(even / (counts / counts.sum()))).sum())
    assert CHALLENGE.histogram(np.array([1, 1, 6]))["Happily_Surprised"] == 2


HEADER = CHALLENGE.header


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n02/00001.jpg\n01/00001.jpg\n",
        f"{HEADER}\r\n02/00001.jpg,\r\n01/00001.jpg,\r\n\r\n",
        f"\ufeff{HEADER}\n02/00001.jpg,0,0,0,0,0,0,0\n01/00001.jpg,3",
        f"{HEADER}\r02/00001.jpg\r01/00001.jpg\r",
        f"sep=;\r\n{HEADER.replace(',', ';')}\r\n02/00001.jpg;3;;\r\n01/00001.jpg;;;\r\n;;;\r\n",
        '"' + HEADER.replace(",", '","') + '"\n"02/00001.jpg","3"\n"01/00001.jpg",""\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_only_the_first_cell_of_a_row_counts_and_the_order_is_kept(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = read_template(tmp_path / "t.csv", CHALLENGE)
    assert found.names == ("02/00001.jpg", "01/00001.jpg")
    assert found.video_names == ("02", "01")
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv:1: expected the header image_location.*\n.*an empty file"),
        (HEADER, r"t\.csv:1: the template has a header and no row"),
        ("01/00001.jpg\n", r"t\.csv:1: expected the header"),
        (f"{HEADER}\n01/00001.jpg\n\n01/00002.jpg\n", r"t\.csv:3: an empty line between rows"),
        (f"{HEADER}\n01/00001.jpg\n1/00001.jpg\n", r"t\.csv:3: '1/00001.jpg' is no frame"),
        (f"{HEADER}\n01/00000.jpg\n", r"t\.csv:2: '01/00000.jpg' is frame 0"),
        (f"{HEADER}\n01/00001.png\n", r"t\.csv:2: '01/00001.png' is no frame"),
        (f"{HEADER}\n01/00001.jpg\n57/00001.jpg\n", r"t\.csv:3: the challenge has no video '57': they are 01 to 56"),
        (f"{HEADER}\n01/00001.jpg\n01/00002.jpg\n01/00001.jpg\n", r"t\.csv:4: 01/00001.jpg stands in line 2 already"),
    ],
)
def test_a_template_with_a_fault_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SubmissionError, match=message):
        read_template(tmp_path / "t.csv", CHALLENGE)


def test_a_missing_or_binary_template_is_named(tmp_path):
    with pytest.raises(SubmissionError, match=r"cannot read .*t\.csv"):
        read_template(tmp_path / "t.csv", CHALLENGE)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfa")
    with pytest.raises(SubmissionError, match=r"t\.csv:1: not UTF-8"):
        read_template(tmp_path / "t.csv", CHALLENGE)


def test_frames_that_a_template_leaves_out_are_noted(tmp_path):
    (tmp_path / "t.csv").write_text(f"{HEADER}\n01/00001.jpg\n02/00002.jpg\n")
    assert "leaves out frames of 1 videos (first: 02)" in read_template(tmp_path / "t.csv", CHALLENGE).notes[0]
