"""Trackers, through accelerate's: TensorBoard and MLflow for real where they are installed, the others as called."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cer_fusion.kit.errors import MissingExtraError
from cer_fusion.kit.tracking import BESIDE, PROJECT, TRACKERS, TrackingError, check_trackers, leaving, tracked

CONFIG = {"head": "mlp", "params": {"C": 0.5, "hidden": [8], "preset": None}, "seed": 0}


class Fake(ModuleType):
    """A library such as wandb: what it was called with."""

    def __init__(self, name: str, fails: str = "") -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.calls: list[tuple[str, Any]] = []
        self.fails = fails
        self.config = SimpleNamespace(update=lambda values, **more: self._note("config", values))

    def init(self, **given: Any) -> Any:
        self._note("init", given)
        return SimpleNamespace(
            log=lambda values, **more: self._note("log", (values, more.get("step"))),
            finish=lambda: self._note("finish", None),
            config=self.config,
        )

    def _note(self, what: str, value: Any) -> None:
        print(f"* {self.__name__}: {what}")  # as trackio does
        if what == self.fails:
            raise ConnectionError("nobody there")
        self.calls.append((what, value))


SETTINGS = {
    *(key for values in BESIDE.values() for key in values), "WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI",
    "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Trackers find no settings of this machine's user, and those that are made are gone afterwards."""
    for key in SETTINGS:
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)


@pytest.fixture
def faked(monkeypatch):
    def put(name: str, fails: str = "") -> Fake:
        made = Fake(name, fails)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return put


def has(name: str) -> bool:
    try:
        importlib.import_module(TRACKERS[name])
    except ImportError:
        return False
    return name in importlib.import_module("accelerate.tracking").LOGGER_TYPE_TO_CLASS


def trackio_known() -> None:
    if "trackio" not in importlib.import_module("accelerate.tracking").LOGGER_TYPE_TO_CLASS:
        pytest.skip("this accelerate has no tracker trackio")


def test_none_is_used_unless_it_is_named_and_none_is_imported():
    before = set(sys.modules)
    with tracked((), run="x", config=CONFIG, curves="never") as track:  # type: ignore[arg-type]
        track({"loss": 1.0}, step=1)
    assert check_trackers(()) == ()
    assert not {name.partition(".")[0] for name in set(sys.modules) - before} & {
        "wandb",
        "mlflow",
        "trackio",
        "accelerate",
    }


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_is_given_project_name_settings_figures_and_an_end(faked, name, tmp_path):
    if name == "trackio":
        trackio_known()
    library = faked(name)
    assert check_trackers([name, name]) == (name,)
    with tracked((name,), run="faces-mlp", config=CONFIG, curves=tmp_path / "curves") as track:
        track({"loss": 0.5, "nothing": float("nan"), "recall.Happy|odd": 1}, step=3)
    kinds = [kind for kind, _ in library.calls]
    assert kinds == ["init", "config", "log", "finish"]
    assert library.calls[0][1] == {"project": PROJECT, "name": "faces-mlp"}
    assert library.calls[1][1] == {
        "head": "mlp", "params.C": 0.5, "params.hidden": "[8]", "params.preset": "none", "seed": 0,
    }  # fmt: skip
    assert library.calls[2][1][0] == {"loss": 0.5, "recall.Happy_odd": 1.0}


@pytest.mark.parametrize("name", list(TRACKERS))
def test_one_that_is_not_installed_is_refused_by_name(monkeypatch, name):
    monkeypatch.setitem(sys.modules, TRACKERS[name], None)
    with pytest.raises(
        MissingExtraError, match=f"tracking by {name} needs the library {name}.*\n  pip install {name},"
    ):
        check_trackers([name])


def test_one_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(TrackingError, match="there is no tracker 'wandbee'; did you mean 'wandb'"):
        check_trackers(["wandbee"])


def test_one_that_accelerate_does_not_know_is_refused_by_name(monkeypatch, faked):
    faked("wandb")
    tracking = importlib.import_module("accelerate.tracking")
    monkeypatch.setattr(tracking, "LOGGER_TYPE_TO_CLASS", {})
    with pytest.raises(TrackingError, match="has no tracker 'wandb'\n  pip install -U accelerate"):
        check_trackers(["wandb"])


@pytest.mark.parametrize("fails", ["init", "config"])
def test_one_that_does_not_start_ends_it_before_the_work(faked, fails, tmp_path):
    faked("wandb", fails)
    with (
        pytest.raises(TrackingError, match="wandb could not be started: ConnectionError: nobody there"),
        tracked(("wandb",), run="x", config=CONFIG, curves=tmp_path),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize("fails", ["log", "finish"])
def test_one_that_fails_later_is_told_and_left_out_and_the_work_goes_on(faked, fails, tmp_path, caplog):
    library = faked("wandb", fails)
    with tracked(("wandb",), run="x", config=CONFIG, curves=tmp_path) as track:
        track({"loss": 0.5}, step=1)
        track({"loss": 0.4}, step=2)
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "the tracker wandb is left out from here on: ConnectionError: nobody there"
    ]
    assert [kind for kind, _ in library.calls].count("log") == (0 if fails == "log" else 2)


