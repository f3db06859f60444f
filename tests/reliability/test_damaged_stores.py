"""P5: a damaged store is never used. Each case gives exactly the right rows, or an error of ours."""

from __future__ import annotations

import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Store, View, extract, verify
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.corruption import damaged
from tests.reliability.isolation import begin_case, run_apart
from tests.reliability.samples import listed

BATCH = 500


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A store whose dataset `d` has two features of one shape, and `e` one of them, of other pictures."""
    store = Store.create(tmp_path / "store")
    manifest = listed(tmp_path / "pictures", 40)
    others = listed(tmp_path / "others", 40, ids=[f"e{i:04d}" for i in range(40)], text="other")
    for dataset, samples, tap in (("d", manifest, 1), ("d", manifest, 2), ("e", others, 1)):
        extract(ToyEmbedder(f"toy{tap}", tap=tap), samples, store, dataset=dataset, shard_rows=16)
    return store.path


@pytest.mark.slow
def test_damaged_bytes_never_become_rows(victim, scaled, figure):
    """Any file of a store, any damage: the rows, ids, classes and labels that come out are those that went in."""
    cases = scaled(10_000, 200)
    found: Counter[str] = Counter()
    for start in range(0, cases, BATCH):
        found.update(
            run_apart("tests.reliability.test_damaged_stores:damage", str(victim), start, min(BATCH, cases - start))
        )
    assert found["refused"] > cases / 4
    counts = f"{found['refused']:,} refused, {found['right']:,} read right"
    figure("P5", f"{cases:,} damaged files: {counts}, 0 wrong, 0 crash, 0 hang")


@pytest.mark.slow
def test_swapped_and_foreign_shards_never_become_rows(victim, figure):
    """Every pair of shards with contents or names exchanged, and every shard in every other feature's folder."""
    found = run_apart("tests.reliability.test_damaged_stores:exchange", str(victim))
    assert found["refused"]
    assert found["right"]
    counts = f"{found['refused']} refused, {found['right']} read right"
    figure("P5", f"{sum(found.values()):,} swapped and foreign shards: {counts}, 0 wrong")


def test_verify_names_every_damaged_document(victim, scaled, figure):
    """What a view refuses, verify must find: `store.json`, `manifest.json` and `feature.json` alike."""
    draw, cases = random.Random(0), scaled(1_000, 60)
    documents = [p for p in sorted(victim.rglob("*.json")) if "e" not in p.parts]
    for number in range(cases):
        target, other = documents[number % len(documents)], draw.choice(documents)
        whole = target.read_bytes()
        way, data = damaged(whole, other.read_bytes(), draw)
        target.write_bytes(data)
        if unless_refused(lambda: expected(victim)) is None:
            problems = unless_refused(lambda: verify(Store(victim)).problems)
            assert problems is None or problems, f"{way} of {target.relative_to(victim)}: verify saw nothing"
        target.write_bytes(whole)
    figure("P5", f"{cases:,} damaged documents: verify finds all that a view refuses")


def test_a_damaged_list_of_samples_never_changes_what_a_sample_is(victim, scaled, figure):
    """`manifest.csv` holds the labels and splits, without which right rows are worth nothing."""
    draw, cases, right = random.Random(1), scaled(10_000, 200), expected(victim)
    target = victim / "d" / "manifest.csv"
    whole, other = target.read_bytes(), (victim / "e" / "manifest.csv").read_bytes()
    changed = []
    for _ in range(cases):
        way, data = damaged(whole, other, draw)
        target.write_bytes(data)
        view = unless_refused(lambda: expected(victim))
        if view is not None and not same(view, right):
            changed.append(way)
    target.write_bytes(whole)
    assert not changed, f"{len(changed)} of {cases} damaged lists were used as if right: {Counter(changed)}"
    figure("P5", f"{cases:,} damaged manifest.csv: 0 used with other ids, labels, splits or groups")


def test_a_lost_class_list_is_missed(victim):
    """Without it the order of the classes would be guessed from the labels."""
    (victim / "d" / "manifest.json").unlink()
    with pytest.raises(FeatstoreError, match=r"manifest\.json"):
        expected(victim)


def test_a_lost_shard_is_missed(victim):
    right = expected(victim)
    for path in Store(victim).feature("toy1", "d").shard_paths():
        whole = path.read_bytes()
        path.unlink()
        for mapped in (False, True):
            with pytest.raises(FeatstoreError, match=r"samples have no row in 'toy1@\w+' \(first: s00"):
                Store(victim).view(["toy1"], dataset="d", mapped=mapped)
        path.write_bytes(whole)
    assert same(expected(victim), right)


