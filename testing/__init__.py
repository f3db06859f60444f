"""What heads, backbones, readers of datasets and detectors promise, as checks for the tests of plugins.

Each takes what makes the thing, and raises an `AssertionError` that says which promise does not hold::

    from cer_fusion.testing import check_head

    def test_my_head_keeps_the_promises():
        check_head(lambda **params: PriorHead(**params))

The suites of this package's own heads and backbones run the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..featstore.manifests.adapters import Adapted
    from ..frames import Detector
    from ..fusion.heads.base import Head

__all__ = ["check_backbone", "check_detector", "check_head", "check_reader"]

WIDTHS = {"vit": 12, "manet.local": 8, "manet.multi_scale": 8}
"""The blocks that heads are checked on."""


def check_head(make: Callable[..., Head], *, learns: float | None = 0.8) -> None:
    """Check a head: a scikit-learn classifier over named blocks that refuses what it cannot learn from.

    Beside this, `sklearn.utils.estimator_checks.check_estimator` should pass.

    Parameters
    ----------
    make : callable
        ``make(blocks=..., random_state=...)`` gives an unfitted head, with settings under which it fits quickly.
    learns : float, optional
        Accuracy on new rows of four well-separated classes; None for a head that does not look at rows.

    Raises
    ------
    AssertionError
    """
    from sklearn.base import clone

    X, y = _rows(120, seed=0)
    new, truth = _rows(80, seed=1)
    names = np.array(["d", "b", "a", "c"])
    head = make(blocks=WIDTHS).fit(X, y)
    proba = head.predict_proba(new)
    _promise(proba.shape == (80, 4) and proba.dtype == np.float64, "predict_proba gives float64 (n, k)")
    _promise(bool(np.allclose(proba.sum(axis=1), 1)) and bool((proba >= 0).all()), "probabilities are of unit sum")
    _promise(head.blocks_ == WIDTHS, "blocks_ are the blocks it was told")
    if learns is not None:
        _promise(float((head.predict(new) == truth).mean()) > learns, f"it is right about more than {learns:g} of rows")
    texts = make(blocks=WIDTHS).fit(X, names[y])
    _promise(texts.classes_.tolist() == sorted(names), "labels may be texts, and classes_ are sorted")
    first, again = (make(blocks=WIDTHS, random_state=3).fit(X, y).predict_proba(X) for _ in range(2))
    _promise(np.array_equal(first, again), "the same seed gives the same head")
    copy = clone(head)
    _promise(copy.get_params() == head.get_params() and not hasattr(copy, "classes_"), "a clone has learned nothing")
    spoilt = X.copy()
    spoilt[17, 14] = np.nan
    told = _refused(lambda: make(blocks=WIDTHS).fit(spoilt, y), ValueError)
    _promise("row 17, block 'manet.local', column 2" in told, "NaN is refused by row, block and column")
    told = _refused(lambda: make(blocks=WIDTHS).fit(X, np.zeros(len(y), int)), ValueError)
    _promise("one class only" in told, "rows of one class only are refused")
    _refused(lambda: make(blocks={**WIDTHS, "vit": 13}).fit(X, y), ValueError)
    _refused(lambda: head.predict(X[:, :20]), ValueError)
    rare = y.copy()
    rare[0] = 9
    found = make(blocks=WIDTHS).fit(X, rare).predict_proba(X)
    _promise(found.shape == (120, 5), "a class of one row does not stop it")
    flat = X.copy()
    flat[:, 5], flat[4] = 3.25, 0
    _promise(bool(np.isfinite(make(blocks=WIDTHS).fit(flat, y).predict_proba(flat)).all()), "zeros do no harm")
    state = head.state()
    same = make(blocks=WIDTHS).restore(state, classes=head.classes_, widths=WIDTHS, seed=head.seed_)
    _promise(np.array_equal(same.predict_proba(new), proba), "what state() gives, restore() makes the same head of")


def check_backbone(backbone: Backbone) -> None:
    """Check a backbone: files become rows, equal ones whatever they are embedded with, and its spec is JSON.

    Raises
    ------
    AssertionError
    """
    decoded = [backbone.decode(_picture(form)) for form in ("PNG", "JPEG")]
    side = backbone.transform.size_px
    shaped = all(one.shape == (side, side, 3) and one.dtype == np.uint8 for one in decoded)
    _promise(shaped, "decode gives uint8 (h, w, 3) of the transform's size")
    rows = backbone.embed(np.stack(decoded))
    _promise(list(rows) == list(backbone.blocks), "embed gives the blocks in their order")
    for block, width in backbone.blocks.items():
        ok = rows[block].shape == (2, width) and rows[block].dtype == np.float32 and np.isfinite(rows[block]).all()
        _promise(bool(ok), f"block {block!r} is finite float32 (b, {width})")
        _promise(bool((rows[block][0] != rows[block][1]).any()), f"block {block!r} tells two pictures apart")
    pictures = np.random.default_rng(0).integers(0, 256, (5, side, side, 3)).astype(np.uint8)
    together, alone = backbone.embed(pictures), backbone.embed(pictures[3:4])
    same = all(np.array_equal(together[block][3:4], alone[block]) for block in backbone.blocks)
    _promise(same, "a picture's row has the same bits whatever it is embedded with")
    none = backbone.embed(pictures[:0])
    _promise(all(none[block].shape == (0, w) for block, w in backbone.blocks.items()), "no pictures give no rows")
    wrongs: tuple[Any, ...] = (
        pictures[0],
        pictures.astype(np.float32),
        pictures[:, :-1],
        pictures.transpose(0, 3, 1, 2),
    )
    for wrong in wrongs:
        _promise("must be uint8 of shape" in _refused(lambda: backbone.embed(wrong), ValueError), "shapes are checked")  # noqa: B023
    _promise("empty" in _refused(lambda: backbone.decode(b""), ValueError), "an empty file is refused with a reason")
    spec, text = backbone.spec(), backbone.describe()
    _promise(json.loads(json.dumps(spec)) == spec, "spec is JSON")
    _promise(json.loads(json.dumps(text)) == text, "describe is JSON")
    _promise({"architecture", "options", "weights", "transform", "precision", "code"} <= set(spec), "spec is whole")
    _promise(len(spec["weights"]["digest"]) == 64, "weights are named by a sha256")
    _promise({"name", "blocks", "weights_source", "versions", "device"} <= set(text), "describe is whole")
    _promise("/" not in text["weights_source"], "a file of weights is named without its folder")
    _promise(backbone.spec() == spec, "the spec does not change by being used")


def check_reader(read: Callable[..., Adapted], root: Path | str) -> None:
    """Check a reader of datasets on one of its datasets: a manifest whose pictures are there, the same every time.

    Raises
    ------
    AssertionError
    """
    found, again = read(Path(root)), read(Path(root))
    _promise(len(found.manifest) > 0, "there are samples")
    _promise(
        found.manifest.samples == again.manifest.samples, "the same folder gives the same samples in the same order"
    )
    missing = set(found.missing)
    _promise(missing <= set(found.manifest.ids), "what is missing are ids of the manifest")
    root = found.manifest.root
    if root.is_dir():
        there = [s for s in found.manifest.samples if s.sample_id not in missing]
        _promise(
            all((root / one.path).exists() or ".zip" in one.path for one in there), "pictures are there or missing"
        )
    _promise(all(count > 0 for count in found.left_out.values()), "what is left out is counted by reason")


def check_detector(detector: Detector, picture: Any, box: tuple[float, float, float, float]) -> None:
    """Check a detector on a picture (h, w, 3) uint8 RGB with one face in a box (left, top, right, bottom).

    Raises
    ------
    AssertionError
    """
    from ..frames import overlap

    found = detector.detect(picture)
    _promise(bool(found), "the face is found")
    _promise(overlap(found[0].box, box) > 0.3, "the surest face is where the face is")
    _promise([one.score for one in found] == sorted((one.score for one in found), reverse=True), "the surest is first")
    _promise(detector.detect(np.full_like(picture, 90)) == [], "there is no face in a grey picture")
    identity: Mapping[str, Any] = detector.identity()
    _promise(json.loads(json.dumps(identity)) == identity, "identity is JSON")
    versions = detector.versions()
    _promise(all(isinstance(one, str) for one in (*versions, *versions.values())), "versions are texts")


def _rows(n: int, *, seed: int) -> tuple[Any, Any]:
    """Rows (n, 28) around a centre a class, and their classes 0..3."""
    y = np.arange(n) % 4
    centres, noise = np.random.default_rng(7), np.random.default_rng(seed)
    parts = [centres.normal(size=(4, width))[y] + noise.normal(size=(n, width)) for width in WIDTHS.values()]
    return np.concatenate(parts, axis=1).astype(np.float32), y


def _picture(form: str) -> bytes:
    import io

    from PIL import Image

    across = np.linspace(0, 255, 50)[None, :, None] * np.ones((40, 1, 3)) * [1, 0.7, 0.4]
    if form == "JPEG":
        across = 255 - across
    out = io.BytesIO()
    Image.fromarray(across.astype(np.uint8)).save(out, form)
    return out.getvalue()


def _promise(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"a promise does not hold: {what}")


def _refused(call: Callable[[], object], kind: type[Exception]) -> str:
    """What is said when a call is refused; it must be."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"a promise does not hold: what cannot be meant is refused by a {kind.__name__}")
