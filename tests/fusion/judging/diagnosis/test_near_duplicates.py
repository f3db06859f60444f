from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis import near_duplicates as home
from cer_fusion.fusion.judging.diagnosis import pieces
from cer_fusion.fusion.judging.diagnosis.near_duplicates import near_duplicates

from tests.fusion.lazy import LazyBlock


def rows(x: np.ndarray, name: str, *, lazy: bool = False) -> Rows:
    x = x.astype(np.float32)
    blocks = {"vit": x[:, :6], "manet.local": 30 * x[:, 6:]}
    return Rows(
        blocks={key: LazyBlock(block) for key, block in blocks.items()} if lazy else blocks,
        y=np.arange(len(x)) % 2,
        classes=("a", "b"),
        ids=tuple(f"{name}{i}" for i in range(len(x))),
    )


def twins() -> tuple[np.ndarray, np.ndarray]:
    """Forty rows, and ten others of which the fourth and the eighth are nearly two of them; all far from the origin."""
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 10)), rng.normal(size=(10, 10))
    test[3], test[7] = train[30] + 0.05 * rng.normal(size=10), train[5] + 0.2 * rng.normal(size=10)
    return train + 20, test + 20


@pytest.mark.parametrize("piece", [3, 2048])
@pytest.mark.parametrize("lazy", [False, True])
def test_rows_that_nearly_stand_on_the_other_side_are_found_with_their_ids(piece, lazy, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", piece)
    train, test = twins()
    found, which = near_duplicates(rows(test, "t", lazy=lazy), rows(train, "l", lazy=lazy), threshold=0.9)
    assert [(pair.sample_id, pair.other_id) for pair in found.pairs] == [("t3", "l30"), ("t7", "l5")]
    assert found.pairs[0].cosine > found.pairs[1].cosine > 0.9
    assert (found.found, found.samples) == (2, 2)
    assert np.flatnonzero(which).tolist() == [3, 7]


def test_the_cosine_is_the_mean_of_the_blocks_own_after_the_mean_is_taken_off():
    train, test = twins()
    found, _ = near_duplicates(rows(test, "t"), rows(train, "l"), threshold=-1)
    assert found.found == 400
    one = next(pair for pair in found.pairs if (pair.sample_id, pair.other_id) == ("t2", "l9"))
    parts = [slice(0, 6), slice(6, 10)]
    centred = [(test[2] - train.mean(axis=0))[part] for part in parts]
    others = [(train[9] - train.mean(axis=0))[part] for part in parts]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(centred, others, strict=True)]
    assert one.cosine == pytest.approx(np.mean(cosines), abs=1e-4)


@pytest.mark.parametrize("piece", [3, 2048])
def test_within_one_split_each_pair_is_told_once_and_no_row_is_its_own_twin(piece, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", piece)
    train, test = twins()
    found, which = near_duplicates(rows(np.concatenate([test, train]), "r"), threshold=0.9)
    assert [{pair.sample_id, pair.other_id} for pair in found.pairs] == [{"r3", "r40"}, {"r7", "r15"}]
    assert np.flatnonzero(which).tolist() == [3, 7, 15, 40]


def test_no_more_pairs_are_kept_than_fit_but_all_are_counted(monkeypatch):
    monkeypatch.setattr(home, "MOST_PAIRS", 3)
    monkeypatch.setattr(pieces, "PIECE", 4)
    train, test = twins()
    found, _ = near_duplicates(rows(test, "t"), rows(train, "l"), threshold=-1)
    assert (found.found, found.samples, len(found.pairs)) == (400, 10, 3)
    assert found.pairs[0].sample_id == "t3"


def test_a_row_at_the_mean_is_like_nothing():
    train = np.array([[1.0] * 10, [3.0] * 10])
    found, _ = near_duplicates(rows(np.full((1, 10), 2.0), "t"), rows(train, "l"), threshold=0.1)
    assert found.pairs == ()


def test_a_threshold_that_is_no_cosine_is_refused():
    with pytest.raises(ReportError, match=r"threshold 1\.5"):
        near_duplicates(rows(np.eye(10), "t"), threshold=1.5)
