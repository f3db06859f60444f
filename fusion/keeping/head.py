"""Fitted heads in a folder: JSON, safetensors and the library's own file, never a pickle."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit import DocumentError, from_plain, seal, unseal
from ...kit.errors import OutputExistsError, listing, nearest
from ...kit.files import write_synced
from ...kit.folders import bring_back, whole_folder
from ...kit.hub import HubPlace, fetch, is_hub, pinned
from ...kit.plugins import Plugin, need
from ...kit.table import shortened
from ..errors import HeadMismatchError, SavedHeadError

if TYPE_CHECKING:
    from ..heads.base import Head


INFO = "head.json"
ARRAYS = "head.safetensors"
KINDS = (".safetensors", ".ubj", ".txt", ".skops")
"""Endings of the files beside `head.json`."""

LARGEST_INFO = 2**20
"""Bytes of `head.json` beyond which it is not read."""


def save_head(
    head: Head,
    folder: str | os.PathLike[str],
    *,
    fingerprints: Mapping[str, str],
    class_set: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> HeadInfo:
    """Write a fitted head into a new folder, whole or not at all.

    Parameters
    ----------
    head : Head
        Fitted.
    folder : path
        Made here; its parents too.
    fingerprints : dict of feature name to fingerprint
        Of the features whose blocks the head learned from, as a view gives them.
    class_set : sequence of str, optional
        Names of all classes in the order of their integer codes; None when labels are texts themselves.
    extra : dict, optional
        Anything JSON takes, for people: the dataset, the split, scores.
    overwrite : bool
        Replace a head that is there. A folder that holds anything else is never replaced.

    Raises
    ------
    SavedHeadError
        If the folder is in the way or cannot be written, or it is no head of `make_head`.
    """
    target = Path(folder)
    if not callable(getattr(head, "state", None)):
        raise SavedHeadError(
            f"a head of make_head can be kept, however: {type(head).__name__}\n  of a classifier of scikit-learn: "
            "make_head('sklearn:MODULE.CLASS'), such as 'sklearn:sklearn.naive_bayes.GaussianNB'"
        )
    state = head.state()
    files = {ARRAYS: _safetensors(state.arrays), **state.files}
    info = HeadInfo(
        head=head.name,
        params=encoded({k: v for k, v in head.get_params(deep=False).items() if k not in ("blocks", "random_state")}),
        seed=head.seed_,
        blocks=tuple(head.blocks_.items()),
        classes=tuple(one.item() if isinstance(one, np.generic) else one for one in head.classes_),
        class_set=None if class_set is None else tuple(class_set),
        fingerprints=dict(fingerprints),
        values=dict(state.values),
        files={name: {"bytes": len(data), "sha256": _digest(data)} for name, data in files.items()},
        versions=versions(head),
        threads=dict(head.fit_threads_),
        extra=dict(extra or {}),
        plugins={name: one.origin for name, one in _plugged(head).items()},
    )
    files[INFO] = info.to_bytes()
    if len(files[INFO]) > LARGEST_INFO:
        raise SavedHeadError(f"{INFO} would be {len(files[INFO])} bytes, above {LARGEST_INFO}: shorten extra")
    refuse_what_is_there(target, overwrite)
    try:
        with whole_folder(target, overwrite=overwrite) as built:
            for name, data in files.items():
                write_synced(built / name, data)
    except OutputExistsError as error:
        raise SavedHeadError(str(error)) from None
    except OSError as error:
        raise SavedHeadError(
            f"the head could not be written to {target}: {error.strerror or error}\n  nothing was left there"
        ) from error
    return HeadInfo.from_bytes(files[INFO], where=str(target / INFO))


def read_head_info(folder: str | os.PathLike[str], *, revision: str | None = None) -> HeadInfo:
    """Read what a kept head is, without its arrays; of one on the Hub as `load_head` does.

    Raises
    ------
    SavedHeadError
        If `head.json` is missing, damaged, of a newer format, or no head's.
    HubError
        If it is on the Hub and cannot be fetched.
    """
    return _place_of(folder, revision)[1]


def load_head(
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    blocks: Mapping[str, int] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    classes: Sequence[Any] | None = None,
) -> Head:
    """Read a kept head back, fitted; with `blocks`, `fingerprints` or `classes`, refuse one made for others.

    No byte reaches a parser before its digest is checked, and nothing is unpickled: of a head on the Hub just the files
    are fetched that its `head.json` names, all of one commit.

    Parameters
    ----------
    folder : path or str
        A folder, or ``hf://user/name`` that `cer-fuse push` left on the Hugging Face Hub, perhaps with ``@revision``.
    revision : str, optional
        Of the Hub: a branch, a tag, or best a commit, which is the one name whose files can never be others.
    blocks, fingerprints, classes
        See `check_compatible`.

    Raises
    ------
    SavedHeadError
        If a file is missing, damaged, of a newer format, or no head's.
    PluginError
        If it needs a plugin that is not here, or is broken.
    HeadMismatchError
        If the head learned from other blocks, features or classes than asked about.
    HubError
        If it is on the Hub and cannot be fetched.
    """
    from ..heads import head_class

    at, info = _place_of(folder, revision)
    check_compatible(info, blocks=blocks, fingerprints=fingerprints, classes=classes)
    for name, origin in info.plugins.items():
        need("heads", name, origin, f"the head {info.head!r} kept in {folder}")
    data = head_files(at, info)
    try:
        from ..heads.base import HeadState

        arrays = _arrays(data.pop(ARRAYS))
        state = HeadState(arrays=arrays, values=info.values, files=data)
        head = head_class(info.head)(blocks=dict(info.blocks), random_state=info.seed, **decoded(info.params))
        return head.restore(
            state,
            classes=np.array(info.classes),
            widths=dict(info.blocks),
            seed=info.seed,
            threads=info.threads,
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise SavedHeadError(f"{folder} does not hold a whole {info.head!r} head: {error}") from error


At: TypeAlias = Callable[[str], Path]
"""Where a file of a head is, by its name; one on the Hub is fetched when it is asked for."""


def head_files(at: At, info: HeadInfo) -> dict[str, bytes]:
    """Read all files of a head but `head.json`, each after its digest was checked.

    Raises
    ------
    SavedHeadError
        If one is missing or damaged.
    HubError
        If it cannot be fetched.
    """
    data = {}
    for name, entry in info.files.items():
        path = at(name)
        size, digest = _file_digest(path)
        if size == entry["bytes"] and digest == entry["sha256"]:
            data[name] = _read(path, size)
        if name not in data or _digest(data[name]) != entry["sha256"]:
            raise SavedHeadError(
                f"{path} is damaged: expected {entry['bytes']} bytes of sha256 {entry['sha256'][:12]}…, "
                f"found {size} of {digest[:12]}…\n  train the head again or restore the folder"
            )
    return data


def head_on_hub(place: HubPlace) -> tuple[At, HeadInfo, str]:
    """Find a head on the Hub: where its files are, what it is, and the commit that all of them are of.

    Raises
    ------
    SavedHeadError, HubError
    """
    now = pinned(place)
    path, commit = fetch(place, INFO)  # by its own name, so that it is found again where nobody may be asked
    if now.revision not in (place.revision, commit):  # an older one, fetched before
        path, commit = fetch(now, INFO)
    there = replace(place, revision=commit)
    return (lambda name: fetch(there, name)[0]), _info_at(path, f"{place}: {INFO}"), commit


def _place_of(folder: str | os.PathLike[str], revision: str | None) -> tuple[At, HeadInfo]:
    if is_hub(folder):
        return head_on_hub(HubPlace.parse(os.fspath(folder), "model", revision=revision))[:2]
    if revision is not None:
        raise SavedHeadError(
            f"{folder} is a folder, and a revision is of the Hub: leave it out, or name hf://user/name"
        )
    local = Path(folder)
    bring_back(local)
    return (lambda name: local / name), _info_at(local / INFO, str(local / INFO))


def _info_at(path: Path, where: str) -> HeadInfo:
    data = _read(path, LARGEST_INFO)
    if len(data) > LARGEST_INFO:
        raise SavedHeadError(f"{where} is longer than any head's file: more than {LARGEST_INFO} bytes")
    return HeadInfo.from_bytes(data, where=where)


def check_compatible(
    info: HeadInfo,
    *,
    blocks: Mapping[str, int] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    classes: Sequence[Any] | None = None,
) -> None:
    """Refuse to use a head on what it did not learn from; None leaves a thing unchecked.

    Parameters
    ----------
    info : HeadInfo
        Of the kept head.
    blocks : dict of block name to width
        In the order in which they will be joined.
    fingerprints : dict of feature name to fingerprint
        Features the head does not know are no fault; those it knows must be there and equal.
    classes : sequence
        The class set's names in order, or the labels in order when the head was kept without a class set.

    Raises
    ------
    HeadMismatchError
        Naming the field, what the head expects and what was found.
    """
    if blocks is not None and tuple(blocks.items()) != info.blocks:
        raise HeadMismatchError(
            f"blocks: the head {info.head!r} expects {_pairs(info.blocks)} in this order, "
            f"found {_pairs(blocks.items())}"
            "\n  join the same features in the same order"
        )
    if fingerprints is not None:
        for name, _ in info.blocks:
            if not any(name == feature or name.startswith(f"{feature}.") for feature in info.fingerprints):
                raise HeadMismatchError(
                    f"fingerprints: the head {info.head!r} was kept without the fingerprint of block {name!r}, so "
                    f"nothing tells which features it is for (it knows: {', '.join(info.fingerprints) or 'none'})"
                    "\n  keep it with save_head(..., fingerprints=view.fingerprints)"
                )
        for feature, expected in info.fingerprints.items():
            found = fingerprints.get(feature)
            if found != expected:
                raise HeadMismatchError(
                    f"fingerprints: the head {info.head!r} learned from {feature}@{expected[:12]}, "
                    f"found {'no such feature' if found is None else f'{feature}@{found[:12]}'}"
                    "\n  extract with the same weights and preprocessing, or train a head on these features"
                )
    if classes is not None:
        known = info.classes if info.class_set is None else info.class_set
        if tuple(classes) != tuple(known):
            raise HeadMismatchError(
                f"classes: the head {info.head!r} expects {', '.join(map(str, known))} in this order, "
                f"found {', '.join(map(str, classes))}\n  use data of the same class set, or train a head on this one"
            )


def _safetensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(data) < 8 or int.from_bytes(data[:8], "little") > len(data) - 8:
        raise ValueError(f"the header of {ARRAYS} is longer than the file")
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise ValueError(f"{ARRAYS} is no safetensors file: {error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hint(path: Path) -> str:
    """Return the end of a message about a file that a run or a head lacks: what is there in its stead, if anything."""
    folder = path.parent
    if folder.is_file():
        return f"\n  {folder} is a file, and a run is a folder"
    within = [one for one in sorted(folder.glob("*/")) if (one / "run.json").is_file()]
    if within:
        return f"\n  it holds runs: {listing(map(str, within))}"
    if folder.is_dir():
        return ""
    beside = [str(one) for one in sorted(folder.parent.glob("*/")) if (one / "run.json").is_file()]
    return f"\n  there is no folder {folder}; " + (
        nearest(str(folder), beside) if beside else "cer-fuse train makes one"
    )


def _lacking(path: Path) -> SavedHeadError:
    return SavedHeadError(f"{path} is not there: no head was kept in this folder, or not a whole one{hint(path)}")


def _read(path: Path, most: int) -> bytes:
    """Read at most one byte more than `most`: enough to see that a file is longer than it should be."""
    try:
        if not path.is_file() or path.is_symlink():
            raise SavedHeadError(
                f"{path} is not there: no head was kept in this folder, or not a whole one{hint(path)}"
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            return file.read(min(size, most) + 1)
    except OSError as error:
        raise SavedHeadError(f"{path} cannot be read: {error.strerror or error}") from error


def _file_digest(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file, read in pieces: what lies there may be larger than memory."""
    try:
        if not path.is_file() or path.is_symlink():
            raise SavedHeadError(
                f"{path} is not there: no head was kept in this folder, or not a whole one{hint(path)}"
            )
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SavedHeadError(f"{path} cannot be read: {error.strerror or error}") from error


