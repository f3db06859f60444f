from __future__ import annotations

import json
import shutil

import pytest

from cer_fusion.fusion import Report, load_head
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.keeping.runs import (
    FORMAT,
    FORMAT_VERSION,
    Run,
    RunConfig,
    read_run,
    refuse_what_is_there,
    write_run,
)
from cer_fusion.kit import OutputExistsError, from_plain, to_plain
from cer_fusion.kit.documents import seal
from tests.fusion.kept import CLASSES, config_of, kept, trained

JSON = {"run.json", "config.json", "environment.json", "metrics.json", "report.json"}
FILES = JSON | {"predictions.csv", "confusion.png", "head"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return folder, kept(folder)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "copy")


def test_a_run_keeps_every_choice_answer_and_figure(whole):
    folder, run = whole
    assert {path.name for path in folder.iterdir()} == FILES
    report = Report.load(folder / "report.json")
    assert run.config.params == report.columns[0].params
    assert run.config.classes == run.predictions.classes == CLASSES
    assert (run.predictions.proba == report.columns[0].proba).all()
    assert run.scores.to_dict() == report.columns[0].scores.to_dict()
    assert set(run.environment) == {"python", "libraries", "system", "machine", "threads", "device"}
    assert load_head(folder / "head", classes=CLASSES).name == "linear"


def test_a_run_reads_back_as_it_was_written(whole):
    folder, run = whole
    again = read_run(folder)
    assert isinstance(again, Run)
    assert (again.config, again.digest, again.groups) == (run.config, run.digest, None)


def test_groups_are_kept_where_rows_share_them(tmp_path):
    groups = tuple(f"video{i // 2}" if i < 20 else "" for i in range(21))
    run = kept(tmp_path / "run", groups=groups)
    assert run.groups is not None
    assert run.groups[:3] == ("video0", "video0", "video1")
    assert run.groups[20] not in run.groups[:20]
    assert (tmp_path / "run" / "groups.csv").read_text().endswith("test_020,\n")


@pytest.mark.parametrize("name", sorted(FILES - {"run.json", "head"} | {"head/head.json", "head/head.safetensors"}))
def test_a_changed_byte_is_found_in_every_file(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ReportError, match=f"{name.rpartition('/')[2]} is not as the run wrote it"):
        read_run(copy)


def test_a_missing_file_and_a_damaged_index_are_told(copy):
    (copy / "metrics.json").unlink()
    with pytest.raises(ReportError, match=r"metrics\.json is missing"):
        read_run(copy)
    (copy / "run.json").write_text((copy / "run.json").read_text().replace("linear", "lunear"))
    with pytest.raises(ReportError, match=r"run\.json was changed or damaged after it was written"):
        read_run(copy)


def test_a_newer_format_is_refused_by_name(copy):
    content = json.loads((copy / "run.json").read_text())
    content = {key: value for key, value in content.items() if key not in ("format", "format_version", "digest")}
    (copy / "run.json").write_bytes(seal(content, kind=FORMAT, version=FORMAT_VERSION + 1))
    with pytest.raises(ReportError, match=r"run\.json is cer-run version 2, made by a newer cer-fusion"):
        read_run(copy)


def test_a_folder_without_an_index_and_a_file_are_no_runs(tmp_path):
    (tmp_path / "a.png").write_text("")
    with pytest.raises(ReportError, match="is a file, and a run is a folder"):
        read_run(tmp_path / "a.png")
    with pytest.raises(ReportError, match=r"no run folder: there is no run\.json"):
        read_run(tmp_path)


def test_an_index_that_points_outside_the_folder_is_refused(copy):
    content = json.loads((copy / "run.json").read_text())
    entry = content["files"].pop("config.json")
    files = content["files"] | {"../config.json": entry, "config.json": entry}
    (copy / "run.json").write_bytes(seal({"head": "linear", "files": files}, kind=FORMAT, version=FORMAT_VERSION))
    with pytest.raises(ReportError, match="names a file that no run has"):
        read_run(copy)


def test_a_run_is_replaced_only_when_asked_and_nothing_else_ever(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(OutputExistsError, match="holds a run already"):
        refuse_what_is_there(folder, overwrite=False)
    refuse_what_is_there(folder, overwrite=True)
    (tmp_path / "thesis.tex").write_text("")
    for overwrite in (False, True):
        with pytest.raises(ReportError, match=r"no run's \(thesis\.tex\)"):
            refuse_what_is_there(tmp_path, overwrite=overwrite)


def test_a_run_that_cannot_be_drawn_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cer_fusion.fusion.page.figures.save_figure", full)
    report, train, _ = trained(("vit",))
    with pytest.raises(ReportError, match=r"could not be written .* No space left"):
        write_run(tmp_path / "run", config_of(report, train), report, groups=None, environment={})
    assert list(tmp_path.iterdir()) == []


def again(plain: dict) -> RunConfig:
    return from_plain(RunConfig, plain, error=ReportError)


def test_a_configuration_with_unknown_keys_or_unfit_classes_is_refused():
    report, train, _ = trained(("vit",))
    config = config_of(report, train)
    assert again(json.loads(json.dumps(to_plain(config)))) == config
    with pytest.raises(ReportError, match="unknown keys: 'colour'"):
        again(to_plain(config) | {"colour": "BGR"})
    with pytest.raises(ReportError, match="3 classes, 2 numbers of rows"):
        config_of(report, train, train_supports=(1, 2))
    with pytest.raises(ReportError, match="blocks"):
        again(to_plain(config) | {"blocks": 3})
