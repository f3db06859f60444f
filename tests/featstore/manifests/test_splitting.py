from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.splitting import split_by_shares

LABELS = class_set("abaw7").labels


def manifest(counts: dict[int, int], *, per_group: int = 0) -> Manifest:
    labels = [LABELS[label] for label, n in counts.items() for _ in range(n)]
    samples = tuple(
        Sample(f"s{i:03d}", f"{i}.png", label, "", f"g{i // per_group}" if per_group else "")
        for i, label in enumerate(labels)
    )
    return Manifest(samples=samples, classes=class_set("abaw7"), root=Path())


SHARES = st.sampled_from([{"train": 0.8, "valid": 0.1, "test": 0.1}, {"a": 0.5, "b": 0.5}, {"a": 0.35, "b": 0.65}])
COUNTS = st.dictionaries(st.integers(0, 6), st.integers(1, 40), min_size=1).filter(lambda c: max(c.values()) >= 10)


@settings(deadline=None)
@given(COUNTS, SHARES, st.integers(0, 9))
def test_every_class_differs_by_less_than_one_from_its_share(counts, shares, seed):
    found = split_by_shares(manifest(counts), shares, seed=seed)
    for split, share in shares.items():
        here = Counter(s.label for s in found.samples if s.split == split)
        for label, n in counts.items():
            assert abs(here[LABELS[label]] - share * n) < 1


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(2, 5), st.integers(0, 9))
def test_groups_and_repeats_stay_whole_and_the_seed_decides_whatever_the_order(counts, per_group, seed):
    whole = manifest(counts, per_group=per_group)
    if len({s.group for s in whole.samples}) < 3:
        return
    shares = {"train": 0.5, "test": 0.5}
    together = [[0, len(whole) - 1]]
    found = split_by_shares(whole, shares, together=together, seed=seed)
    assert len({(s.group, s.split) for s in found.samples}) == len({s.group for s in whole.samples})
    assert found.samples[0].split == found.samples[-1].split
    order = list(range(len(whole)))
    random.Random(1).shuffle(order)
    mixed = replace(whole, samples=tuple(whole.samples[i] for i in order))
    again = split_by_shares(mixed, shares, together=[[order.index(0), order.index(len(whole) - 1)]], seed=seed)
    assert {s.sample_id: s.split for s in again.samples} == {s.sample_id: s.split for s in found.samples}


def test_classes_of_one_sample_each_are_spread_evenly():
    found = split_by_shares(manifest(dict.fromkeys(range(6), 1)), {"a": 0.5, "b": 0.5})
    assert Counter(s.split for s in found.samples) == {"a": 3, "b": 3}


def test_another_seed_gives_another_split():
    whole = manifest({0: 40, 1: 40})
    first, second = (split_by_shares(whole, {"a": 0.5, "b": 0.5}, seed=seed) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 1.0}, "two splits at least"),
        ({"train": 1.0, "test": 0.0}, "each above 0"),
        ({"train": 0.8, "test": 0.1}, "must be 1 in sum, however: train=0.8, test=0.1, which is 0.9"),
    ],
)
def test_shares_that_are_none_are_refused(shares, message):
    with pytest.raises(ManifestError, match=message):
        split_by_shares(manifest({0: 9}), shares)


def test_a_split_that_would_be_empty_is_refused():
    with pytest.raises(ManifestError, match=r"a share of 0.02 is no whole sample .*split 'test' would be empty"):
        split_by_shares(manifest({0: 10, 1: 10}), {"train": 0.98, "test": 0.02})


def test_fewer_groups_than_splits_are_refused():
    with pytest.raises(ManifestError, match=r"has 1 groups .* cannot fill 2 splits"):
        split_by_shares(manifest({0: 9}, per_group=9), {"a": 0.5, "b": 0.5})
