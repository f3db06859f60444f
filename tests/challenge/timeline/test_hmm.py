from __future__ import annotations

from itertools import pairwise, product

import numpy as np
from cer_fusion.challenge.timeline.hmm import best_path, expected_stays, posterior
from cer_fusion.challenge.timeline.learned import sticky
from hypothesis import given, settings
from hypothesis import strategies as st


def problem(seed: int, lengths: tuple[int, ...], k: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(k), size=t) for t in lengths], rng.dirichlet(np.ones(k), size=k)


def by_enumeration(evidence: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior, best path and expected number of stays, over every path there is."""
    t, k = evidence.shape
    paths = np.array(list(product(range(k), repeat=t)))
    weights = np.array(
        [np.prod(evidence[range(t), path]) * np.prod([moves[a, b] for a, b in pairwise(path)]) for path in paths]
    )
    shares = weights / weights.sum()
    marginals = np.stack([(shares[:, None] * (paths == c)).sum(axis=0) for c in range(k)], axis=1)
    stays = float((shares * (np.diff(paths, axis=1) == 0).sum(axis=1)).sum())
    return marginals, paths[weights.argmax()], stays


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
def test_videos_side_by_side_get_what_enumeration_gives_each_alone(seed, lengths):
    evidence, moves = problem(seed, lengths)
    truth = [by_enumeration(one, moves) for one in evidence]
    for found, (marginals, _, _) in zip(posterior(evidence, moves), truth, strict=True):
        np.testing.assert_allclose(found, marginals, atol=1e-9)
    for path, (_, best, _) in zip(best_path(evidence, moves), truth, strict=True):
        assert path.tolist() == best.tolist()
    stays, steps = expected_stays(evidence, moves)
    assert steps == sum(lengths) - len(lengths)
    np.testing.assert_allclose(stays, sum(stays for _, _, stays in truth), atol=1e-9)


def test_batches_do_not_change_the_answer(monkeypatch):
    evidence, moves = problem(0, (4, 9, 30, 2, 17))
    whole, paths = posterior(evidence, moves), best_path(evidence, moves)
    monkeypatch.setattr("cer_fusion.challenge.timeline.hmm._CELLS", 1)
    for one, other in zip(whole, posterior(evidence, moves), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert all((a == b).all() for a, b in zip(paths, best_path(evidence, moves), strict=True))


def test_long_videos_and_certain_rows_do_not_underflow():
    evidence = [np.eye(3)[np.arange(5000) % 3]]
    found = posterior(evidence, sticky(3, 1e6))[0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert set(best_path(evidence, sticky(3, 2))[0].tolist()) == {0, 1, 2}


def test_transitions_that_forget_leave_the_rows_as_they_are():
    evidence, _ = problem(0, (20,))
    np.testing.assert_allclose(posterior(evidence, np.full((3, 3), 1 / 3))[0], evidence[0], atol=1e-12)
