"""P14: faults in labels, splits and lists of samples are told with file and line, and with what to do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cer_fusion.featstore import Manifest, Store, class_set, extract
from cer_fusion.featstore.errors import FeatstoreError, ManifestError
from cer_fusion.featstore.rows import files
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.samples import listed

HEAD = "sample_id,path,label,split,group\n"
GOOD = "a,a.png,Sadly Angry,train,v1\nb,b.png,Sadly Fearful,test,v2\n"
PLAIN = HEAD + GOOD

# what stands in m.csv, the line that the message must name (None: the file alone), and what it must say
FAULTS: dict[str, tuple[str | bytes, int | None, str]] = {
    "unknown label": (HEAD + "a,a.png,Sadly Angri,train,\n", 2, "did you mean 'Sadly Angry'"),
    "label in lower case": (HEAD + "a,a.png,sadly angry,train,\n", 2, "did you mean 'Sadly Angry'"),
    "label with underscore": (HEAD + "a,a.png,Sadly_Angry,train,\n", 2, "did you mean 'Sadly Angry'"),
    "label of another class set": (HEAD + "a,a.png,Happy,train,\n", 2, "is not in class set 'abaw7'"),
    "label as a number": (HEAD + "a,a.png,7,train,\n", 2, "label '7' is not in class set"),
    "label as a float": (HEAD + GOOD + "c,c.png,7.0,train,\n", 4, "label '7.0' is not in class set"),
    "label nan": (HEAD + "a,a.png,nan,train,\n", 2, "label 'nan' is not in class set"),
    "label with another letter of the same look": (HEAD + "a,a.png,Ѕadly Angry,train,\n", 2, "did you mean"),
    "label with two blanks": (HEAD + "a,a.png,Sadly  Angry,train,\n", 2, "did you mean 'Sadly Angry'"),
    "label with a line end in it": (HEAD + 'a,a.png,"Sadly\nAngry",train,\n', 3, "did you mean 'Sadly Angry'"),
    "sample twice": (PLAIN + "a,c.png,,,\n", 4, "stands twice, first at"),
    "sample twice but for blanks": (PLAIN + " a ,c.png,,,\n", 4, "'a' stands twice, first at"),
    "no sample id": (PLAIN + ",c.png,,,\n", 4, "must not be empty"),
    "no path": (PLAIN + "c,,,,\n", 4, "must not be empty"),
    "blank sample id": (PLAIN + "   ,c.png,,,\n", 4, "must not be empty"),
    "control character in an id": (PLAIN + "c\x07,c.png,,,\n", 4, "control characters"),
    "NUL in an id": (PLAIN + "c\0d,c.png,,,\n", 4, "NUL|control characters"),
    "group in two splits": (
        PLAIN + "c,c.png,,test,v1\n",
        4,
        "two splits, 'train' and 'test'(.|\n)*give all its rows one",
    ),
    "group with and without a split": (PLAIN + "c,c.png,,,v1\n", 4, "'train' and ''(.|\n)*give all its rows one split"),
    "too many fields": (PLAIN + "c,c.png,,,,\n", 4, "expected 5 fields, however: 6"),
    "too few fields": (PLAIN + "c,c.png\n", 4, "expected 5 fields, however: 2"),
    "comma in a path without quotes": (PLAIN + "c,my, c.png,,,\n", 4, "expected 5 fields, however: 6"),
    "no header": (GOOD, 1, "no column 'sample_id'(.|\n)*--id-column"),
    "another name for the id": (PLAIN.replace("sample_id", "id"), 1, "no column 'sample_id'(.|\n)*--id-column"),
    "no path column": ("sample_id,label\na,\n", 1, "no column 'path'(.|\n)*--path-column"),
    "misspelt column": (PLAIN.replace("split", "spilt"), 1, "unknown column 'spilt'; did you mean 'split'"),
    "column twice": (PLAIN.replace("group", "split"), 1, "a column stands twice"),
    "quote never closed": (PLAIN + 'c,"c.png,,,\n', 4, "a quote is never closed"),
    "empty file": ("", None, "is empty: expected a header .*sample_id, ?path"),
    "blank lines alone": ("\n\n\n", None, "is empty: expected a header"),
    "header alone": (HEAD, None, "no samples"),
    "not UTF-8": (PLAIN.encode() + b"\xe4,c.png,,,\n", 4, r"not UTF-8 text \(byte \d+\): save it as CSV UTF-8"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), None, "not UTF-8 text(.|\n)*save it as CSV UTF-8"),
}

# what is no fault: the same samples as in PLAIN
HARMLESS: dict[str, str | bytes] = {
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "UTF-16": PLAIN.encode("utf-16"),
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons, and a line that says so": "sep=;\n" + PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "column in upper case": PLAIN.replace("label", "Label"),
    "blank lines": PLAIN.replace("\n", "\n\n") + "\n\n",
    "lines of commas": PLAIN + ",,,,\n",
    "no line end": PLAIN.rstrip("\n"),
    "blanks around": PLAIN.replace(",", " , "),
    "quotes": '"sample_id",path,label,split,group\n"a","a.png","Sadly Angry",train,"v1"\n' + GOOD.split("\n")[1],
    "columns in another order": "group,split,label,path,sample_id\n"
    "v1,train,Sadly Angry,a.png,a\nv2,test,Sadly Fearful,b.png,b\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where m.csv goes; its class list lies there already."""
    listed(tmp_path / "pictures", 2).write(tmp_path / "m.csv")
    return tmp_path / "m.csv"


