from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion.data.rows import Rows, folds_of
from cer_fusion.fusion.errors import HeadDataError


def rows(y: list[int], groups: list[str] | None = None, classes: str = "abc") -> Rows:
    return Rows(
        blocks={"x": np.zeros((len(y), 1), np.float32)},
        y=np.array(y),
        classes=tuple(classes),
        groups=None if groups is None else tuple(groups),
    )


def test_every_row_is_held_out_once_and_every_class_always_learnt():
    data = rows([0] * 30 + [1] * 10 + [2] * 2)
    held = []
    for learn, out in folds_of(data, 5, seed=0):
        assert not set(learn) & set(out)
        assert set(data.y[learn]) == {0, 1, 2}
        held += out.tolist()
    assert sorted(held) == list(range(42))


def test_a_group_is_never_cut_in_two():
    groups = [f"v{i // 4}" for i in range(48)]
    data = rows([(i // 4) % 3 for i in range(48)], groups)
    for learn, out in folds_of(data, 3, seed=0):
        assert not {groups[i] for i in learn} & {groups[i] for i in out}


def test_folds_follow_the_seed():
    data = rows([0, 1, 2] * 10)
    first, again, other = ([out.tolist() for _, out in folds_of(data, 3, seed)] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("data", "folds", "message"),
    [
        (rows([0, 1, 0, 1]), 5, "5 folds need 5 rows"),
        (rows([0, 0, 1, 1, 2, 2]), 3, "class of at least 3 rows"),
        (rows([0] * 9 + [1]), 3, "class 'b' has one training row"),
        (rows([0, 1] * 8, ["u", "v"] * 8), 3, "3 groups"),
        (rows([0, 1] * 8), 1, "at least 2"),
    ],
)
def test_too_little_for_the_folds_is_refused_with_a_way_out(data, folds, message):
    with pytest.raises(HeadDataError, match=message):
        list(folds_of(data, folds, seed=0))


def test_a_class_that_lives_in_one_group_is_refused():
    data = rows([0] * 12 + [1] * 3, [f"v{i // 3}" for i in range(15)])
    with pytest.raises(HeadDataError, match=r"class 'b' would be missing"):
        list(folds_of(data, 3, seed=0))
