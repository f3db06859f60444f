"""`head.json`: what a kept head is, what it learned from, and the digest that binds it."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Self

from cer_fusion.fusion.errors import SavedHeadError

FORMAT: Final = "cer-head"
FORMAT_VERSION: Final = 2
WIDEST: Final = 2**20
"""Columns beyond which no head is believed."""

DEEPEST: Final = 20
"""Levels of brackets in `head.json` beyond which it is not parsed."""

_SINCE: Final = {"threads": 2}  # the format version that brought a field, where not the first

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.(safetensors|ubj|txt)")


@dataclass(frozen=True, kw_only=True)
class HeadInfo:
    """Everything about a kept head but its arrays."""

    head: str
    """The name that `make_head` knows."""

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
    """Threads the fit computed with: of `blas` and `openmp`, of `torch` or a library of trees where it took part. Since
    format version 2; empty in heads kept before."""

    extra: dict[str, Any]
    """What the caller wanted kept."""

    def to_bytes(self) -> bytes:
        """Return `head.json`: the fields, format and version, and the sha256 of the canonical text of all that."""
        body: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        body |= {one.name: getattr(self, one.name) for one in fields(self)}
        try:
            body = json.loads(_canonical(body))  # keys and tuples as they will be read
            digest = hashlib.sha256(_canonical(body)).hexdigest()
            return _rendered({**body, "digest": digest})
        except (TypeError, ValueError) as error:
            raise SavedHeadError(f"something in this head cannot be kept as JSON: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Read `head.json` back; `where` names it in errors.

        Raises
        ------
        SavedHeadError
            If it is damaged, of a newer format, holds unknown keys, or is no head's.
        """
        body = _parsed(data, where)
        whole = dict(body)
        digest = body.pop("digest", None)
        if body.get("format") != FORMAT:
            raise SavedHeadError(f"{where} is no {FORMAT} file: its format is {str(body.get('format'))[:40]!r}")
        number = body.get("format_version")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise SavedHeadError(f"{where} has no usable format_version: {str(number)[:40]!r}")
        if number > FORMAT_VERSION:
            raise SavedHeadError(
                f"{where} is of {FORMAT} format version {number}, this program reads up to {FORMAT_VERSION}"
                "\n  use the program that wrote it, or a newer one"
            )
        try:
            found = hashlib.sha256(_canonical(body)).hexdigest()
            exact = _rendered(whole) == data  # not a blank more or less than was written
        except ValueError as error:  # a number too large for a float, a lone surrogate
            raise SavedHeadError(f"{where} is no JSON as this program writes it: {error}") from error
        if digest != found or not exact:
            raise SavedHeadError(f"{where} is damaged or was edited: its own digest does not match")
        del body["format"], body["format_version"]
        known = {one.name for one in fields(cls) if _SINCE.get(one.name, 1) <= number}
        if set(body) != known:
            odd = sorted(set(body) ^ known)
            raise SavedHeadError(
                f"{where} does not hold the fields of a head: {', '.join(odd)[:200]} unknown or missing"
            )
        return cls(**_checked({"threads": {}, **body}, where))


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


def versions(head: str) -> dict[str, str]:
    """Return the versions of Python and of the libraries that a head's fit runs through."""
    names = ["numpy", "scikit-learn", "scipy"]
    nested = ["torch", "xgboost"]
    beside = {"late": nested, "stacking": nested, "weighted": nested}
    beside |= {name: ["torch"] for name in ("mlp", "gated", "bilinear", "tokens", "tabm")}
    beside |= {name: [name] for name in ("xgboost", "lightgbm", "catboost")}
    names += beside.get(head, [])
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", data):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise SavedHeadError(f"{where} is nested {deepest} deep, more than any head's file")
    try:
        body = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SavedHeadError(f"{where} is no JSON: {str(error)[:120]}") from error
    if not isinstance(body, dict):
        raise SavedHeadError(f"{where} is no JSON object")
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def _rendered(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, indent=2, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _checked(body: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the fields with lists as tuples, or say which has not the form it must have."""

    def wrong(name: str) -> SavedHeadError:
        return SavedHeadError(f"{where}: field {name!r} has not the form of a head's")

    for name in ("params", "fingerprints", "values", "files", "versions", "threads", "extra"):
        if not isinstance(body[name], dict):
            raise wrong(name)
    if not isinstance(body["head"], str):
        raise wrong("head")
    if isinstance(body["seed"], bool) or not isinstance(body["seed"], int):
        raise wrong("seed")
    blocks, classes, class_set = body["blocks"], body["classes"], body["class_set"]
    if not isinstance(blocks, list) or not all(
        isinstance(b, list) and len(b) == 2 and isinstance(b[0], str) and type(b[1]) is int and b[1] > 0 for b in blocks
    ):
        raise wrong("blocks")
    if not blocks or len({name for name, _ in blocks}) < len(blocks) or sum(width for _, width in blocks) > WIDEST:
        raise wrong("blocks")
    if not isinstance(classes, list) or len(classes) < 2 or len({type(one) for one in classes}) > 1:
        raise wrong("classes")
    if not isinstance(classes[0], (str, int, float)):
        raise wrong("classes")
    if class_set is not None and not (isinstance(class_set, list) and all(isinstance(one, str) for one in class_set)):
        raise wrong("class_set")
    if not all(isinstance(value, str) for value in body["fingerprints"].values()):
        raise wrong("fingerprints")
    if not all(isinstance(value, str) for value in body["versions"].values()):
        raise wrong("versions")
    if not all(type(count) is int and count > 0 for count in body["threads"].values()):
        raise wrong("threads")
    for name, entry in body["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise SavedHeadError(f"{where} names a file that no head has: {name[:60]!r}")
        if not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
            raise wrong("files")
        if type(entry["bytes"]) is not int or entry["bytes"] < 0 or not isinstance(entry["sha256"], str):
            raise wrong("files")
    return {
        **body,
        "blocks": tuple((name, width) for name, width in blocks),
        "classes": tuple(classes),
        "class_set": None if class_set is None else tuple(class_set),
    }
