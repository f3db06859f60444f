from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import FormatError, ManifestError
from cer_fusion.featstore.manifests.splitting import hold_out, keep_first


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_a_manifest_reads_back_as_it_was_written_with_its_class_order(tmp_path, make_manifest):
    manifest = make_manifest()
    manifest.write(tmp_path / "m.csv")
    again = Manifest.read(tmp_path / "m.csv")
    assert again.samples == manifest.samples
    assert again.classes == manifest.classes
    assert again.root.resolve() == manifest.root.resolve()


def test_a_manifest_and_its_pictures_can_be_moved_together(tmp_path, make_manifest):
    make_manifest().write(tmp_path / "m.csv")
    moved = tmp_path.rename(tmp_path.parent / "elsewhere")
    again = Manifest.read(moved / "m.csv")
    assert (again.root / again.samples[0].path).exists()


def test_without_a_class_list_classes_are_the_labels_in_alphabetical_order(tmp_path):
    path = write(tmp_path / "m.csv", "sample_id,path,label\na,a.png,zebra\nb,b.png,ant\n")
    manifest = Manifest.read(path)
    assert manifest.classes.labels == ("ant", "zebra")
    np.testing.assert_array_equal(manifest.y, [1, 0])


def test_byte_order_mark_crlf_and_blank_lines_make_no_difference(tmp_path):
    plain = Manifest.read(write(tmp_path / "a.csv", "sample_id,path,label\na,a.png,x\nb,b.png,y\n"))
    odd = Manifest.read(write(tmp_path / "b.csv", "\ufeffsample_id,path,label\r\na,a.png,x\r\n\r\nb,b.png,y\r\n"))
    assert plain.samples == odd.samples


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected a header"),
        ("sample_id,path\n", "has a header but no samples"),
        ("path,label\na.png,x\n", "m.csv:1: no column 'sample_id'"),
        ("sample_id,path,lable\na,a.png,x\n", "m.csv:1: unknown column 'lable'; did you mean 'label'"),
        ("sample_id,path\na,a.png\na,b.png\n", "m.csv:3: sample_id 'a' stands twice, first at .*m.csv:2"),
        ("sample_id,path\n,a.png\n", "m.csv:2: sample_id and path must not be empty"),
        ("sample_id,path\na,a.png,extra\n", "m.csv:2: expected 2 fields, however: 3"),
        ("sample_id,path,path\na,b,c\n", "a column stands twice"),
        (
            "sample_id,path,split,group\na,a.png,train,v1\nb,b.png,test,v1\n",
            "m.csv:3: group 'v1' stands in two splits, 'train' and 'test'",
        ),
    ],
)
def test_a_faulty_manifest_is_refused_with_file_line_and_cause(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.read(write(tmp_path / "m.csv", text))


def test_a_label_outside_the_class_set_is_refused_with_the_nearest_one(tmp_path, make_manifest):
    make_manifest(2).write(tmp_path / "m.csv")
    text = (tmp_path / "m.csv").read_text().replace("Fearfully Surprised", "Fearfuly Surprised")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=r"m.csv:2: label 'Fearfuly Surprised'.*did you mean 'Fearfully Surprised'"):
        Manifest.read(tmp_path / "m.csv")


def test_a_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(ManifestError, match="cer-feat manifest"):
        Manifest.read(tmp_path / "none.csv")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"sample_id,path\n\xff\xfe,a\n")
    with pytest.raises(ManifestError, match="not UTF-8"):
        Manifest.read(tmp_path / "m.csv")


def test_writing_never_overwrites_a_json_file_of_somebody_else(tmp_path, make_manifest):
    (tmp_path / "m.json").write_text('{"mine": 1}')
    with pytest.raises(FormatError, match="format"):
        make_manifest().write(tmp_path / "m.csv")
    assert (tmp_path / "m.json").read_text() == '{"mine": 1}'


def test_select_names_the_known_splits(make_manifest):
    with pytest.raises(ManifestError, match="known: test, train"):
        make_manifest().select("holdout")


