"""P11: whatever changes the numbers changes the fingerprint, and rows or heads of two fingerprints never mix."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cer_fusion.backbones import Backbone, create
from cer_fusion.backbones.picture import Transform
from cer_fusion.featstore import Store, extract, verify
from cer_fusion.featstore.errors import FingerprintError
from cer_fusion.featstore.rows.feature import FeatureSpec, differences
from cer_fusion.fusion import HeadMismatchError, load_head, make_head, save_head
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.nesting import changed, leaves
from tests.reliability.samples import filled


@pytest.fixture(scope="module", params=["resnet50", "vit", "manet"])
def backbone(request: pytest.FixtureRequest) -> Iterator[Backbone]:
    """Each of the paper's networks, with random weights; one at a time, since they are large."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield create(request.param, weights="random")
    torch.set_num_threads(threads)


def stepped(value: Any) -> Any:
    """The same kind of value, changed as little as it can be."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) + 1) if value else "x"
    return 0


def feature_spec(embedder: Any, **other: Any) -> FeatureSpec:
    """What `extract` would make of this embedder."""
    return FeatureSpec(**{"name": "f", "identity": embedder.spec(), "blocks": dict(embedder.blocks)} | other)


def all_steps(spec: FeatureSpec) -> dict[str, FeatureSpec]:
    """The feature with each field of its identity changed by one step, by the field's dotted name."""
    found = {}
    for path, value in leaves(spec.identity):
        name = ".".join(map(str, itertools.takewhile(lambda key: isinstance(key, str), path)))
        found[".".join(map(str, path))] = (name, changed(spec.identity, path, stepped(value)))
    steps = {at: (name, dataclasses.replace(spec, identity=identity)) for at, (name, identity) in found.items()}
    first, *rest = spec.blocks.items()
    blocks = {
        "width": {**spec.blocks, first[0]: first[1] + 1},
        "name": {f"{first[0]}x": first[1], **dict(rest)},
        "one more": {**spec.blocks, "extra": 1},
    }
    if rest:
        blocks |= {"order": dict([*rest, first]), "one less": dict(rest)}
    steps |= {f"blocks: {what}": ("blocks", dataclasses.replace(spec, blocks=b)) for what, b in blocks.items()}
    steps["dtype"] = ("dtype", dataclasses.replace(spec, dtype="float16"))
    for at, (name, step) in steps.items():
        assert [field for field, _, _ in differences(spec, step)] == [name], f"{at} is not told as {name}"
    return {at: step for at, (_, step) in steps.items()}


def test_each_field_of_a_networks_identity_is_seen(backbone, figure):
    spec = feature_spec(backbone)
    steps = all_steps(spec)
    assert len({spec.fingerprint, *(step.fingerprint for step in steps.values())}) == len(steps) + 1
    for field in ("architecture", "weights.digest", "precision", "code", "transform.probe", "transform.interpolation"):
        assert field in steps
    figure("P11", f"{backbone.name}: {len(steps)} fields each changed by one step: all seen, each told by name")


def test_each_field_of_the_toy_identity_is_seen():
    spec = feature_spec(ToyEmbedder(tap="a", flow=[1, 2.5, None, True]))
    steps = all_steps(spec)
    assert len({spec.fingerprint, *(step.fingerprint for step in steps.values())}) == len(steps) + 1


