from __future__ import annotations

import numpy as np
from cer_fusion.fusion.judging.diagnosis.mistakes import ConfusedPair, HardSample, confused_pairs, hardest
from cer_fusion.fusion.judging.metrics import scores


def test_confused_pairs_are_ranked_by_rows_and_then_by_share():
    y = [0, 0, 0, 0, 1, 1, 2]
    p = [1, 1, 0, 2, 0, 1, 2]
    found = confused_pairs(scores(y, p, "abc"), 2)
    assert found == (
        ConfusedPair(truth="a", answer="b", count=2, share=0.5),
        ConfusedPair(truth="b", answer="a", count=1, share=0.5),
    )
    assert len(confused_pairs(scores(y, p, "abc"), 9)) == 3
    assert confused_pairs(scores(y, y, "abc"), 9) == ()


def test_the_hardest_samples_are_those_whose_label_was_held_least_likely():
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]])
    y = np.array([0, 0, 0, 1])
    singles = [np.array([0, 0, 1, 0]), np.array([0, 0, 0, 0])]
    found = hardest(["w", "x", "y", "z"], "ab", y, proba, singles, 3)
    assert [one.sample_id for one in found] == ["z", "x", "y"]
    assert found[0] == HardSample(sample_id="z", truth="b", answer="a", of_truth=0.05, of_answer=0.95, right=0)
    assert [one.right for one in found] == [0, 2, 1]
