from __future__ import annotations

import contextlib
import dataclasses

import pytest

from cer_fusion.featstore import Manifest, Store, class_set
from cer_fusion.featstore.errors import CommitError, FormatError, ManifestError, OutputExistsError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.class_sets import found_classes
from cer_fusion.featstore.manifests.sidecar import FRAMES_FORMAT, frames_origin
from cer_fusion.featstore.rows import files
from tests.reliability.power import Killed, RecordingOs, instead_of_os


@pytest.fixture
def kept(store, make_manifest):
    """A store with a manifest, the path of its CSV, and another manifest with other classes."""
    manifest = make_manifest(6)
    store.use_manifest("d", manifest)
    other = dataclasses.replace(
        manifest,
        samples=tuple(s._replace(label=class_set("rafdb_compound11").labels[0]) for s in manifest.samples[:3]),
        classes=class_set("rafdb_compound11"),
    )
    return store, store.path / "d" / "manifest.csv", other


def test_a_changed_csv_in_a_store_is_refused_and_one_outside_is_not(kept, tmp_path):
    store, path, _ = kept
    manifest = store.manifest("d")
    path.write_text(path.read_text().replace("s0001", "s9999"))
    with pytest.raises(FormatError, match=r"changed or damaged after it was written(.|\n)*cer-feat use-manifest"):
        store.manifest("d")
    manifest.write(tmp_path / "mine.csv")
    text = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(text.replace("s0001", "s9999"))
    assert "s9999" in Manifest.read(tmp_path / "mine.csv").ids


def test_a_refused_manifest_can_be_replaced(kept):
    store, path, other = kept
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError):
        store.manifest("d")
    store.use_manifest("d", other)
    assert Store(store.path).manifest("d").ids == other.ids


def test_between_the_two_writes_the_old_pair_is_read_whole(kept, monkeypatch):
    store, _, other = kept
    before = store.manifest("d")
    replace = files.replace

    def refuse_csv(to, data):
        if to.suffix == ".csv":
            raise CommitError("the power went")
        replace(to, data)

    monkeypatch.setattr(files, "replace", refuse_csv)
    with pytest.raises(CommitError):
        store.use_manifest("d", other)
    monkeypatch.undo()
    found = Store(store.path).manifest("d")
    assert (found.samples, found.classes) == (before.samples, before.classes)
    store.use_manifest("d", other)
    assert Store(store.path).manifest("d").classes == other.classes


def test_a_writer_whose_json_was_overtaken_writes_again(kept, monkeypatch):
    store, _, other = kept
    first = store.manifest("d")
    replace, met = files.replace, []

    def meet(to, data):
        if to.suffix == ".csv" and not met:
            met.append(True)
            Store(store.path).use_manifest("d", first)
            Store(store.path).use_manifest("d", first)
        replace(to, data)

    monkeypatch.setattr(files, "replace", meet)
    monkeypatch.setattr(files, "_PATIENCE_S", 0.0)  # as on a file system without locks
    store.use_manifest("d", other)
    assert Store(store.path).manifest("d").ids == other.ids


def test_a_damaged_json_is_refused_and_can_be_replaced_but_not_one_of_a_newer_release(kept):
    store, path, _ = kept
    manifest = store.manifest("d")
    beside = path.with_suffix(".json")
    text = beside.read_text()
    beside.write_text(text.replace("csv_sha256", "csv_sha257"))
    with pytest.raises(FormatError, match="digest does not match"):
        Manifest.read(path)
    store.use_manifest("d", manifest)
    assert Manifest.read(path).ids == store.manifest("d").ids
    beside.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(FormatError, match="newer"):
        store.use_manifest("d", manifest)