def test_a_shard_of_another_dataset_with_the_same_ids_is_refused(victim, tmp_path, figure):
    """Its rows are of the same feature and bear the same ids: only the pictures' digests tell that it is a stranger."""
    store, right = Store(victim), expected(victim)
    third = listed(tmp_path / "third", 40, text="third")
    extract(ToyEmbedder("toy1", tap=1), third, store, dataset="f", shard_rows=16)
    strays = store.feature("toy1", "f").shard_paths()
    for stray in strays:
        placed = Path(shutil.copy(stray, store.feature("toy1", "d").folder))
        assert verify(Store(victim), dataset="d", images=True).problems
        view = unless_refused(lambda: expected(victim))
        assert view is None or same(view, right), "rows of other pictures were taken for this dataset's"
        placed.unlink()
    figure("P5", f"{len(strays)} shards of another dataset with the same ids and fingerprint: 0 used")


def unless_refused(read: Callable[[], Any]) -> Any:
    """What `read` gives; None if it is refused by an error of ours."""
    try:
        return read()
    except FeatstoreError:
        return None


def damage(path: str, first: int, count: int) -> dict[str, int]:
    """Damage `count` files of a store one after the other, each mended before the next; runs in its own process."""
    store = Path(path)
    right = expected(store)
    files = [p for p in sorted(store.rglob("*")) if p.is_file() and "e" not in p.parts and p.suffix != ".csv"]
    shards = [p for p in files if p.suffix == ".h5"]
    found: Counter[str] = Counter()
    for number in range(first, first + count):
        draw = random.Random(number)
        target = draw.choice(shards) if number % 2 else draw.choice(files)
        other = draw.choice([p for p in store.rglob(f"*{target.suffix}") if p != target])
        whole = target.read_bytes()
        way, data = damaged(whole, other.read_bytes(), draw)
        case = f"case {number}: {way} of {target.relative_to(store)}"
        begin_case(case)
        target.write_bytes(data)
        found.update([_judged(store, right, case, must_be_found=target.suffix == ".h5")])
        target.write_bytes(whole)
    return found


def exchange(path: str) -> dict[str, int]:
    """Exchange the contents and the names of shards, and copy shards into folders of other features."""
    store = Path(path)
    right = expected(store)
    shards = sorted(store.rglob("shard-*.h5"))
    found: Counter[str] = Counter()
    for a in shards:
        for b in shards:
            if a == b:
                continue
            case = f"{a.relative_to(store)} and {b.relative_to(store)}"
            first, second = a.read_bytes(), b.read_bytes()
            begin_case(f"contents of {case} exchanged")
            a.write_bytes(second)
            b.write_bytes(first)
            found.update([_judged(store, right, case, must_be_found=True)])
            a.write_bytes(first)
            b.write_bytes(second)
            for name in {b.name, b.name.replace("shard-0000", "shard-0009")}:
                placed = a.with_name(name)
                if not placed.exists():
                    begin_case(f"{case}: the second beside the first as {name}")
                    placed.write_bytes(second)
                    # rows of the same feature for other samples do no harm; under their right name they are no damage
                    same_feature = a.parent.name == b.parent.name
                    found.update([_judged(store, right, case, must_be_found=not same_feature or name != b.name)])
                    placed.unlink()
    return found


def expected(store: Path, *, mapped: bool = False) -> View:
    """The view that every read must equal."""
    return Store(store).view(["toy1", "toy2"], dataset="d", mapped=mapped)


def same(a: View, b: View) -> bool:
    """Whether two views tell the same about the same samples."""
    told = [(v.ids, v.classes, v.y.tolist(), v.splits, v.groups, v.widths, v.fingerprints) for v in (a, b)]
    return told[0] == told[1] and all(
        np.array_equal(np.asarray(a.blocks[n]), np.asarray(b.blocks[n])) for n in a.blocks
    )


def _judged(store: Path, right: View, case: str, *, must_be_found: bool) -> str:
    """Read the store in every way; `right` or `refused`, and a failure for anything else."""
    refused = False
    for mapped in (False, True):
        view = unless_refused(functools.partial(expected, store, mapped=mapped))
        loaded = None if view is None else unless_refused(functools.partial(same, view, right))
        assert loaded is not False, f"{case}: read as if it were right (mapped={mapped})"
        refused |= loaded is None
    problems = unless_refused(lambda: verify(Store(store)).problems)
    assert problems is None or problems or not must_be_found, f"{case}: verify saw nothing"
    return "refused" if refused else "right"
