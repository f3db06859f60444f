from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.backbones import ExamplesError
from cer_fusion.backbones.finetuning.examples import check_parts
from tests.backbones.finetuning.conftest import CLASSES, examples


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"y": np.zeros(5, np.int64)}, r"y must be int64 of shape \(6,\)"),
        ({"y": np.zeros(6, np.int32)}, "int32"),
        ({"y": np.array([0, 1, 2, -1, 0, 1])}, "1 examples have no label: s0003"),
        ({"ids": ["a", "b", "a", "c", "d", "e"]}, "a stand more than once"),
        ({"groups": ["g"]}, "groups must be 6"),
        ({"soft": np.ones((6, 3), np.float32)}, "sum to 1, however not for s0000"),
        ({"soft": np.full((6, 3), np.nan, np.float32)}, "sum to 1"),
        ({"soft": np.ones((5, 3), np.float32)}, r"shape \(6, k\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ExamplesError, match=message):
        examples(6, **fields)


@pytest.mark.parametrize(
    ("train", "valid", "classes", "message"),
    [
        (examples(6), examples(3, first=10), ("only",), "at least 2 classes"),
        (examples(6), examples(3, first=10), ("a", "a", "b"), "distinct"),
        (examples(6), examples(3, first=10), (*CLASSES, "violet"), "no training example: violet"),
        (examples(6), examples(3, first=10), CLASSES[:2], r"outside 0\.\.1: s0002"),
        (examples(6), examples(3), CLASSES, "stand in training and validation: s0000"),
        (examples(6), examples(0), CLASSES, "validation part has no examples"),
        (examples(6, groups=["v"] * 6), examples(3, first=10, groups=["v"] * 3), CLASSES, "1 groups stand in"),
        (examples(6, soft=np.full((6, 2), 0.5, np.float32)), examples(3, first=10), CLASSES, "3 columns"),
    ],
)
def test_a_task_that_nothing_can_be_learnt_from_is_refused(train, valid, classes, message):
    with pytest.raises(ExamplesError, match=message):
        check_parts(train, valid, classes)


def test_taken_examples_keep_their_pictures_labels_and_groups():
    whole = examples(6, groups=list("abcdef"))
    part = whole.take(np.array([4, 1]))
    assert (list(part.ids), part.y.tolist(), part.groups) == (["s0004", "s0001"], [1, 1], ["e", "b"])
    assert part.read(0) == whole.read(4)
