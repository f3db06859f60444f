"""Classes by prompts: the text vectors of an image-text encoder stand for classes, and nothing is learned.

A class is the mean direction of its prompts' vectors, as in CLIP (Radford et al., 2021, "Learning transferable visual
models from natural language supervision", §3.1.4); its probability follows from the cosine of a picture's vector to it,
over a temperature. Prompts are data, a TOML or JSON file of class -> texts; so are their vectors, which
`cer-feat prompts` makes with the text half of the encoder whose image half made the rows, and which say so.

Classes may be the compounds themselves, or basic expressions, of which two make a compound by the rules of `zero_shot`.
"""

from __future__ import annotations

import io
import json
import tomllib
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Self, TypeAlias

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import numpy as tensors
from sklearn.base import BaseEstimator, ClassifierMixin

from ...kit.documents import parse_json
from ...kit.errors import listing, nearest
from ...kit.files import read_plain_file, write_whole
from ...kit.plain import from_plain, to_plain
from ...kit.text import read_cells
from ..data.rows import Rows
from ..errors import ExpressionError, ReportError
from .entries import After, Answer, Described
from .verdicts import Judgeable
from .zero_shot import Rule, ZeroShot, compound_proba, meaning

FloatArray: TypeAlias = NDArray[np.float64]

TEMPERATURE: Final = 0.01
"""Where vectors do not say their encoder's own: the limit that CLIP's training holds its logits to (§2.5)."""
MOST_BYTES: Final = 256 << 20
"""No file of text vectors is larger: 14 classes of 100 prompts, 1,152 columns each, take 6 MB."""
SUFFIXES: Final = (".safetensors", ".npz", ".csv")
_NOTE = "cer-text-vectors"
"""Key of the note in a safetensors file, and name of the array in an .npz."""
_PIECE = 8192


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Classes and the texts that describe them; a file's keys."""

    classes: Mapping[str, tuple[str, ...]]
    """Class -> its prompts, at least one, all different; with templates, what fills these."""
    templates: tuple[str, ...] = ()
    """Texts such as ``a photo of a {} face``: each makes a prompt of each text of a class, which fills every ``{}``."""
    source: str = ""
    """Whose wording it is."""
    about: str = ""
    """What it is for, in a line."""

    def __post_init__(self) -> None:
        """Refuse what can stand for no classes, texts that say nothing or nothing new, and placeholders left open."""
        _places(self.classes)
        for one in self.templates:
            if "{}" not in one or set("{}") & set(one.replace("{}", "")):
                raise ExpressionError(f"a template needs {{}} and no other placeholder, however: {one!r}")
        same: dict[tuple[str, ...], str] = {}
        for name, texts in self.classes.items():
            odd = next((one for one in texts if set("{}") & set(one)), None)
            if odd is not None:
                raise ExpressionError(
                    f"class {name!r} has a placeholder that nothing fills: {odd!r}\n"
                    "  put it into templates = [...], whose {} the texts of every class fill"
                )
            read = [unicodedata.normalize("NFC", " ".join(one.split())) for one in texts]
            if not texts or not all(map(_says, texts)) or len(set(read)) < len(read):
                twice = "the same one twice" if all(map(_says, texts)) else "one without a word"
                what = twice if texts else "none"
                raise ExpressionError(f"class {name!r} needs prompts that are texts and differ, however: {what}")
            if (other := same.setdefault(tuple(sorted(read)), name)) != name:
                raise ExpressionError(f"classes {other!r} and {name!r} have the same prompts: nothing tells them apart")
        if len(self.classes) < 2:
            raise ExpressionError(f"prompts are for two classes or more, however: {listing(self.classes) or 'none'}")

    @property
    def prompts(self) -> dict[str, tuple[str, ...]]:
        """Class -> its prompts, templates filled: all of its first text, then all of its second."""
        return {
            name: tuple(one.replace("{}", text) for text in texts for one in self.templates or ("{}",))
            for name, texts in self.classes.items()
        }


def _says(text: str) -> bool:
    """Tell whether a text has anything to see in it: not blanks alone, nor marks without a width."""
    return any(not one.isspace() and unicodedata.category(one)[0] != "C" for one in text)


