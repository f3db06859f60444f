"""What a head is to the evaluation, its answers over all declared classes, and files of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import needed
from ...kit.files import write_whole
from ...kit.table import facts_html, shortened
from ...kit.text import read_cells
from ..errors import PredictionsError, ReportError

if TYPE_CHECKING:
    import pandas


class Classifier(Protocol):
    """A scikit-learn classifier, fitted or not."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any) -> Any:
        """Learn from (n, D) rows and (n,) labels."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return (n, k) probabilities in the order of ``classes_``."""

    def get_params(self, deep: bool = ...) -> dict[str, Any]:
        """Return the parameters."""

    def set_params(self, **params: Any) -> Any:
        """Change parameters."""


class Truth(Protocol):
    """Rows that answers are judged on; `Rows` is one, a kept run another."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""

    @property
    def y(self) -> NDArray[np.int64]:
        """(n,) positions in ``classes``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sample ids."""

    @property
    def clusters(self) -> tuple[str, ...] | None:
        """The group of each row when any two rows share one; else None."""

    @property
    def split(self) -> str:
        """The split that they are of; empty where it is not known."""


def aligned(proba: NDArray[Any], seen: NDArray[Any], k: int, where: str) -> NDArray[np.float64]:
    """Spread (…, n, seen) probabilities over all k declared classes: a class that was never seen gets 0."""
    table = np.asarray(proba, dtype=np.float64)
    positions = np.asarray(seen, dtype=np.int64)
    if table.shape[-1] != positions.size or not np.isfinite(table).all() or (table < 0).any():
        raise ReportError(
            f"{where} must answer {positions.size} finite probabilities a row, however: shape {table.shape}"
        )
    if not np.allclose(table.sum(axis=-1), 1.0, atol=1e-4):
        raise ReportError(f"{where} must answer probabilities that sum to 1, however: {table.sum(axis=-1).min():.4f}")
    full = np.zeros((*table.shape[:-1], k))
    full[..., positions] = table
    return full


FIXED = ("sample_id", "label", "predicted")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a head answered, row by row; checked once when made."""

    ids: tuple[str, ...]
    """Sample ids, all different."""
    classes: tuple[str, ...]
    """Class names in the order of the probability columns."""
    proba: NDArray[np.float64]
    """(n, k) probabilities; float32 values survive the file exactly as well."""
    labels: tuple[str | None, ...] | None = None
    """True class names; None where unknown."""

    def _facts(self) -> dict[str, str]:
        found = {"classes": shortened(self.classes), "rows": shortened(self.ids)}
        if self.labels is None or not any(self.labels):
            return found | {"labels": "none"}
        right = [one == self.classes[i] for one, i in zip(self.labels, self.y_pred, strict=True) if one is not None]
        return found | {"labels": f"{len(right):,}, {sum(right):,} of them as predicted"}

    def __repr__(self) -> str:
        """Return one line; the rows are left to whoever asks for them."""
        return f"<Predictions: {len(self.ids):,} rows, {len(self.classes)} classes; labels {self._facts()['labels']}>"

    def _repr_html_(self) -> str:
        return facts_html(f"Predictions: {len(self.ids):,} rows", self._facts())

    def __len__(self) -> int:
        return len(self.ids)

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas DataFrame, a row a sample, as the file has them.

        Its columns are ``label`` (missing where unknown), ``predicted`` and the probability of each class.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        frames = needed("pandas", "a DataFrame of predictions", extra="frames")
        words = [self.classes[i] for i in self.y_pred]
        told: dict[str, Any] = {"label": list(self.labels or [None] * len(self)), "predicted": words}
        told |= {name: self.proba[:, i] for i, name in enumerate(self.classes)}
        made: pandas.DataFrame = frames.DataFrame(told, index=frames.Index(self.ids, name="sample_id"))
        return made

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        n, k = len(self.ids), len(self.classes)
        if self.proba.shape != (n, k):
            raise PredictionsError(f"probabilities must have shape {(n, k)}, however: {self.proba.shape}")
        if not np.isfinite(self.proba).all():
            raise PredictionsError("probabilities must be finite, however: some are NaN or infinite")
        if len(set(self.ids)) < n or len(set(self.classes)) < k or not k or not all(self.ids):
            raise PredictionsError("sample ids and class names must be all different and not empty")
        if not all(name.strip() for name in self.classes):  # whoever reads a table leaves out columns without a title
            raise PredictionsError("a class name must be more than blanks, however: one is not")
        if set(self.classes) & set(FIXED):
            raise PredictionsError(f"a class cannot bear the name of a column: {', '.join(FIXED)}")
        strange = {label for label in self.labels or () if label is not None} - set(self.classes)
        if strange or len(self.labels or self.ids) != n:
            raise PredictionsError(
                f"labels must be one a row and declared classes, however: {len(self.labels or ())} for {n} rows"
                + (f", unknown: {', '.join(sorted(strange)[:5])}" if strange else "")
                + f"\n  classes: {', '.join(self.classes)}"
            )

    @property
    def y_pred(self) -> NDArray[np.int64]:
        """(n,) most probable class position; the first of equals."""
        best: NDArray[np.int64] = self.proba.argmax(axis=1).astype(np.int64)
        return best

    @property
    def y_true(self) -> NDArray[np.int64]:
        """(n,) position of the true class; -1 where it is unknown."""
        position = {name: i for i, name in enumerate(self.classes)}
        labels = self.labels or (None,) * len(self.ids)
        return np.array([-1 if label is None else position[label] for label in labels], dtype=np.int64)


