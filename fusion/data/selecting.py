"""Choosing blocks by name, for scikit-learn's Pipeline and ColumnTransformer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ...kit.errors import nearest
from ..errors import BlockError
from .blocks import WHOLE, checked_widths, slices
from .entering import in_order, refuse_arrays
from .entering import titles_of as _titles
from .joined import JoinedRows

_COLUMN = re.compile(r"(.+)_(\d+)")
"""A column of a frame: block and number, as `View.to_pandas` and exported CSV name them."""


class Blocks(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Take the columns of some blocks out of joined rows.

    As a step of a Pipeline it passes them on, in the order in which they are named; as the columns of a
    ColumnTransformer it says where they stand::

        make_pipeline(Blocks("vit", "manet", blocks=view.widths), StandardScaler(), LogisticRegression())
        ColumnTransformer([("vit", PCA(32), Blocks("vit", blocks=view.widths))], remainder="passthrough")

    Rows may be an array (n, D), `JoinedRows` (which stay on the disk), or a DataFrame as `View.to_pandas` gives it,
    whose columns say themselves whose they are. Values pass as they are, NaN too.

    Parameters
    ----------
    *names : str
        Blocks (``manet.local``) or features (``manet``: all its blocks). None names all blocks.
    blocks : dict of block name to width, optional
        In the order of the columns, as `View.widths` and `Rows.widths` give it; needed for arrays if blocks are named.

    Attributes
    ----------
    blocks_ : dict of block name to width
        Those chosen, in their order: what ``make_head(blocks=...)`` behind it takes.
    columns_ : ndarray of int
        Where the chosen columns stand in the rows.
    """

    def __init__(
        self, *names: str, blocks: Mapping[str, int] | None = None, chosen: Sequence[str] | None = None
    ) -> None:
        self.chosen = names or chosen
        self.blocks = blocks

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the names and, in the order of the columns, the blocks."""
        return in_order(self, N_CHAR_MAX)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by keyword: the names are ``chosen``."""
        return {"blocks": self.blocks, "chosen": self.chosen}

    def __call__(self, X: Any) -> list[Any]:
        """Return the chosen columns of `X` as ColumnTransformer asks for them: names of a frame's, positions else."""
        known, where = self._found(X)
        columns = [where[name] for name in self._names(known)]
        positions = np.concatenate([np.arange(0), *columns]).astype(int)
        titles = _titles(X)
        return positions.tolist() if titles is None else [titles[i] for i in positions]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Look where the chosen blocks stand in rows `X` (n, D); nothing is learned.

        Raises
        ------
        BlockError
            If there is no such block, the widths are not those of the rows, or nothing says where the blocks stand.
        """
        known, where = self._found(X)
        if isinstance(X, JoinedRows):
            self.n_features_in_ = X.shape[1]
        else:
            validate_data(self, X, dtype=None, ensure_all_finite=False, skip_check_array=_titles(X) is not None)
        names = self._names(known)
        self.blocks_ = {name: known[name] for name in names}
        self.columns_: NDArray[np.int64] = np.concatenate([where[name] for name in names]).astype(np.int64)
        return self

    def transform(self, X: Any) -> Any:
        """Return the chosen columns of rows `X` (n, D): an array, a frame of a frame, lazy rows of lazy ones."""
        check_is_fitted(self)
        if isinstance(X, JoinedRows):
            return JoinedRows({name: X.blocks[name] for name in self.blocks_})
        if _titles(X) is not None:
            validate_data(self, X, reset=False, skip_check_array=True)
            return X.iloc[:, self.columns_] if hasattr(X, "iloc") else X[:, self.columns_.tolist()]
        rows = validate_data(self, X, reset=False, dtype=None, ensure_all_finite=False)
        return rows[:, self.columns_]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return a name a chosen column: a frame's own, else ``vit_0``, ``vit_1`` …"""
        check_is_fitted(self)
        titles = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            given = np.asarray(input_features, dtype=object)
            if titles is not None and not np.array_equal(given, titles):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(given) != self.n_features_in_:
                raise ValueError(f"input_features should have length equal to {self.n_features_in_}, got {len(given)}")
            titles = given
        if titles is not None:
            return np.asarray(titles[self.columns_], dtype=object)
        return np.array([f"{name}_{i}" for name, width in self.blocks_.items() for i in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: nothing is computed, so that anything passes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.requires_fit = True
        return tags

    def _found(self, X: Any) -> tuple[dict[str, int], dict[str, NDArray[np.int64]]]:
        """Return the blocks there are, with their widths, and where each one's columns stand."""
        if isinstance(X, JoinedRows):
            known = dict(X.widths)
        elif self.blocks is None and (titles := _titles(X)) is not None:
            refuse_arrays(X, titles)
            return _by_title(titles)
        elif self.blocks is None and self.chosen:
            raise BlockError(
                f"nothing says where {', '.join(map(repr, self.chosen or ()))} stand in an array: give "
                f"{type(self).__name__}(…, blocks=view.widths)"
            )
        else:
            shape = X.shape if isinstance(getattr(X, "shape", None), tuple) else np.asarray(X).shape
            known = checked_widths(self.blocks, shape[1] if len(shape) == 2 else 1)
        return known, {name: np.arange(one.start, one.stop) for name, one in slices(known).items()}

    def _names(self, known: Mapping[str, int]) -> list[str]:
        """Return the chosen blocks, those of a feature in their order."""
        found: list[str] = []
        for name in self.chosen or ():
            mine = [block for block in known if block == name or block.startswith(f"{name}.")]
            if not mine:
                raise BlockError(f"there is no block {name!r}; {nearest(str(name), known)}")
            found += mine
        if twice := [name for name in dict.fromkeys(found) if found.count(name) > 1]:
            raise BlockError(f"block {twice[0]!r} is named twice")
        return found or list(known)


def _by_title(titles: Sequence[str]) -> tuple[dict[str, int], dict[str, NDArray[np.int64]]]:
    """Return blocks and places of columns that are named ``<block>_<i>``; others are no block's."""
    where: dict[str, list[int]] = {}
    for place, title in enumerate(titles):
        if named := _COLUMN.fullmatch(title):
            where.setdefault(named[1], []).append(place)
    if not where:
        where = {WHOLE: list(range(len(titles)))}
    return {name: len(one) for name, one in where.items()}, {name: np.array(one) for name, one in where.items()}
