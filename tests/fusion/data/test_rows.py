from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cer_fusion.fusion.data.joined import JoinedRows
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import BlockError, ReportError
from tests.fusion.lazy import LazyBlock


def blocks(n: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    widths = {"vit": 3, "manet.local": 2, "manet.multi_scale": 2}
    return {name: rng.normal(size=(n, d)).astype(np.float32) for name, d in widths.items()}


def rows(**changes: object) -> Rows:
    given = {"blocks": blocks(), "y": np.array([0, 1, 0, 1, 2, 2]), "classes": ("a", "b", "c")} | changes
    return Rows(**given)


def test_rows_know_their_widths_supports_and_features():
    found = rows()
    assert found.widths == {"vit": 3, "manet.local": 2, "manet.multi_scale": 2}
    assert found.supports.tolist() == [2, 2, 2]
    assert found.by_feature() == {"vit": ("vit",), "manet": ("manet.local", "manet.multi_scale")}
    assert found.names[:2] == ("row 0", "row 1")


def test_the_joined_matrix_keeps_the_order_of_the_blocks():
    found = rows()
    assert (found.x() == np.hstack(list(found.blocks.values()))).all()
    assert found.x().dtype == np.float32


def test_named_features_may_hold_dots():
    """A timm tag holds dots of its own: only the named features tell where the block's name begins."""
    names = ("timm:vit.a", "timm:vit.b", "manet")
    given = {"timm:vit.a": blocks()["vit"], "timm:vit.b": blocks()["vit"], "manet.local": blocks()["manet.local"]}
    found = rows(blocks=given, features=names)
    assert found.by_feature() == {
        "timm:vit.a": ("timm:vit.a",),
        "timm:vit.b": ("timm:vit.b",),
        "manet": ("manet.local",),
    }


def test_a_view_becomes_rows():
    view = SimpleNamespace(
        blocks=blocks(),
        y=np.array([0, 1, 0, 1, 2, 2]),
        classes=("a", "b", "c"),
        ids=[f"s{i}" for i in range(6)],
        groups=["v1", "v1", "", "", "v2", "v3"],
        fingerprints={"vit": "12", "manet": "ab"},
    )
    found = Rows.of(view)
    assert found.split == ""  # such a view knows none
    view.splits = ("valid",) * 5 + ("train",)
    assert (Rows.of(view).split, Rows.of(view, where=range(5)).split) == ("", "valid")
    assert found.ids == ("s0", "s1", "s2", "s3", "s4", "s5")
    assert found.fingerprints == {"vit": "12", "manet": "ab"}
    assert found.clusters is not None
    assert len(set(found.clusters)) == 5


def lazy_view() -> SimpleNamespace:
    return SimpleNamespace(
        blocks={name: LazyBlock(block) for name, block in blocks().items()},
        y=np.array([0, -1, 0, 1, 2, 2]),
        classes=("a", "b", "c"),
        ids=[f"s{i}" for i in range(6)],
        groups=["v1", "v1", "", "", "v2", "v3"],
        fingerprints={"vit": "12", "manet": "ab"},
    )


@pytest.mark.parametrize("where", [[True, False, True, True, False, True], [0, 2, 3, 5]], ids=["mask", "positions"])
def test_rows_of_a_split_are_taken_from_a_view_without_reading_it(where):
    view = lazy_view()
    found = Rows.of(view, load=False, where=where)
    assert (found.ids, found.groups) == (("s0", "s2", "s3", "s5"), ("v1", "", "", "v3"))
    assert found.y.tolist() == [0, 0, 1, 2]
    x = found.only(["vit", "manet.local"]).take(np.array([3, 0])).x()
    assert isinstance(x, JoinedRows)
    assert all(len(asked) == 0 for block in view.blocks.values() for asked in block.asked)
    expected = np.hstack([blocks()["vit"], blocks()["manet.local"]])[[5, 0]]
    np.testing.assert_array_equal(np.asarray(x), expected)


def test_loading_some_rows_of_a_view_reads_only_those():
    view = lazy_view()
    found = Rows.of(view, where=view.y >= 0)
    assert isinstance(found.x(), np.ndarray)
    np.testing.assert_array_equal(found.blocks["vit"], blocks()["vit"][[0, 2, 3, 4, 5]])
    assert view.blocks["vit"].largest == 5


@pytest.mark.parametrize("groups", [None, ("",) * 6, ("a", "b", "c", "d", "e", ""), tuple("abcdef")])
def test_groups_that_nobody_shares_are_no_clusters(groups):
    assert rows(groups=groups).clusters is None


def test_taking_rows_keeps_everything_aligned():
    found = rows(ids=tuple("uvwxyz"), groups=("g", "g", "", "", "h", "h")).take(np.array([4, 0]))
    assert found.ids == ("y", "u")
    assert found.groups == ("h", "g")
    assert found.y.tolist() == [2, 0]
    assert (found.blocks["vit"] == blocks()["vit"][[4, 0]]).all()


def test_taking_blocks_follows_the_order_asked_for():
    assert list(rows().only(["manet.local", "vit"]).blocks) == ["manet.local", "vit"]
    with pytest.raises(ReportError, match=r"'manet.lokal'.*'manet.local'"):
        rows().only(["manet.lokal"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.array([0, 1])}, ReportError, "y 2"),
        ({"ids": ("a",)}, ReportError, "ids 1"),
        ({"groups": ("a",)}, ReportError, "groups 1"),
        ({"ids": ("a", "a", "b", "c", "d", "e")}, ReportError, "twice"),
        ({"y": np.array([0, 1, 0, 1, 2, 3])}, ReportError, r"outside 0\.\.2"),
        ({"blocks": blocks(0), "y": np.array([], dtype=np.int64)}, ReportError, "no rows"),
        ({"blocks": {}}, BlockError, "no block"),
        ({"blocks": {"vit": np.zeros(6, np.float32)}}, BlockError, "shape"),
        ({"features": ("resnet50",)}, ReportError, "none of the features"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        rows(**changes)
