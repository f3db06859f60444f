from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cer_fusion.fusion.errors import PredictionsError
from cer_fusion.fusion.keeping.answers import FIXED, Predictions, read_predictions, write_predictions

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), min_size=1, max_size=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "predictions.csv"


def small(**changes: object) -> Predictions:
    given = {
        "ids": ("a/1", "b,2"),
        "classes": ("Sadly_Angry", "Sadly_Fearful"),
        "proba": np.array([[0.25, 0.75], [0.5, 0.5]]),
        "labels": ("Sadly_Fearful", None),
    }
    return Predictions(**given | changes)


def test_a_file_of_predictions_is_a_plain_csv(path):
    write_predictions(path, small())
    assert path.read_text() == (
        "sample_id,label,predicted,Sadly_Angry,Sadly_Fearful\n"
        "a/1,Sadly_Fearful,Sadly_Fearful,0.25,0.75\n"
        '"b,2",,Sadly_Angry,0.5,0.5\n'
    )


@given(
    st.data(),
    st.lists(text, unique=True, min_size=1, max_size=4),
    st.lists(text, unique=True, max_size=4).map(tuple),
)
def test_predictions_survive_their_file_exactly(tmp_path_factory, data, classes, ids):
    classes = tuple(name for name in classes if name.strip() and name not in FIXED) or ("x",)
    proba = data.draw(hnp.arrays(np.float32, (len(ids), len(classes)), elements=st.floats(0, 1, width=32)))
    labels = tuple(data.draw(st.sampled_from([None, *classes])) for _ in ids)
    given = Predictions(ids=ids, classes=classes, proba=proba.astype(np.float64), labels=labels)
    again = read_predictions(write_predictions(tmp_path_factory.mktemp("p") / "p.csv", given))
    assert (again.ids, again.classes) == (ids, classes)
    assert (again.proba == proba).all()
    assert again.labels == (labels if any(label is not None for label in labels) else None)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    write_predictions(path, small())
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_predictions(path, small(proba=np.array([[1.0, 0.0], [0.0, 1.0]])))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proba": np.zeros((3, 2))}, "shape"),
        ({"proba": np.array([[np.nan, 0], [0, 1]])}, "finite"),
        ({"ids": ("a", "a")}, "different"),
        ({"ids": ("a", "")}, "not empty"),
        ({"classes": ("x", "x")}, "different"),
        ({"classes": ("label", "x"), "labels": None}, "name of a column"),
        ({"labels": ("Happily_Sad", None)}, "unknown: Happily_Sad"),
        ({"labels": ("Sadly_Angry",)}, "1 for 2 rows"),
    ],
)
def test_predictions_that_could_not_be_read_back_are_refused(changes, message):
    with pytest.raises(PredictionsError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"p\.csv:1: expected the columns sample_id"),
        ("sample_id,label,predicted\n", r"p\.csv:1"),
        ("sample_id,label,predicted,a,b\n1,,a,1\n", r"p\.csv:2: expected 5 cells, however: 4"),
        ("sample_id,label,predicted,a,b\n1,,a,1,x\n", r"p\.csv:2: could not convert"),
        ("sample_id,label,predicted,a,b\n1,,b,1,0\n", r"p\.csv:2: predicted 'b', but 'a'"),
        ("sample_id,label,predicted,a,b\n1,,a,nan,0\n", "finite"),
        ('sample_id,label,predicted,a,b\n"1,,a,nan,0\n', r"p\.csv:2: a quote is never closed"),
    ],
)
def test_a_file_that_is_no_predictions_is_refused_with_file_and_line(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(PredictionsError, match=message):
        read_predictions(tmp_path / "p.csv")


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(PredictionsError, match=r"gone\.csv"):
        read_predictions(tmp_path / "gone.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PredictionsError, match=r"b\.csv:1: not utf-16 text"):
        read_predictions(tmp_path / "b.csv")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_predictions_that_a_spreadsheet_saved_again_are_read(tmp_path, separator):
    text = "sample_id,label,predicted,a,b\n1,b,a,0.75,0.25\n2,,b,1E-05,0.99999\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    (tmp_path / "s.csv").write_bytes(text.replace(",", separator).replace(".", ",").encode("utf-16"))
    first, again = read_predictions(tmp_path / "p.csv"), read_predictions(tmp_path / "s.csv")
    assert (again.ids, again.labels, again.proba.tolist()) == (first.ids, first.labels, first.proba.tolist())


@pytest.mark.parametrize(
    "save",
    [
        lambda text: b"sep=;\r\n" + text.replace(",", ";").replace(".", ",").replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace("\n", ",,\r").encode("utf-8-sig"),
        lambda text: text.replace("sample_id,label,predicted", "Sample ID,Label,PREDICTED").encode() + b",,,,\n\n",
        lambda text: text.replace(",", ";").replace("a/1", '"a,1"').encode(),
    ],
)
def test_predictions_are_read_however_a_spreadsheet_saved_them(path, save):
    text = write_predictions(path, small(ids=("a/1", "b2"))).read_text()
    path.write_bytes(save(text))
    found = read_predictions(path)
    assert found.ids in {("a/1", "b2"), ("a,1", "b2")}
    assert (found.classes, found.labels) == (small().classes, small().labels)
    assert (found.proba == small().proba).all()


def test_the_line_of_a_fault_counts_excels_first_line(path):
    write_predictions(path, small()).write_text("sep=,\nsample_id,label,predicted,x\na,,x,much\n")
    with pytest.raises(PredictionsError, match=r"predictions\.csv:3: could not convert"):
        read_predictions(path)