@pytest.mark.parametrize("present", ["a pair", "only the CSV", "nothing"])
def test_an_interrupt_at_any_point_never_pairs_old_rows_with_new_classes(kept, tmp_path, monkeypatch, present):
    """Outside a store too, where the CSV may be edited and no digest binds the two for good."""
    store, _, other = kept
    old, path = store.manifest("d"), tmp_path / "mine.csv"
    replace, seen = files.replace, []
    for dies_at in range(1, 8):
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)
        if present != "nothing":
            old.write(path)
        if present == "only the CSV":
            path.with_suffix(".json").unlink()
        calls = []

        def die(to, data, calls=calls, dies_at=dies_at):
            calls.append(to.suffix)
            if len(calls) == dies_at:
                raise KeyboardInterrupt
            replace(to, data)

        monkeypatch.setattr(files, "replace", die)
        with contextlib.suppress(KeyboardInterrupt):
            other.write(path)
        monkeypatch.setattr(files, "replace", replace)
        try:
            found = Manifest.read(path)
        except (FormatError, ManifestError):
            seen.append("refused")
            continue
        whole = [(m.samples, m.classes) for m in (old, other)]
        if present == "only the CSV":  # as it was: its classes are its labels in alphabetical order
            whole.append((old.samples, found_classes(s.label for s in old.samples)))
        assert (found.samples, found.classes) in whole
        seen.append(found.classes.name)
        if len(calls) < dies_at:
            text = path.read_text()
            path.write_text(text.replace("s0001", "s9999"))
            assert "s9999" in Manifest.read(path).ids, "a CSV that was written to the end may be edited"
    assert seen[-1] == other.classes.name
    assert ("refused" in seen) == (present == "nothing")


class Interrupting(RecordingOs):
    """Interrupts a process once, as Ctrl-C does: what it does to clean up has its effect."""

    def _live(self) -> None:
        if self.dies_after is not None and len(self.log) >= self.dies_after:
            self.dies_after = None
            raise KeyboardInterrupt


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("present", ["a pair", "only the CSV", "only the JSON", "nothing"])
@pytest.mark.parametrize("end", [RecordingOs, Interrupting])
def test_whatever_operation_an_interrupt_hits_the_same_command_can_be_run_again(
    kept, tmp_path, monkeypatch, present, overwrite, end
):
    """And what was there can be read all the time: it may be what the command reads itself."""
    store, _, other = kept
    old, met = store.manifest("d"), set()
    new = (other.samples, other.classes)
    bare = (old.samples, found_classes(s.label for s in old.samples))
    for dies_at in range(60):
        path = tmp_path / str(dies_at) / "mine.csv"
        if present != "nothing":
            old.write(path)
        else:
            path.parent.mkdir()
        if present == "only the CSV":
            path.with_suffix(".json").unlink()
        if present == "only the JSON":
            path.unlink()
        before = {"a pair": (old.samples, old.classes), "only the CSV": bare}.get(present)
        with monkeypatch.context() as patch:
            recorded = end(tmp_path)
            recorded.dies_after = dies_at
            instead_of_os(patch, recorded)
            try:
                other.write(path, overwrite=overwrite)
            except (Killed, KeyboardInterrupt):
                ended = False
            except OutputExistsError:
                assert not overwrite
                assert present != "nothing"
                break
            else:
                ended = True
        if before is not None or path.exists():
            read = Manifest.read(path)
            assert (read.samples, read.classes) in [new, before]
            met.add(read.classes.name)
        if before is not None:
            path.write_text(path.read_text())  # by a people's editor, which changes nothing
        if not overwrite and (path.exists() or path.with_suffix(".json").exists()):
            with pytest.raises(OutputExistsError, match="replace it with --overwrite"):
                other.write(path, overwrite=False)
            other.write(path)
        else:
            other.write(path, overwrite=overwrite)
        path.write_text(path.read_text().replace("s0001", "s9999"))
        again = Manifest.read(path)
        assert again.classes == other.classes
        assert "s9999" in again.ids, "a CSV that was written to the end may be edited"
        if ended:
            break
    else:
        raise AssertionError("it never came to its end")
    assert met or not overwrite


