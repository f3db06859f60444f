"""Experiment trackers, through accelerate's: settings once, figures as they come. None is used unless it is named.

accelerate and the trackers' own libraries are imported when one is asked for. One that is not installed is refused by
name before any work; one that fails later is told and left out, as the work is worth more than its curve.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .errors import CerError, MissingExtraError, nearest, needed

Track: TypeAlias = Callable[..., None]
"""Called with figures by name, and ``step`` where they are a course: `track({"loss": 0.5}, step=3)`."""

PROJECT = "cer-fusion"
"""What trackers that sort runs by project, or experiment, sort ours under."""
TRACKERS: Mapping[str, str] = {
    "trackio": "trackio",
    "tensorboard": "torch.utils.tensorboard",  # torch's writer, which needs the library
    "wandb": "wandb",
    "mlflow": "mlflow",
}
"""Name to the module that it needs."""
LEAVING = {"wandb": "wandb sends them to its servers, with what it collects of this machine, unless WANDB_MODE=offline"}
"""What is said of a tracker beside its name."""
_NAME = re.compile(r"[^\w ./-]")

logger = logging.getLogger(__name__)


class TrackingError(CerError):
    """A tracker that nobody knows, or that cannot be started."""


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once; refuse those that are unknown, and those whose library is not installed.

    Raises
    ------
    TrackingError
        If one is unknown, or the installed accelerate has none of that name.
    MissingExtraError
        Naming the library.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in TRACKERS:
            raise TrackingError(f"there is no tracker {name!r}; {nearest(name, TRACKERS)}")
    for name in wanted:
        try:
            importlib.import_module(TRACKERS[name])
        except ImportError:
            raise MissingExtraError(
                f"tracking by {name} needs the library {name}, which is not installed\n"
                f"  pip install {name}, or leave it out: what is kept has the same figures"
            ) from None
        _class_of(name)
    return wanted


@contextlib.contextmanager
def tracked(
    names: Sequence[str], *, run: str, config: Mapping[str, Any], curves: Path, project: str = PROJECT
) -> Iterator[Track]:
    """Start trackers, give a function that hands them figures, and end them.

    Parameters
    ----------
    names : sequence of str
        Of `TRACKERS`; for none the function does nothing.
    run : str
        What the run is called.
    config : dict
        Settings, which may be nested; JSON values. No sample, no path.
    curves : Path
        The folder that TensorBoard's file is written into. The others keep theirs where they always do.
    project : str

    Raises
    ------
    TrackingError
        If one cannot be started.
    """
    if not names:
        yield lambda figures, step=None: None
        return
    started: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_accelerate_begun())
        stack.callback(_end, started)
        for name in names:
            try:
                started[name] = _start(name, run, curves, project)
                started[name].store_init_configuration(dict(_flat(config)))
            except Exception as error:  # a boundary: each library raises its own
                raise TrackingError(
                    f"the tracker {name} could not be started: {type(error).__name__}: {error}\n"
                    f"  see its own settings, or leave it out of --track"
                ) from error

        def track(figures: Mapping[str, float], step: int | None = None) -> None:
            given = {_NAME.sub("_", key): float(value) for key, value in figures.items() if math.isfinite(value)}
            for name, tracker in list(started.items()):
                _guarded(name, started, lambda tracker=tracker: tracker.log(given, step=step))  # type: ignore[misc]

        yield track


def _end(started: dict[str, Any]) -> None:
    for name, tracker in list(started.items()):
        _guarded(name, started, tracker.finish)


@contextlib.contextmanager
def _accelerate_begun() -> Iterator[None]:
    """accelerate's trackers ask which process they are in, and refuse to talk before that is known."""
    state: Any = importlib.import_module("accelerate.state").PartialState
    if state._shared_state:  # a training's own
        yield
        return
    state(cpu=True)
    try:
        yield
    finally:
        state._reset_state()


def _start(name: str, run: str, curves: Path, project: str) -> Any:
    cls = _class_of(name)
    if name == "tensorboard":
        made = cls(curves.name, logging_dir=str(curves.parent))
    elif name == "mlflow":
        made = cls(experiment_name=project, run_name=run)
    else:
        made = cls(project, name=run)
    begin = getattr(made, "start", None)  # accelerate's older ones start when they are made
    if begin is not None:
        begin()
    return made


def _class_of(name: str) -> Any:
    needed("accelerate", f"tracking by {name}")
    known: Mapping[str, Any] = importlib.import_module("accelerate.tracking").LOGGER_TYPE_TO_CLASS
    if name not in known:
        from importlib.metadata import version

        raise TrackingError(
            f"the installed accelerate {version('accelerate')} has no tracker {name!r}\n  pip install -U accelerate"
        )
    return known[name]


def _guarded(name: str, started: dict[str, Any], act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:  # a boundary: each library raises its own, and none of them ends the work
        started.pop(name, None)
        logger.warning("the tracker %s is left out from here on: %s: %s", name, type(error).__name__, error)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as trackers take them: names with dots to words, numbers and truths; nothing becomes ``none``."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, bool | int | float | str):
            yield name, value
        else:
            yield name, "none" if value is None else str(value)
