"""Pictures on their way to the network: items are functions of seed, epoch and position, whoever makes them."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from cer_fusion.backbones import Examples, OptionError
from cer_fusion.backbones.finetuning.material import Feed, Kept, Pictures, Place, loaded_ahead
from tests.backbones.finetuning.conftest import TINY, examples, face, network

RECIPE = TINY.changed({"randaugment": 2})
PLACES = [
    [Place("train", 3, 0, 0), Place("train", 3, 0, 1), Place("train", 1, 1, 0)],
    [Place("valid", 2)],
    [Place("train", 3, 0, 0), Place("train", 0, 1, 7)],
]


def read(first: int, i: int) -> bytes:
    return face(i % 3, first + i)


def part(n: int, first: int) -> Examples:
    """Examples that can be sent to another process."""
    return examples(n, first=first, read=partial(read, first))


def dataset(pool: ThreadPoolExecutor | None = None, kept: dict[str, Kept] | None = None, seed: int = 0) -> Pictures:
    parts = {"train": part(4, 0), "valid": part(3, 100)}
    return Pictures(network(), parts, kept or {}, RECIPE, seed=seed, pool=pool)


def flat(batches: Any) -> list[list[np.ndarray]]:
    return [[tensor.numpy() for tensor in batch] for batch in batches]


def same(found: list[list[np.ndarray]], wanted: list[list[np.ndarray]]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(np.array_equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))


def test_an_item_depends_on_seed_epoch_and_position_alone() -> None:
    made = dataset()
    first, again, other = (made[place] for place in (PLACES[0][0], PLACES[2][0], PLACES[0][1]))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.picture, other.picture)
    assert not torch.equal(dataset(seed=1)[PLACES[0][0]].picture, first.picture)
    assert not torch.equal(made[PLACES[0][0]._replace(epoch=9)].picture, first.picture)
    assert (first.picture.shape, first.picture.dtype) == ((48, 48, 3), torch.uint8)
    torch.testing.assert_close(made[Place("valid", 2)].picture.numpy(), network().decode(read(100, 2)))


def test_kept_pixels_and_threads_give_the_same_batches_and_draw_no_number_of_the_networks() -> None:
    pixels = np.stack([network().decode(read(0, i)) for i in (3, 0)])
    kept = {"train": Kept(pixels=pixels, slots=np.array([1, -1, -1, 0]))}
    alone = dataset()
    expected = [
        [torch.stack(each).numpy() for each in zip(*(alone[at] for at in places), strict=True)] for places in PLACES
    ]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool, Feed(dataset(pool, kept), processes=0, pin=False) as feed:
        assert same(flat(feed(PLACES)), expected)
        assert same(flat(feed(iter(PLACES[1:]))), expected[1:])
    assert torch.equal(torch.get_rng_state(), state), "a turn must not draw from the generator of dropout"


def test_pixels_and_threads_stay_where_they_are_when_a_dataset_is_sent() -> None:
    big = {"train": Kept(pixels=np.zeros((500, 48, 48, 3), np.uint8), slots=np.zeros(4, np.intp))}
    with ThreadPoolExecutor(1) as pool:
        sent = pickle.dumps(dataset(pool, big))
    assert len(sent) < 50_000
    assert torch.equal(pickle.loads(sent)[PLACES[0][2]].picture, dataset()[PLACES[0][2]].picture)


def test_examples_that_cannot_be_sent_are_refused_where_processes_are_to_read(tune: Any) -> None:
    with pytest.raises(OptionError, match="cannot be sent to reader processes"):
        tune(train=examples(25), reader_processes=1)


def test_batches_are_made_ahead_and_an_error_in_one_comes_where_it_is_asked_for() -> None:
    def source() -> Any:
        yield from (1, 2)
        raise ValueError("third")

    asked = loaded_ahead(source())
    assert [next(asked), next(asked)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(asked)


@pytest.mark.slow
def test_a_training_fed_by_processes_learns_what_one_fed_by_threads_does(tune: Any) -> None:
    parts: dict[str, Any] = {"train": part(25, 0), "valid": part(9, 100), "recipe": RECIPE}
    threads = tune(**parts, output="threads")
    assert tune(**parts, output="processes", reader_processes=1).weights_digest == threads.weights_digest
    assert not multiprocessing.active_children()


def test_each_of_two_processes_opens_and_keeps_its_share_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from cer_fusion.backbones.finetuning import material

    told: list[list[Any]] = []
    read_by: list[list[int]] = [[], []]

    def shared(found: list[Any]) -> list[Any]:
        told.append(found)
        return [each for one in told for each in one]

    monkeypatch.setattr(material, "gather_object", shared)
    for rank in range(2):
        read = partial(told_read, read_by[rank], examples(7, contents={4: b"no picture"}))
        own = range(rank, 7, 2)
        opening = material._Opening(network(), {"train": examples(7, read=read)}, keep=True)
        with ThreadPoolExecutor(1) as pool:
            found = material._opened(
                examples(7),
                material._results(opening, [("train", i) for i in own], pool, 0),
                SimpleNamespace(num_processes=2),  # type: ignore[arg-type]
                side=48,
                room=2,
                progress=lambda _: None,
            )
    assert read_by == [[0, 2, 4, 6], [1, 3, 5]]
    assert (list(found.failed), len(found.examples), len(found.digests)) == (["s0004"], 6, 6)
    assert found.kept.slots.tolist() == [-1, 0, -1, 1, -1, -1]
    assert np.array_equal(found.kept.pixels[1], network().decode(face(0, 3)))


def told_read(log: list[int], whole: Examples, i: int) -> bytes:
    log.append(i)
    return whole.read(i)
