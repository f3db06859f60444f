"""What people give as rows and labels, and what they give by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cer_fusion.fusion import BlockError, Blocks, HeadDataError, Rows, concat, make_head
from cer_fusion.fusion.data.entering import check_labelled, entered_table

WIDTHS = {"vit": 3, "manet": 3}
X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 4
BLOCKS = {"vit": X[:, :3], "manet": X[:, 3:]}
ROWS = Rows(blocks=BLOCKS, y=Y, classes=("a", "b", "c", "d"))


class OnDevice:
    """A tensor on a device whose numbers must be fetched, as one of CUDA is."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.ndim = values, values.shape, values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def detach(self) -> OnDevice:
        return self

    def cpu(self) -> torch.Tensor:
        return torch.tensor(self.values)


def head():
    return make_head("lda", blocks=WIDTHS)


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor(X),
        torch.tensor(X, requires_grad=True),
        OnDevice(X),
        np.asfortranarray(X),
        X.astype(">f4"),
        X.tolist(),
    ],
    ids=["tensor", "in a graph", "on a device", "Fortran", "big endian", "lists"],
)
def test_the_same_numbers_give_the_same_head_however_they_are_held(given):
    expected = head().fit(X, Y).predict_proba(X)
    found = head().fit(given, torch.tensor(Y) if hasattr(given, "cpu") else Y)
    assert np.array_equal(found.predict_proba(given), expected)


def test_labels_may_be_a_tensor_on_a_device():
    assert np.array_equal(head().fit(X, OnDevice(Y)).classes_, [0, 1, 2, 3])


def test_a_tensor_of_bfloat16_is_read_as_what_it_holds():
    rough = torch.tensor(X).bfloat16()
    expected = head().fit(rough.float().numpy(), Y).predict_proba(X)
    assert np.array_equal(head().fit(rough, Y).predict_proba(X), expected)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("rows.npy", r"text 'rows.npy'\n  of a store's rows"),
        (Path("rows.npy"), "text 'rows.npy'"),
        (BLOCKS, r"a dict of vit, manet\n  join its blocks: cer_fusion.fusion.concat"),
        (ROWS, r"however: <Rows: 40 rows.*\n  give rows.x\(\)"),
        (torch.empty((40, 6), device="meta"), "'meta', which holds no numbers"),
        (torch.eye(40, 6).to_sparse(), r"must be dense.*\n  give X.to_dense"),
    ],
    ids=["text", "path", "blocks", "rows", "meta", "sparse"],
)
def test_what_are_no_rows_is_refused_with_what_to_give(given, told):
    for call in (lambda: head().fit(given, Y), lambda: head().fit(X, Y).predict(given)):
        with pytest.raises(HeadDataError, match=told):
            call()


def test_a_mapping_of_blocks_becomes_rows_as_the_message_says():
    assert np.array_equal(entered_table(concat(BLOCKS)), X)


@pytest.mark.parametrize(
    "y",
    [
        [None, *"bcd" * 13],
        np.array(["", *"bcd" * 13]),
        np.array(["", *"bcd" * 13], dtype=object),
        np.r_[-1, Y[1:]],
    ],
    ids=["None", "empty", "empty object", "-1"],
)
def test_a_row_without_a_label_is_no_class_of_its_own(y):
    with pytest.raises(HeadDataError, match=r"y must name the class of every row, however: 1 of 40 .*first: row 0"):
        head().fit(X, y)


@pytest.mark.parametrize("y", [[-1, 1] * 3, [-1, 0, 1], [-2, -1, 0, 1, 2, 3], [0.0, 1.0], [True, False]])
def test_numbers_below_zero_may_be_classes(y):
    check_labelled(y)


def frame(kind: str, columns: list[str]) -> Any:
    library = pytest.importorskip(kind, reason=f"{kind} is not installed")
    return library.DataFrame({name: X[:, i] for i, name in enumerate(columns)})


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_columns_that_say_whose_they_are_must_stand_in_the_order_of_the_blocks(kind):
    named = frame(kind, [f"{name}_{i}" for name in ("vit", "manet") for i in range(3)])
    fitted = head().fit(named, Y)
    assert np.array_equal(fitted.predict_proba(named), head().fit(X, Y).predict_proba(X))
    other = make_head("lda", blocks={"manet": 3, "vit": 3})
    with pytest.raises(BlockError, match=r"column 0 is 'vit_0', expected 'manet_0'\n  give the blocks in"):
        other.fit(named, Y)
    with pytest.raises(BlockError, match="column 0 is 'vit_0'"):  # it was fitted without names, and would only warn
        make_head("lda", blocks={"manet": 3, "vit": 3}).fit(X, Y).predict(named)
    ordered = Blocks("manet", "vit").fit_transform(named)
    assert other.fit(ordered, Y).blocks_ == {"manet": 3, "vit": 3}


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_columns_of_other_names_say_nothing(kind):
    assert head().fit(frame(kind, list("abcdef")), Y).blocks_ == WIDTHS


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_columns_of_texts_are_named(kind):
    library = pytest.importorskip(kind, reason=f"{kind} is not installed")
    mixed = library.DataFrame({"label": ["a"] * 40, "split": ["b"] * 40, "vit_0": X[:, 0]})
    with pytest.raises(HeadDataError, match=r"columns label, split hold texts\n.*Blocks\(\)"):
        make_head("lda").fit(mixed, Y)


def test_a_polars_frame_whose_columns_are_blocks_is_told_as_that():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    blocks = polars.DataFrame({"vit": X[:, :3], "manet": X[:, 3:]})
    for call in (lambda: make_head("lda").fit(blocks, Y), lambda: Blocks("vit").fit(blocks)):
        with pytest.raises(HeadDataError, match=r"columns vit, manet hold arrays.*\n.*view.join\(\)"):
            call()