def put(path: Path, text: str | bytes) -> Path:
    """Write the text as it is."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_its_line_and_its_remedy(fault, place):
    text, line, message = FAULTS[fault]
    where = re.escape(str(place)) + (f":{line}: " if line else ".*")
    with pytest.raises(ManifestError, match=f"{where}(.|\n)*({message})"):
        Manifest.read(put(place, text))


@pytest.mark.parametrize("oddity", HARMLESS)
def test_what_spreadsheets_do_to_a_file_makes_no_difference(oddity, place):
    assert Manifest.read(put(place, HARMLESS[oddity])).samples == Manifest.read(put(place, PLAIN)).samples


def test_a_store_refuses_the_faults_too_and_keeps_its_list(place, tmp_path, figure):
    """A list that somebody edits inside a store is read with the same care."""
    store, manifest = Store.create(tmp_path / "store"), listed(tmp_path / "pictures", 6)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    inside = store.path / "d" / "manifest.csv"
    for text, _, _ in FAULTS.values():
        put(inside, text)
        with pytest.raises(FeatstoreError):
            Store(store.path).view(["toy"])
    store.use_manifest("d", manifest)
    assert len(store.view(["toy"])) == 6
    figure("P14", f"{len(FAULTS)} faults told with file, line and remedy, {len(HARMLESS)} oddities read alike")


def test_a_picture_in_two_splits_is_counted_and_can_be_named(tmp_path):
    manifest = listed(tmp_path / "pictures", 12)
    for copy, original in ((4, 3), (7, 6)):
        (manifest.root / f"{copy}.png").write_bytes((manifest.root / f"{original}.png").read_bytes())
    store = Store.create(tmp_path / "store")
    assert extract(ToyEmbedder(), manifest, store, dataset="d").repeated_across_splits == 2
    assert store.shared_pictures("toy", dataset="d", splits=("train", "test")) == [
        ("s0004", "s0003"),
        ("s0007", "s0006"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["x", "x"]},
        {"labels": ["x", ""]},
        {"labels": "Sadly Angry"},
        {"labels": [1, 2]},
        {"labels": None},
        {"first_id": "one"},
        {"first_id": True},
        {"name": None},
    ],
    ids=str,
)
def test_a_faulty_class_list_is_refused_even_with_a_right_digest(change, place):
    entry = {"name": "custom", "labels": ["Sadly Angry", "Sadly Fearful"], "first_id": 0, **change}
    files.write_document(place.with_suffix(".json"), "cer-manifest", 1, {"classes": entry, "root": "."})
    put(place, PLAIN)
    with pytest.raises(FeatstoreError, match=r"m\.json|class names must be distinct"):
        Manifest.read(place)


def test_without_a_class_list_whole_numbers_are_classes_without_their_decimals(tmp_path):
    """pandas writes whole numbers as 1.0 as soon as one cell of the column is empty; 1.5 is rounded by nobody."""
    path = put(tmp_path / "m.csv", "sample_id,path,label\na,a.png,1.0\nb,b.png,1\nc,c.png,\n")
    manifest = Manifest.read(path)
    assert manifest.classes.labels == ("1",)
    assert manifest.y.tolist() == [0, 0, -1]
    with pytest.raises(ManifestError, match=r"m\.csv:2: label '1' is not in class set"):
        dataclasses.replace(manifest, classes=class_set("abaw7"))