def test_counts_are_in_class_order(make_manifest):
    manifest = make_manifest(14)
    assert list(manifest.counts()) == list(class_set("abaw7").labels)
    assert set(manifest.counts().values()) == {2}


NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_any_printable_id_survives_the_round_trip(tmp_path_factory, names):
    names = [n for n in dict.fromkeys(names) if n.isprintable() and n == n.strip()]
    if not names:
        return
    folder = tmp_path_factory.mktemp("m")
    samples = tuple(Sample(sample_id=n, path=n) for n in names)
    Manifest(samples=samples, classes=class_set("abaw7"), root=folder).write(folder / "m.csv")
    assert Manifest.read(folder / "m.csv").samples == samples


def unsplit(groups: dict[str, int]) -> Manifest:
    samples = [
        Sample(sample_id=f"{g}{i}", path="x", label="Sadly Angry" if g < "e" else "Sadly Fearful", group=g)
        for g, n in groups.items()
        for i in range(n)
    ]
    return Manifest(samples=tuple(samples), classes=class_set("abaw7"), root=Path())


def test_holding_out_keeps_groups_whole_and_classes_on_both_sides():
    manifest = hold_out(unsplit(dict.fromkeys("abcdefgh", 5)), 0.25, seed=3)
    for split in ("train", "test"):
        assert all(n for label, n in manifest.select(split).counts().items() if manifest.counts()[label])
    assert len({(s.group, s.split) for s in manifest.samples}) == 8
    assert hold_out(unsplit(dict.fromkeys("abcdefgh", 5)), 0.25, seed=3) == manifest


@given(
    groups=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=24, max_size=24),
    together=st.lists(st.lists(st.integers(0, 23), min_size=2, max_size=3, unique=True), max_size=4),
    seed=st.integers(0, 3),
)
def test_holding_out_parts_neither_groups_nor_what_belongs_together(groups, together, seed):
    samples = tuple(
        Sample(sample_id=f"s{i}", path="x", label=("Sadly Angry", "Sadly Fearful")[i % 2], group=group)
        for i, group in enumerate(groups)
    )
    whole = Manifest(samples=samples, classes=class_set("abaw7"), root=Path())
    try:
        split = hold_out(whole, 0.3, seed=seed, together=together).split_of_each
    except ManifestError:  # a class that is one piece
        return
    assert set(split) == {"train", "test"}
    sides = [{split[i] for i, own in enumerate(groups) if own == group} for group in set(groups) - {""}]
    sides += [{split[i] for i in positions} for positions in together]
    assert all(len(side) == 1 for side in sides)


def test_holding_out_refuses_what_cannot_be_split(make_manifest):
    with pytest.raises(ManifestError, match="is split already"):
        hold_out(make_manifest(), 0.2)
    with pytest.raises(ManifestError, match="one sample or group"):
        hold_out(unsplit({"a": 5}), 0.2)
    with pytest.raises(ManifestError, match="between 0 and 1"):
        hold_out(unsplit({"a": 5}), 2)


def test_keep_first_drops_all_but_the_first_of_each_repeat(make_manifest):
    manifest = keep_first(make_manifest(6), [[1, 4], [2, 3, 5]])
    assert manifest.ids == ("s0000", "s0001", "s0002")


def test_a_path_that_is_not_utf8_is_refused_in_words_and_not_when_it_is_written(tmp_path):
    with pytest.raises(
        ManifestError, match=r"sample 0: path 'caf\\udce9.png' holds bytes that are no UTF-8 text\n  rename the file"
    ):
        Manifest(samples=(Sample("a", "caf\udce9.png"),), classes=class_set("abaw7"), root=tmp_path)
    manifest = Manifest(samples=(Sample("a", "a.png"),), classes=class_set("abaw7"), root=tmp_path / "caf\udce9")
    with pytest.raises(ManifestError, match="has a name that is not UTF-8"):
        manifest.write(tmp_path / "m.csv")