def read_prompts(path: Path) -> PromptSet:
    """Read a prompt set: TOML or JSON with `classes`, a table of class -> list of texts, and what else `PromptSet` has.

    Raises
    ------
    ExpressionError
        If it is neither, a key is unknown or of another kind, or it is no set of prompts; with the file.
    """
    data = _bytes_of(path, 1 << 20)
    if path.suffix.lower() == ".json":
        plain = parse_json(data, where=str(path), error=ExpressionError)
    else:
        try:
            plain = tomllib.loads(data.decode("utf-8-sig"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise ExpressionError(f"{path} is no TOML: {error}\n  prompts are TOML, or JSON in a .json file") from None
    return _prompt_set(plain, str(path))


def shipped_prompts() -> dict[str, PromptSet]:
    """Return the prompt sets of this package: `compounds` of RAF-CE's fourteen, and `basic` of seven expressions."""
    text = resources.files("cer_fusion.fusion.judging").joinpath("prompts.json").read_bytes()
    found = parse_json(text, where="prompts.json")
    return {name: _prompt_set(plain, f"prompts.json, {name}") for name, plain in found.items()}


def _prompt_set(plain: Any, where: str) -> PromptSet:
    try:
        return from_plain(PromptSet, plain, where, error=ExpressionError, defaults=True)
    except ExpressionError as error:
        raise error if str(error).startswith(where) else ExpressionError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class TextVectors:
    """What an image-text encoder makes of prompts.

    Raises
    ------
    ExpressionError
        If there are not two classes, a class has no vector or is there twice, widths differ, or a vector is not finite
        or has no length.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    """Class -> (p, d), a row a prompt; not scaled."""
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class -> its p texts; empty where a file does not say them."""
    encoder: str = ""
    """What people call the encoder: ``clip:clip-vit-base-patch32``."""
    weights: str = ""
    """Digest of the weights of the encoder's image half, as the identity of its rows has it; empty if not known."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of the image half in the identity of its rows: its activation among them."""
    temperature: float | None = None
    """The encoder's own: the inverse of its logits' scale."""
    source: str = ""
    """Whose wording the prompts are."""

    def __post_init__(self) -> None:
        """Refuse what can stand for no classes."""
        _places(self.vectors)
        widths = {one.shape[1] if one.ndim == 2 and len(one) else 0 for one in self.vectors.values()}
        if len(self.vectors) < 2 or len(widths) > 1 or 0 in widths:
            shapes = ", ".join(f"{name} {one.shape}" for name, one in self.vectors.items())
            raise ExpressionError(f"expected vectors (p, d) of one width for two classes or more, however: {shapes}")
        for name, one in self.vectors.items():
            if not np.isfinite(one).all() or not np.linalg.norm(one, axis=1).all():
                raise ExpressionError(f"text vectors must be finite and have a length, however: one of {name!r} is not")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise ExpressionError(f"the temperature must be positive, however: {self.temperature}")

    @property
    def width(self) -> int:
        """d."""
        return int(next(iter(self.vectors.values())).shape[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the file's order."""
        return tuple(self.vectors)

    def direction(self, name: str) -> FloatArray:
        """Return the mean direction (d,) of a class's vectors, of length one."""
        found = self.vectors[name].astype(np.float64)
        mean: FloatArray = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(axis=0)
        if not np.linalg.norm(mean):
            raise ExpressionError(f"the vectors of {name!r} point away from each other: their mean has no direction")
        return mean / np.linalg.norm(mean)

    def standing_for(self, classes: Sequence[str]) -> tuple[str, ...] | None:
        """Return the names here of the classes asked for; None where these are compounds, and basic ones are here.

        Spelling makes no difference, as for the rules.

        Raises
        ------
        ExpressionError
            If some of the classes are here and others are not, or none is.
        """
        here = _places(self.vectors)
        found = [here.get(meaning(str(name))) for name in classes]
        lost = [name for name, at in zip(classes, found, strict=True) if at is None]
        if not lost:
            return tuple(one for one in found if one is not None)
        has = f"\n  there are prompts for: {listing(self.classes, limit=16)}"
        if len(lost) < len(found):
            raise ExpressionError(f"no prompts for {listing(lost)}, of {len(classes)} classes that are asked for{has}")
        try:
            compound_proba(np.ones((1, len(self.vectors))), self.classes, classes)
        except ExpressionError as error:
            raise ExpressionError(
                f"the prompts are of another class set: none of {listing(classes)} is there, nor two basic "
                f"expressions for each ({error}){has}"
            ) from None
        return None

    def check_rows(self, block: str, width: int, weights: str | None) -> None:
        """Refuse rows of another encoder.

        Parameters
        ----------
        block : str
            What the rows are called.
        width : int
            Their columns.
        weights : str or None
            The digest of the weights that made them, as their feature's identity has it; None if that is not known.

        Raises
        ------
        ExpressionError
            If the widths differ, or both digests are known and differ.
        """
        made = self.encoder or "an encoder that they do not name"
        if weights and self.weights and weights != self.weights:
            raise ExpressionError(
                f"text vectors and rows are of two encoders: the vectors of {made}, image weights "
                f"{self.weights[:12]}…, the rows of {block!r} of weights {weights[:12]}…\n"
                "  make the vectors with the encoder of the rows: cer-feat prompts --backbone clip:FOLDER or "
                "open-clip:NAME"
            )
        if width != self.width:
            raise ExpressionError(
                f"text vectors have {self.width} columns ({made}), expected those of the rows of {block!r}: {width}\n"
                "  rows must be those of the encoder's image half with its projection, which those of timm: are not: "
                "cer-feat extract --backbone clip:FOLDER or open-clip:NAME"
            )


def _places(names: Mapping[str, Any]) -> dict[str, str]:
    """Meaning -> name; two names of one meaning are refused, and those that say nothing."""
    found: dict[str, str] = {}
    for name in names:
        if not _says(name):
            raise ExpressionError(f"a class needs a name, however: {name!r}")
        if (other := found.setdefault(meaning(name), name)) != name:
            raise ExpressionError(f"classes {other!r} and {name!r} mean the same: one of them, please")
    return found


class PromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities of classes from the cosine of rows to text vectors; there is nothing to fit.

    Parameters
    ----------
    vectors : TextVectors
    classes : sequence of str, optional
        Which to tell apart, as the vectors call them, in order; all if left out.
    temperature : float, optional
        Cosines are divided by it before the softmax; by default the vectors', else `TEMPERATURE`.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    temperature_ : float
    """

    def __init__(
        self, vectors: TextVectors, *, classes: Sequence[str] | None = None, temperature: float | None = None
    ) -> None:
        if temperature is not None and not 0 < temperature < np.inf:
            raise ExpressionError(f"the temperature must be positive, however: {temperature}")
        self.vectors, self.classes, self.temperature = vectors, classes, temperature
        self.temperature_ = temperature or vectors.temperature or TEMPERATURE
        self.classes_ = np.array(vectors.classes if classes is None else list(classes))
        self._directions = np.stack([vectors.direction(str(name)) for name in self.classes_])  # (k, d)

    def fit(self, X: Any, y: Any = None, **more: Any) -> Self:
        """Return itself: rows and labels teach it nothing."""
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Return probabilities (n, k) of rows (n, d), an array or what is read like one, piece by piece.

        Raises
        ------
        ExpressionError
            If a row has no direction.
        """
        self.vectors.check_rows("X", int(X.shape[1]), None)
        found = [self._piece(np.asarray(X[at : at + _PIECE], np.float64), at) for at in range(0, len(X), _PIECE)]
        return np.concatenate(found) if found else np.empty((0, len(self.classes_)))

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Return the most probable class a row (n,); of equally probable ones the first."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _piece(self, rows: FloatArray, first: int) -> FloatArray:
        length = np.linalg.norm(rows, axis=1)
        if not length.all() or not np.isfinite(length).all():
            at = first + int(np.flatnonzero(~(length > 0) | ~np.isfinite(length))[0])
            raise ExpressionError(f"row {at} has no direction: it is zero, or not finite")
        logits = rows / length[:, None] @ self._directions.T / self.temperature_  # (b, d) @ (d, k) -> (b, k)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def prompted(
    vectors: TextVectors, classes: Sequence[str], *, rule: Rule | None = None, temperature: float | None = None
) -> PromptClassifier | ZeroShot:
    """Return what answers the classes by prompts: for the classes themselves, or by a rule for two expressions of each.

    Parameters
    ----------
    vectors : TextVectors
    classes : sequence of str
        What to answer, in order.
    rule : {"sum", "likely_sum", "product", "harmonic", "minimum"}, optional
        How two basic expressions make a compound, where there are prompts for those alone; "product" if left out.
    temperature : float, optional

    Raises
    ------
    ExpressionError
        If there are no prompts for a class; if a rule is given, and there are prompts for the classes themselves.
    """
    own = vectors.standing_for(classes)
    if own is None:
        head = PromptClassifier(vectors, temperature=temperature)
        return ZeroShot(head, rule=rule or "product").answering(compounds=classes)
    if rule is not None:
        raise ExpressionError(
            f"rule {rule!r} makes compounds of two basic expressions, however: there are prompts for "
            f"{listing(own)} themselves\n  leave the rule out, or take prompts for basic expressions"
        )
    return PromptClassifier(vectors, classes=own, temperature=temperature)


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptColumns:
    """What `compare` and `cross_compare` need for columns that answer by prompts, and never saw a label."""

    vectors: TextVectors
    block: str | None = None
    """The block of the encoder's rows; None: the only one of the vectors' width."""
    weights: str | None = None
    """Digest of the weights that made that block, as its feature's identity has it; None if it is not known."""
    rules: tuple[Rule, ...] = ()
    """Where there are prompts for basic expressions alone: how two make a compound, a column each; none is product."""
    temperature: float | None = None
    """None: the vectors'."""
    source: str = "prompts"
    """What the report calls the vectors: their file."""
    title: str | None = None
    """Title of the one column; None for ``prompts``, and the rule where there is one."""
    after: After | None = None
    """What is done to the answers, such as smoothing over time."""
    about: str = ""
    """What a reader of the report must know beside where the answers come from."""

    def __post_init__(self) -> None:
        """Refuse rules that stand twice, or one title for several."""
        if len(set(self.rules)) < len(self.rules) or (self.title is not None and len(self.rules) > 1):
            raise ExpressionError(
                f"rules must be different, and one title is for one, however: {', '.join(self.rules)}"
            )

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the columns."""
        if self.title is not None:
            return (self.title,)
        return tuple(f"prompts {rule}" for rule in self.rules) or ("prompts",)

    def check(self, test: Rows, titles: Sequence[str] = ()) -> None:
        """Refuse what could not be answered.

        Raises
        ------
        ReportError
            If there is no block for the vectors, or a title is taken.
        ExpressionError
            If the vectors are of another encoder or class set than the rows.
        """
        taken = set(self.titles) & set(titles)
        if taken:
            raise ReportError(f"{min(taken)!r} is the title of a head as well: rename the head")
        block = self.block_of(test)
        self.vectors.check_rows(block, test.widths[block], self.weights)
        for rule in self.rules or (None,):
            prompted(self.vectors, test.classes, rule=rule, temperature=self.temperature)

    def block_of(self, rows: Rows) -> str:
        """Return the block that the vectors are held against."""
        if self.block is not None:
            if self.block not in rows.blocks:
                raise ReportError(f"there is no block {self.block!r} for prompts; {nearest(self.block, rows.blocks)}")
            return self.block
        fitting = [name for name, width in rows.widths.items() if width == self.vectors.width]
        if len(fitting) != 1:
            widths = ", ".join(f"{name} {width}" for name, width in rows.widths.items())
            raise ReportError(
                f"text vectors have {self.vectors.width} columns, and {len(fitting)} blocks have that width, expected "
                f"one: {widths}\n  extract the rows of their encoder: cer-feat extract --backbone clip:FOLDER"
            )
        return fitting[0]

    def answers(self, test: Rows, *, runs: int, seed: int) -> dict[Judgeable, list[Answer]]:
        """Answer the test rows by every rule; there is nothing to fit, so that all runs are the same."""
        block = self.block_of(test)
        found: dict[Judgeable, list[Answer]] = {}
        for title, rule in zip(self.titles, self.rules or (None,), strict=True):
            started = perf_counter()
            head = prompted(self.vectors, test.classes, rule=rule, temperature=self.temperature)
            proba = head.predict_proba(test.blocks[block])
            proba = proba if self.after is None else self.after(proba, test)
            answer = Answer(proba=proba, head=head, fit_s=0.0, predict_s=perf_counter() - started)
            temperature = self.temperature or self.vectors.temperature or TEMPERATURE
            params = {"temperature": temperature, "encoder": self.vectors.encoder, "source": self.source}
            params |= {"rule": head.rule} if isinstance(head, ZeroShot) else {}
            described = Described(
                title=title, kind="head", blocks=(block,), head_name=type(head).__name__, params=params
            )  # fmt: skip
            found[described] = [answer] * runs
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a reader of the report must know."""
        vectors = self.vectors
        known = self.weights and vectors.weights
        return (
            f"Prompts ({', '.join(self.titles)}): text vectors of {self.source!r} "
            f"({vectors.encoder or 'encoder not named'}) for {len(vectors.classes)} classes, held against the rows by "
            "their cosine; nothing is learned, and no label was seen."
            + ("" if known else " Nothing says that they are of the encoder that made the rows: their widths agree.")
            + (f" Wording: {vectors.source}" if vectors.source else ""),
            *([self.about] if self.about else []),
        )


def read_text_vectors(path: Path | str) -> TextVectors:
    """Read text vectors from a file, by its ending.

    ``.safetensors``: a tensor (p, d) or (d,) a class; the note of `write_text_vectors` says their encoder. ``.npz``: an
    array a class likewise, or `vectors` (p, d) beside `classes` (p,), texts. ``.csv``: a title row ``class,…``, then a
    line a vector; a column `prompt` may hold its text, all others are numbers in order.

    Raises
    ------
    ExpressionError
        If it is no such file, or what it holds can stand for no classes; with the file.
    """
    path = Path(path)
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        raise ExpressionError(
            f"{path} is no file of text vectors, which end in {', '.join(SUFFIXES)}\n"
            f"  make one of prompts with: cer-feat prompts --backbone clip:FOLDER --prompts {path.name} -o vectors.npz"
        )
    try:
        if suffix == ".csv":
            return TextVectors(**_from_csv(path))
        data = _bytes_of(path, MOST_BYTES)
        arrays, note = (_from_npz if suffix == ".npz" else _from_safetensors)(data, str(path))
        order, said = _noted(note, str(path))
        if order and sorted(order) != sorted(arrays):
            raise ExpressionError(f"the note names the classes {listing(order)}, the arrays are {listing(arrays)}")
        return TextVectors(vectors=_by_class({name: arrays[name] for name in order or arrays}), **said)
    except ExpressionError as error:
        raise error if str(error).startswith(str(path)) else ExpressionError(f"{path}: {error}") from None


def write_text_vectors(path: Path, found: TextVectors, *, overwrite: bool = True) -> Path:
    """Write text vectors as safetensors or .npz, by the ending; equal vectors give equal bytes as safetensors."""
    note = _Note(
        classes=found.classes, prompts=found.prompts, encoder=found.encoder, weights=found.weights,
        temperature=found.temperature, source=found.source, options=found.options,
    )  # fmt: skip
    text = json.dumps(to_plain(note), ensure_ascii=False, sort_keys=True)
    arrays = {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in found.vectors.items()}
    if path.suffix.lower() == ".safetensors":
        return write_whole(path, tensors.save(arrays, metadata={_NOTE: text}), overwrite=overwrite)
    if path.suffix.lower() != ".npz":
        raise ExpressionError(f"text vectors are written to .safetensors or .npz, however: {path}")
    out = io.BytesIO()
    listed = [name for name, one in arrays.items() for _ in range(len(one))]
    named = {"vectors": np.concatenate(list(arrays.values())), "classes": np.array(listed), _NOTE: np.array(text)}
    np.savez(out, allow_pickle=False, **named)
    return write_whole(path, out.getvalue(), overwrite=overwrite)


def _from_safetensors(data: bytes, where: str) -> tuple[dict[str, NDArray[Any]], str | None]:
    try:
        size = int.from_bytes(data[:8], "little")
        head = parse_json(data[8 : 8 + size], where=where, error=ExpressionError)
        note = head.get("__metadata__", {}).get(_NOTE) if isinstance(head, dict) else None
        return dict(sorted(tensors.load(data).items())), note
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ExpressionError(f"{where} is no safetensors file of numbers: {error}") from None


_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError)
"""A boundary: what zipfile and NumPy raise for a damaged archive in memory, a compression they do not know, encryption,
and arrays of objects."""


def _from_npz(data: bytes, where: str) -> tuple[dict[str, NDArray[Any]], str | None]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(one.file_size for one in archive.infolist()) > MOST_BYTES:
                raise ExpressionError(f"{where} would take more than {MOST_BYTES >> 20} MiB: no text vectors do")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise ExpressionError(f"{where} is no .npz file of plain arrays: {error}") from None
    note = arrays.pop(_NOTE, None)
    if {"vectors", "classes"} <= arrays.keys():
        vectors, listed = arrays["vectors"], arrays["classes"]
        if listed.dtype.kind != "U" or vectors.ndim != 2 or listed.shape != vectors.shape[:1]:
            raise ExpressionError(
                f"{where}: vectors (p, d) need the text of a class each, classes (p,), however: {vectors.dtype} "
                f"{vectors.shape} and {listed.dtype} {listed.shape}"
            )
        arrays = {name: vectors[listed == name] for name in dict.fromkeys(listed.tolist())}
    return arrays, None if note is None else str(note)


def _from_csv(path: Path) -> dict[str, Any]:
    (_, header), *lines = read_cells(path, known=("class", "prompt"), error=ExpressionError) or [(1, [])]
    if "class" not in header:
        raise ExpressionError(f"{path}: expected a column class before the numbers, however: {', '.join(header[:4])}")
    numbers = [at for at, name in enumerate(header) if name not in ("class", "prompt")]
    found: dict[str, list[list[float]]] = {}
    texts: dict[str, list[str]] = {}
    for line, cells in lines:
        if len(cells) != len(header):
            raise ExpressionError(f"{path}:{line}: expected {len(header)} fields, however: {len(cells)}")
        name = cells[header.index("class")]
        try:
            found.setdefault(name, []).append([float(cells[at]) for at in numbers])
        except ValueError as error:
            raise ExpressionError(f"{path}:{line}: {error}") from None
        if "prompt" in header:
            texts.setdefault(name, []).append(cells[header.index("prompt")])
    vectors = {name: np.asarray(one, np.float32) for name, one in found.items()}
    return {"vectors": vectors, "prompts": {name: tuple(one) for name, one in texts.items()}}


def _by_class(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    for name, one in arrays.items():
        if one.dtype.kind != "f" or one.ndim not in (1, 2):
            raise ExpressionError(
                f"expected floats (p, d) or (d,) for class {name!r}, however: {one.dtype} {one.shape}"
            )
    return {name: np.atleast_2d(one).astype(np.float32) for name, one in arrays.items()}


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What a file of text vectors says beside them."""

    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    encoder: str
    weights: str
    temperature: float | None
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _noted(note: str | None, where: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the order of the classes and further fields of `TextVectors`, as the note says; nothing without one."""
    if note is None:
        return (), {}
    plain = parse_json(note.encode(), where=f"the note of {where}", error=ExpressionError)
    said = vars(from_plain(_Note, plain, f"the note of {where}", error=ExpressionError, defaults=True))
    return said["classes"], {name: value for name, value in said.items() if name != "classes"}


def _bytes_of(path: Path, most: int) -> bytes:
    try:
        return read_plain_file(path, most_bytes=most)
    except OSError as error:
        raise ExpressionError(f"{path} cannot be read: {error.strerror or error}") from None