def refuse_what_is_there(target: Path, overwrite: bool) -> None:
    """Refuse a folder that is in the way of a head: a head's unless it is to be overwritten, and any that is none's."""
    bring_back(target)
    if not (target.exists() or target.is_symlink()):
        return
    if not target.is_dir() or target.is_symlink():
        raise SavedHeadError(f"{target} is there and is no folder; name another")
    names = {path.name for path in target.iterdir()}
    if names and (INFO not in names or any(name != INFO and Path(name).suffix not in KINDS for name in names)):
        raise SavedHeadError(f"{target} holds things that are no head's ({', '.join(sorted(names)[:3])}); name another")
    if names and not overwrite:
        raise SavedHeadError(f"{target} holds a head already; name another folder or ask to overwrite it")


def _pairs(items: Any) -> str:
    return ", ".join(f"{name}={width}" for name, width in items)


FORMAT: Final = "cer-head"
FORMAT_VERSION: Final = 2
WIDEST: Final = 2**20
"""Columns beyond which no head is believed."""

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.(safetensors|ubj|txt|skops)")


@dataclass(frozen=True, kw_only=True)
class HeadInfo:
    """Everything about a kept head but its arrays."""

    head: str
    """The name that `make_head` knows."""

    def __repr__(self) -> str:
        """Return the head and what it learned from; the rest is left to whoever asks for it."""
        blocks = shortened(f"{name} {width:,}" for name, width in self.blocks)
        return f"<HeadInfo {self.head}: {blocks}; {len(self.classes)} classes, seed {self.seed}>"

    params: dict[str, Any]
    """Settings, as JSON takes them."""

    seed: int
    """The seed the fit used."""

    blocks: tuple[tuple[str, int], ...]
    """Names and widths in column order."""

    classes: tuple[Any, ...]
    """Labels in the order of the columns of `predict_proba`."""

    class_set: tuple[str, ...] | None
    """Names of all classes in the order of their integer codes, or None when labels are texts."""

    fingerprints: dict[str, str]
    """Of the features the head learned from."""

    values: dict[str, Any]
    """Small facts of the fit."""

    files: dict[str, dict[str, Any]]
    """Bytes and sha256 of every other file."""

    versions: dict[str, str]
    """Of the libraries that fitted it."""

    threads: dict[str, int]
    """Threads the fit computed with: of `blas` and `openmp`, of `torch` or a library of trees where it took part."""

    extra: dict[str, Any]
    """What the caller wanted kept."""

    plugins: dict[str, dict[str, str]] = field(default_factory=dict)
    """Distribution and version of each plugin that the head, or a head inside it, is, by its name."""

    def to_bytes(self) -> bytes:
        """Return `head.json`, a sealed document of all fields."""
        try:
            plain = {one.name: getattr(self, one.name) for one in fields(self)}
            if not self.plugins:  # as it was kept before there were any
                del plain["plugins"]
            return seal(plain, kind=FORMAT, version=FORMAT_VERSION, where="this head")
        except DocumentError as error:
            raise SavedHeadError(str(error)) from error

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Read `head.json` back; `where` names it in errors.

        Raises
        ------
        SavedHeadError
            If it is damaged, of another format version, holds unknown keys, or is no head's.
        """
        body = unseal(data, kind=FORMAT, version=FORMAT_VERSION, where=where, error=SavedHeadError)
        info = from_plain(cls, body, where, error=SavedHeadError, defaults=True)
        for name, is_sound in info._forms().items():
            if not is_sound:
                raise SavedHeadError(f"{where}: field {name!r} has not the form of a head's")
        return info

    def _forms(self) -> dict[str, bool]:
        """Say of each field whether its values can be a head's, beyond their types."""
        widths = dict(self.blocks)
        return {
            "blocks": len(widths) == len(self.blocks) > 0
            and all(width > 0 for width in widths.values())
            and sum(widths.values()) <= WIDEST,
            "classes": len(self.classes) >= 2
            and len({type(one) for one in self.classes}) == 1
            and isinstance(self.classes[0], (str, int, float)),
            "threads": all(count > 0 for count in self.threads.values()),
            "files": all(
                _FILE_NAME.fullmatch(name)
                and entry.keys() == {"bytes", "sha256"}
                and type(entry["bytes"]) is int
                and entry["bytes"] >= 0
                and isinstance(entry["sha256"], str)
                for name, entry in self.files.items()
            ),
        }