@pytest.mark.parametrize("fails", ["init", "config", "log", "finish"])
def test_after_the_work_one_that_fails_anywhere_is_named_and_the_others_are_told(faked, fails, tmp_path):
    trackio_known()
    broken, sound = faked("wandb", fails), faked("trackio")
    failed: dict[str, str] = {}
    with tracked(("wandb", "trackio"), run="x", config=CONFIG, curves=tmp_path, failed=failed) as track:
        track({"loss": 0.5}, step=1)
        track({"loss": 0.4}, step=2)
    assert failed == {"wandb": "ConnectionError: nobody there"}
    assert [kind for kind, _ in sound.calls] == ["init", "config", "log", "log", "finish"]
    ended = [kind for kind, _ in broken.calls].count("finish")
    assert ended == (1 if fails in ("config", "log") else 0)  # so that the next run can begin


def test_what_a_tracker_prints_is_no_result(faked, tmp_path, capsys):
    faked("wandb")
    with tracked(("wandb",), run="x", config=CONFIG, curves=tmp_path) as track:
        track({"loss": 0.5})
        print("a result")
    told = capsys.readouterr()
    assert told.out == "a result\n"
    assert told.err.splitlines() == [f"* wandb: {kind}" for kind in ("init", "config", "log", "finish")]


def test_trackio_is_ended_by_its_own_word_so_that_it_is_not_ended_again_when_python_ends(faked, tmp_path):
    trackio_known()
    library = faked("trackio")
    library.finish = lambda: library._note("its own finish", None)
    with tracked(("trackio",), run="x", config=CONFIG, curves=tmp_path):
        pass
    assert [kind for kind, _ in library.calls] == ["init", "config", "its own finish"]


def test_what_names_places_or_goes_to_a_library_s_maker_is_off_unless_the_environment_says_otherwise(
    faked, monkeypatch
):
    faked("wandb")
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    check_trackers(["wandb"])
    assert (os.environ["WANDB_CONSOLE"], os.environ["WANDB_X_DISABLE_META"]) == ("wrap", "true")
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ  # nobody asked for it


@pytest.mark.parametrize(
    ("name", "variable", "value", "told"),
    [
        ("tensorboard", "WANDB_MODE", "online", None),
        ("wandb", "WANDB_MODE", "online", "to wandb.ai, with the name and the load of this machine"),
        ("wandb", "WANDB_BASE_URL", "https://me:secret@wandb.here:8080/x", "to wandb.here,"),
        ("wandb", "WANDB_MODE", "offline", None),
        ("mlflow", "MLFLOW_TRACKING_URI", "", None),
        ("mlflow", "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", None),
        ("mlflow", "MLFLOW_TRACKING_URI", "/data/mlruns", None),
        ("mlflow", "MLFLOW_TRACKING_URI", "C:\\mlruns", None),
        ("mlflow", "MLFLOW_TRACKING_URI", "https://me:secret@mlflow.here/x", "to mlflow.here, with your name"),
        ("mlflow", "MLFLOW_TRACKING_URI", "databricks", "to databricks"),
        ("trackio", "TRACKIO_SPACE_ID", "", None),
        ("trackio", "TRACKIO_SPACE_ID", "me/board", "to me/board, as TRACKIO_SPACE_ID says"),
        ("trackio", "TRACKIO_SERVER_URL", "https://board.here/?write_token=secret", "to board.here,"),
    ],
)
def test_where_figures_leave_to_is_said_and_no_secret_of_the_address(monkeypatch, name, variable, value, told):
    monkeypatch.setenv(variable, value)
    found = leaving(name)
    assert found is None if told is None else told in str(found)
    assert "secret" not in str(found)


def scalars(folder: Any) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, round(one.value, 6)) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_curves(tmp_path):
    if not has("tensorboard"):
        pytest.skip("tensorboard is not installed")
    with tracked(("tensorboard",), run="x", config=CONFIG, curves=tmp_path / "deep" / "curves") as track:
        for step in (1, 2):
            track({"loss": 1 / step}, step=step)
    assert scalars(tmp_path / "deep" / "curves") == {"loss": [(1, 1.0), (2, 0.5)]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_finds_the_run_with_settings_and_course(tmp_path, monkeypatch):
    if not has("mlflow"):
        pytest.skip("mlflow is not installed")
    mlflow = importlib.import_module("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with tracked(("mlflow",), run="faces-mlp", config=CONFIG, curves=tmp_path / "curves") as track:
        for step in (1, 2):
            track({"loss": 1 / step, "recall.Sadly angry": 0.5}, step=step)
    [experiment] = mlflow.search_experiments(filter_string=f"name = '{PROJECT}'")
    client = mlflow.MlflowClient()
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "faces-mlp"
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "head": "mlp",
        "params.C": "0.5",
        "params.hidden": "[8]",
        "params.preset": "none",
        "seed": "0",
    }
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")] == [(1, 1.0), (2, 0.5)]