def test_each_change_to_a_transform_is_a_change_of_identity(figure):
    base = Transform(size_px=24, crop_pct=0.9, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    changes: list[dict[str, Any]] = [
        {"size_px": 25}, {"resize": "shorter"}, {"crop_pct": 0.8}, {"interpolation": "bicubic"},
        {"interpolation": "lanczos"}, {"interpolation": "nearest"}, {"mean": (0.1, 0.3, 0.2)},
        {"mean": (0.1, 0.2, 0.31)}, {"std": (0.5, 0.4, 0.6)}, {"colour": "BGR"}, {"scale": "0-255"},
    ]  # fmt: skip
    assert {key for change in changes for key in change} == {field.name for field in dataclasses.fields(Transform)}
    found = [dataclasses.replace(base, **change).identity() for change in changes]
    assert all(one != base.identity() for one in found)
    numbers = {"mean", "std", "colour", "scale"}  # what happens to pixels after decoding
    pixels = [one["probe"] for change, one in zip(changes, found, strict=True) if not numbers & set(change)]
    assert base.probe() not in pixels, "what changes pixels must change the probe of the pixels too"
    figure("P11", f"{len(changes)} changes to the transform: all seen")


@pytest.mark.slow
def test_each_choice_of_a_network_is_a_change_of_identity(figure):
    """Built for real: taps, sizes, precision and one bit of one weight."""
    plain = create("resnet50", weights="random", seed=3)
    base = feature_spec(plain)
    assert feature_spec(create("resnet50", weights="random", seed=3)).fingerprint == base.fingerprint
    others = {
        "options.tap": create("resnet50", weights="random", seed=3, tap="pool2048"),
        "options.img_size": create("resnet50", weights="random", seed=3, img_size=96),
        "transform.crop_pct": create("resnet50", weights="random", seed=3, crop_pct=0.875),
        "precision": create("resnet50", weights="random", seed=3, precision="bfloat16"),
        "weights.digest": create("resnet50", weights="random", seed=4),
    }
    for field, other in others.items():
        assert field in [name for name, _, _ in differences(base, feature_spec(other))]
    module: Any = plain.module  # type: ignore[attr-defined]
    weight = next(p for p in module.parameters() if p.ndim == 4)
    with torch.no_grad():
        weight[1, 0, 0, 0] = torch.nextafter(weight[1, 0, 0, 0], torch.tensor(math.inf))
    assert [field for field, _, _ in differences(base, feature_spec(plain))] == ["weights.digest"]
    figure("P11", f"{len(others)} choices of a real network and 1 bit of 1 of 23,508,032 weights: all seen")


def test_rows_of_two_fingerprints_never_stand_in_one_folder(tmp_path, figure):
    """A shard of every one-step neighbour, dropped into the feature's folder."""
    store, manifest = filled(tmp_path)
    feature = store.feature("toy")
    rows = store.view(["toy"]).join()
    tried = 0
    for options, dtype in (({"tap": 1}, "float32"), ({"tap": 2}, "float32"), ({}, "float16")):
        other = Store.create(tmp_path / f"other{tried}")
        extract(ToyEmbedder(**options), manifest, other, dataset="d", shard_rows=8, dtype=dtype)
        stranger = other.feature("toy")
        placed = Path(shutil.copy(stranger.shard_paths()[0], feature.folder))
        ours, theirs = feature.spec.fingerprint[:12], stranger.spec.fingerprint[:12]
        message = rf"belongs to another feature: expected fingerprint {ours}(.|\n)*{theirs}"
        for mapped in (False, True):
            with pytest.raises(FingerprintError, match=message):
                Store(store.path).view(["toy"], mapped=mapped)
        with pytest.raises(FingerprintError, match=message):
            extract(ToyEmbedder(), manifest, Store(store.path), dataset="d")
        assert any("belongs to another feature" in p.what for p in verify(Store(store.path)).problems)
        placed.unlink()
        tried += 1
    np.testing.assert_array_equal(Store(store.path).view(["toy"]).join(), rows)
    figure("P11", f"{tried} foreign shards in a feature's folder: refused by view, extract and verify, naming both")


def test_a_feature_json_of_another_feature_is_refused(tmp_path):
    store, manifest = filled(tmp_path)
    extract(ToyEmbedder("other", tap=2), manifest, store, dataset="d")
    toy, other = store.feature("toy").folder, store.feature("other").folder
    shutil.copy(other / "feature.json", toy / "feature.json")
    with pytest.raises(Exception, match="moved here by hand"):
        Store(store.path).view(["toy"])
    assert len(Store(store.path).view(["other"])) == len(manifest)


def test_a_shard_that_claims_the_fingerprint_with_other_numbers_is_refused(tmp_path, monkeypatch):
    """Its fingerprint is right and its rows are stored as another type, or in another width: it was made by hand."""
    from cer_fusion.featstore.rows.shard import Rows, encode

    store, _ = filled(tmp_path, 10, shard_rows=10)
    feature, view = store.feature("toy"), store.view(["toy"])
    path = feature.shard_paths()[0]
    path.unlink()
    left, right = (np.array(view.blocks[f"toy.{name}"]) for name in ("left", "right"))
    forms: dict[str, dict[str, np.ndarray]] = {
        "float16": {"left": left.astype(np.float16), "right": right.astype(np.float16)},
        "one of them float16": {"left": left, "right": right.astype(np.float16)},
        "wider": {"left": np.hstack([left, left]), "right": right},
        "without a block": {"left": left},
        "with another block": {"left": left, "right": right, "more": left},
    }
    for form, blocks in forms.items():
        rows = Rows(ids=view.ids, image_digests=[""] * len(view), blocks=blocks)
        name, data = encode(rows, fingerprint=feature.spec.fingerprint, index=0)
        (feature.folder / name).write_bytes(data)
        for mapped in (False, True):
            with pytest.raises(FingerprintError, match="belongs to another feature"):
                read(store, mapped, form)
        (feature.folder / name).unlink()


def read(store: Store, mapped: bool, form: str) -> None:
    """Look at every row; `form` is what a failure shows."""
    view = Store(store.path).view(["toy"], mapped=mapped)
    for block in view.blocks.values():
        assert np.asarray(block).shape[0] == len(view), form


def test_a_head_is_not_used_on_another_fingerprint(tmp_path, figure):
    """Each one-step neighbour of the feature that it learned from is refused, naming the feature."""
    store, _ = filled(tmp_path)
    view = store.view(["toy"], split="train")
    head = make_head("linear", blocks=view.widths).fit(view.join(), view.y)
    save_head(head, tmp_path / "head", fingerprints=view.fingerprints, class_set=view.classes)
    load_head(tmp_path / "head", blocks=view.widths, fingerprints=view.fingerprints, classes=view.classes)
    spec = store.feature("toy").spec
    steps = all_steps(spec)
    for step in steps.values():
        message = f"learned from toy@{spec.fingerprint[:12]}, found toy@{step.fingerprint[:12]}"
        with pytest.raises(HeadMismatchError, match=message):
            load_head(tmp_path / "head", fingerprints={"toy": step.fingerprint})
    figure("P11", f"a head on {len(steps)} neighbours of its feature: all refused, naming both fingerprints")