def predictions_csv(predictions: Predictions) -> str:
    """Return ``sample_id,label,predicted,<class>,…`` as CSV text; numbers read back exactly."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIXED, *predictions.classes])
    labels: Sequence[str | None] = predictions.labels or (None,) * len(predictions.ids)
    rows = zip(predictions.ids, labels, predictions.y_pred.tolist(), predictions.proba.tolist(), strict=True)
    writer.writerows([name, label or "", predictions.classes[y], *map(repr, p)] for name, label, y, p in rows)
    return out.getvalue()


def write_predictions(path: Path | str, predictions: Predictions, *, overwrite: bool = True) -> Path:
    """Write `predictions_csv` as UTF-8, whole or not at all; see `write_whole`."""
    return write_whole(Path(path), predictions_csv(predictions).encode(), overwrite=overwrite)


def read_predictions(path: Path | str) -> Predictions:
    """Read a file written by `write_predictions`, or saved again by a spreadsheet with other separators.

    Raises
    ------
    PredictionsError
        Naming file and line, if it is no such file or its ``predicted`` column disagrees with the probabilities.
    """
    path = Path(path)
    rows = read_cells(path, error=PredictionsError, known=FIXED, strip=False)
    first, header = rows[0] if rows else (1, [])
    if tuple(header[:3]) != FIXED or len(header) < 4:
        raise PredictionsError(
            f"{path}:{first}: expected the columns {', '.join(FIXED)}, <class>, …, however: {', '.join(header)}"
        )
    classes = tuple(header[3:])
    ids, labels, stated, proba = [], [], [], []
    for line, cells in rows[1:]:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            raise PredictionsError(f"{where}: expected {len(header)} cells, however: {len(cells)}")
        ids.append(cells[0])
        labels.append(cells[1] or None)
        stated.append((where, cells[2]))
        try:
            proba.append([float(cell.replace(",", ".")) for cell in cells[3:]])
        except ValueError as error:
            raise PredictionsError(f"{where}: {error}") from None
    table = np.array(proba, dtype=np.float64).reshape(len(ids), len(classes))
    known = tuple(labels) if any(label is not None for label in labels) else None
    try:
        found = Predictions(ids=tuple(ids), classes=classes, proba=table, labels=known)
    except PredictionsError as error:
        raise PredictionsError(f"{error}\n  in file: {path}") from None
    for y, (where, name) in zip(found.y_pred.tolist(), stated, strict=True):
        if classes[y] != name:
            raise PredictionsError(f"{where}: predicted {name!r}, but {classes[y]!r} has the highest probability")
    return found
