from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from cer_fusion.kit import NOT_FINITE, NOT_KEPT, CerError, DocumentError, from_plain, seal, to_plain, unseal
from tests.kit import PATIENT

FloatArray = NDArray[np.float64]


class OursError(CerError, ValueError):
    pass


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    value: FloatArray
    alike: NDArray[np.bool_]
    confusion: NDArray[np.int64]
    recall: FloatArray = field(metadata=NOT_FINITE)
    rows: NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Everything:
    name: str
    n: int
    share: float
    is_done: bool
    kind: Literal["head", "single"]
    place: Path
    seed: int | str
    p: float | None
    interval: Interval | None
    blocks: tuple[tuple[str, int], ...]
    words: list[str]
    intervals: Mapping[str, Interval]
    groups: Mapping[str, tuple[str, ...]]
    params: Mapping[str, Any]
    spread: tuple[float, ...] = field(metadata=NOT_FINITE)
    letters: str = ""
    fitted: Any = field(default=None, metadata=NOT_KEPT)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTERVALS = st.builds(lambda a, b: Interval(low=min(a, b), high=max(a, b)), FLOATS, FLOATS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVERYTHING = st.builds(
    Everything,
    name=st.text(),
    n=st.integers(),
    share=FLOATS,
    is_done=st.booleans(),
    kind=st.sampled_from(["head", "single"]),
    place=st.sampled_from([Path("a/b"), Path("/x")]),
    seed=st.integers() | st.text(),
    p=st.none() | FLOATS,
    interval=st.none() | INTERVALS,
    blocks=st.lists(st.tuples(st.text(), st.integers())).map(tuple),
    words=st.lists(st.text()),
    intervals=st.dictionaries(st.text(), INTERVALS, max_size=3),
    groups=st.dictionaries(st.text(), st.lists(st.text(), max_size=3).map(tuple), max_size=3),
    params=st.dictionaries(st.text(), JSON, max_size=3),
    spread=st.lists(FLOATS | st.sampled_from([math.inf, -math.inf])).map(tuple),
    letters=st.text(),
)
SHAPES = st.sampled_from([(0,), (3,), (2, 3), (3, 0), (2, 1, 2), ()])


def example(**changes: Any) -> dict[str, Any]:
    plain = to_plain(
        Everything(
            name="x", n=1, share=0.5, is_done=True, kind="head", place=Path("a"), seed=1, p=None,
            interval=Interval(low=0, high=1), blocks=(("vit", 768),), words=[], intervals={}, groups={}, params={},
            spread=(math.nan,),
        )
    )  # fmt: skip
    return {**plain, **changes}


@PATIENT
@given(EVERYTHING)
def test_a_dataclass_comes_back_from_a_sealed_document_as_it_was(whole):
    data = seal(to_plain(whole), kind="t", version=1)
    assert from_plain(Everything, unseal(data, kind="t", version=1)) == whole


@PATIENT
@given(
    value=arrays.arrays(np.float64, SHAPES, elements=FLOATS),
    alike=arrays.arrays(np.bool_, SHAPES),
    confusion=arrays.arrays(np.int64, SHAPES),
    recall=arrays.arrays(np.float64, SHAPES),
    rows=st.none()
    | arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
def test_arrays_come_back_with_their_shapes_dtypes_and_bits(**values):
    plain = json.loads(json.dumps(to_plain(Curve(**values)), allow_nan=False))
    found = from_plain(Curve, plain)
    for name, value in values.items():
        got = getattr(found, name)
        if value is None:
            assert got is None
            continue
        assert (got.dtype, got.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(got, value)


def test_a_field_that_is_not_kept_is_neither_written_nor_read():
    plain = example()
    assert "fitted" not in plain
    with pytest.raises(DocumentError, match="unknown keys: 'fitted'"):
        from_plain(Everything, plain | {"fitted": 1})


def test_unknown_and_missing_keys_are_refused_with_where():
    with pytest.raises(OursError, match=r"the run\.interval lacks the keys: 'high'"):
        from_plain(Everything, example(interval={"low": 0}), "the run", error=OursError)
    with pytest.raises(OursError, match=r"the run has unknown keys: 'leters' \(did you mean 'letters'"):
        from_plain(Everything, example(leters="a"), "the run", error=OursError)
    plain = example()
    del plain["letters"]
    with pytest.raises(DocumentError, match="Everything lacks the keys: 'letters'"):
        from_plain(Everything, plain)
    assert from_plain(Everything, plain, defaults=True).letters == ""
    del plain["name"]
    with pytest.raises(DocumentError, match="lacks the keys: 'name'"):
        from_plain(Everything, plain, defaults=True)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": 1}, r"run\.name must be of type str, however: 1"),
        ({"name": None}, r"run\.name"),
        ({"n": 1.0}, r"run\.n must be of type int"),
        ({"n": True}, r"run\.n"),
        ({"share": "0.5"}, r"run\.share must be a finite number"),
        ({"share": True}, r"run\.share"),
        ({"share": "NaN"}, r"run\.share"),
        ({"share": math.inf}, r"run\.share"),
        ({"share": 10**400}, r"run\.share"),
        ({"is_done": 1}, r"run\.is_done"),
        ({"kind": "both"}, r"run\.kind must be one of 'head', 'single', however: 'both'"),
        ({"kind": []}, r"run\.kind"),
        ({"place": 3}, r"run\.place"),
        ({"seed": 1.5}, r"run\.seed"),
        ({"p": "x"}, r"run\.p"),
        ({"interval": []}, r"run\.interval must be of type dict"),
        ({"blocks": [["vit"]]}, r"run\.blocks\[0\] must hold 2 values, however: 1"),
        ({"blocks": [["vit", "768"]]}, r"run\.blocks\[0\]\[1\]"),
        ({"blocks": "vit"}, r"run\.blocks"),
        ({"intervals": {"a": {"low": 0, "high": None}}}, r"run\.intervals\.a\.high"),
        ({"groups": {"a": ["b", 1]}}, r"run\.groups\.a\[1\]"),
        ({"params": []}, r"run\.params"),
        ({"spread": ["nan"]}, r"run\.spread\[0\] must be a number"),
        ({"spread": [10**400]}, r"run\.spread\[0\]"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_where(changes, where):
    with pytest.raises(OursError, match=where):
        from_plain(Everything, example(**changes), "run", error=OursError)


@pytest.mark.parametrize(
    "value", [[["1"]], [[1], [1, 2]], [[1], [[2]]], [1, [2]], [True], [None], {}, "x", [10**400], ["NaN"], [math.nan]]
)
def test_an_array_of_other_things_is_refused(value):
    with pytest.raises(DocumentError, match=r"Curve\.value must be an array of"):
        from_plain(Curve, {"value": value, "alike": [], "confusion": [], "recall": [], "rows": None})


@pytest.mark.parametrize(
    ("name", "value"),
    [("confusion", [1.0]), ("confusion", [2**63]), ("alike", [1]), ("recall", ["nan"]), ("rows", [1e300])],
)
def test_numbers_that_a_dtype_cannot_hold_are_refused(name, value):
    plain = {"value": [], "alike": [], "confusion": [], "recall": [], "rows": None}
    with pytest.raises(DocumentError, match=rf"Curve\.{name} must be an array of"):
        from_plain(Curve, plain | {name: value})


def test_what_a_class_refuses_is_said_with_where_and_keeps_its_own_class():
    with pytest.raises(
        OursError, match=r"run\.interval holds values that do not go together: low 2\.0 is above high 1"
    ):
        from_plain(Everything, example(interval={"low": 2, "high": 1}), "run", error=OursError)

    class FinerError(OursError):
        pass

    @dataclass(frozen=True)
    class Picky:
        n: int

        def __post_init__(self) -> None:
            raise FinerError("too few\n  take more")

    with pytest.raises(FinerError, match=r"^too few\n  take more\n  in: the pick$"):
        from_plain(Picky, {"n": 1}, "the pick", error=OursError)


@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": object()}, {1: "a"}, {"a": np.array(["x"])}, {"a": {1}}])
def test_what_has_no_json_form_is_refused_when_writing(value):
    with pytest.raises(OursError, match=r"^the params"):
        to_plain(value, where="the params", error=OursError)
    with pytest.raises(OursError, match="must be finite"):
        to_plain(np.array([0.0, math.inf]), error=OursError)


def test_scalars_of_numpy_are_plain_numbers():
    plain = to_plain({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": (np.float64(1), Path("x"))})
    assert json.dumps(plain) == '{"a": 0.5, "b": 3, "c": true, "d": [1.0, "x"]}'