def encoded(value: Any) -> Any:
    """Return settings as JSON takes them: a dict whose keys are no texts becomes ``{"pairs": [[key, value], ...]}``."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and set(value) != {"pairs"}:
            return {key: encoded(one) for key, one in value.items()}
        return {"pairs": [[encoded(key), encoded(one)] for key, one in value.items()]}
    if isinstance(value, (list, tuple)):
        return [encoded(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def decoded(value: Any) -> Any:
    """Undo `encoded`; lists come back as tuples."""
    if isinstance(value, dict):
        if set(value) == {"pairs"}:
            return {decoded(key): decoded(one) for key, one in value["pairs"]}
        return {key: decoded(one) for key, one in value.items()}
    return tuple(decoded(one) for one in value) if isinstance(value, list) else value


def _plugged(head: Head) -> dict[str, Plugin]:
    """Return the plugins that a head, and the heads inside it, are, by name."""
    from ..heads import plugin_of

    inside = [one for one in (getattr(head, "head_", None), *getattr(head, "members_", {}).values()) if one is not None]
    own = plugin_of(head.name)
    found = {} if own is None else {head.name: own}
    for one in inside:
        found |= _plugged(one)
    return found


def versions(head: Head) -> dict[str, str]:
    """Return the versions of Python and of the libraries that a head's fit runs through."""
    found = {"python": platform.python_version()}
    for name in (
        "numpy",
        "scikit-learn",
        "scipy",
        *head.computed_with(),
        *(one.distribution for one in _plugged(head).values()),
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