def test_a_csv_that_comes_after_a_kill_is_not_read_with_the_classes_of_the_one_that_never_came(
    kept, tmp_path, monkeypatch
):
    store, _, other = kept
    path = tmp_path / "mine.csv"

    write = files.write_output

    def die(to, data, *, overwrite):
        if to == path:
            raise Killed
        write(to, data, overwrite=overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_output", die)
        patch.setattr(files, "remove", lambda path: None)
        with pytest.raises(Killed):
            other.write(path, overwrite=False)
    path.write_text(store.manifest("d").to_csv())
    with pytest.raises(FormatError, match=r"run the command that wrote it again\n  or remove mine\.json"):
        Manifest.read(path)


def test_a_name_that_another_took_meanwhile_keeps_its_own_meaning(kept, tmp_path, monkeypatch):
    store, _, other = kept
    path = tmp_path / "mine.csv"
    text = store.manifest("d").to_csv()
    write = files.write_output

    def overtaken(to, data, *, overwrite):
        if to == path:
            path.write_text(text)
        write(to, data, overwrite=overwrite)

    monkeypatch.setattr(files, "write_output", overtaken)
    with pytest.raises(OutputExistsError):
        other.write(path, overwrite=False)
    assert path.read_text() == text
    assert not path.with_suffix(".json").exists()


def test_a_reader_that_meets_a_writer_between_its_two_files_reads_one_whole_pair(kept, tmp_path, monkeypatch):
    from cer_fusion.featstore.manifests import sidecar

    store, _, other = kept
    old, path = store.manifest("d"), tmp_path / "mine.csv"
    old.write(path)
    read, met = sidecar.table_bytes, []

    def meet(of):
        if not met:
            met.append(True)
            other.write(path)
        return read(of)

    monkeypatch.setattr(sidecar, "table_bytes", meet)
    found = Manifest.read(path)
    assert (found.samples, found.classes) == (other.samples, other.classes)


def test_a_manifest_does_not_overwrite_its_own_json_file(kept, tmp_path):
    store, _, _ = kept
    with pytest.raises(ManifestError, match=r"part\.json: a manifest is a CSV file(.|\n)*write it to: .*part\.csv"):
        store.manifest("d").write(tmp_path / "part.json")
    assert list(tmp_path.glob("part*")) == []
    store.manifest("d").write(tmp_path / "part.csv")
    with pytest.raises(ManifestError, match=r"name the CSV, part\.csv"):
        Manifest.read(tmp_path / "part.json")


def index(folder, video, size_px=224):
    body = {
        "video": video,
        "source": {"file": f"{video}.mp4", "bytes": 1, "sha256": video * 8},
        "identity": {"alignment": {"size_px": size_px}},
        "versions": {"av": "1"},
        "counts": {},
    }
    files.write_document(folder / f"{video}.frames.json", FRAMES_FORMAT, 1, body)
    (folder / video).mkdir()
    (folder / video / "00001.jpg").write_bytes(b"x")


def test_a_manifest_of_frames_says_what_made_them_and_keeps_saying_so(tmp_path):
    for video, size in (("01", 224), ("02", 224), ("03", 112)):
        index(tmp_path, video, size)
    listed = build("frames", tmp_path).manifest
    listed.write(tmp_path / "ce.csv")
    again = Manifest.read(tmp_path / "ce.csv").keep([True, True, False]).origin["frames"]
    assert [(one["identity"]["alignment"]["size_px"], list(one["videos"])) for one in again] == [
        (224, ["01", "02"]),
        (112, ["03"]),
    ]


def test_frames_made_elsewhere_have_no_origin(tmp_path):
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "00001.jpg").write_bytes(b"x")
    listed = build("frames", tmp_path).manifest
    assert listed.origin == {}
    listed.write(tmp_path / "ce.csv")
    assert "origin" not in (tmp_path / "ce.json").read_text()


def test_a_damaged_index_is_an_error(tmp_path):
    index(tmp_path, "01")
    path = tmp_path / "01.frames.json"
    path.write_text(path.read_text().replace("224", "225"))
    with pytest.raises(FormatError, match="changed or damaged"):
        frames_origin(tmp_path)
