from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cer_fusion.featstore import class_set
from cer_fusion.fusion.errors import SubmissionError

from tests.challenge.submission.templates import CHALLENGE, certain


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
