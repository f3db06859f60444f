"""The heads, one file each, found by name; none is imported before it is asked for."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from fusion.errors import HeadConfigError, UnknownHeadError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusion.heads.base import Head
    from fusion.heads.mlp_config import MLPConfig

__all__ = ["head_class", "head_names", "head_settings", "heads_in_pieces", "make_head"]

_HEADS = {
    "mlp": "fusion.heads.mlp:MLPHead",
    "linear": "fusion.heads.linear:LinearHead",
    "weighted": "fusion.heads.weighted:WeightedHead",
    "late": "fusion.heads.late:LateHead",
    "xgboost": "fusion.heads.xgb:XGBoostHead",
    "histgb": "fusion.heads.histgb:HistGBHead",
    "gated": "fusion.heads.gated:GatedHead",
    "bilinear": "fusion.heads.bilinear:BilinearHead",
    "tokens": "fusion.heads.tokens:TokensHead",
    "tabm": "fusion.heads.tabm:TabMHead",
}
_IN_PIECES = (
    "mlp",
    "linear",
    "gated",
    "bilinear",
    "tokens",
    "tabm",
)  # those whose class says so, known here without importing them all


def make_head(
    name: str, *, blocks: Mapping[str, int] | None = None, config: MLPConfig | None = None, **params: Any
) -> Head:
    """Build an unfitted head, a scikit-learn classifier.

    Parameters
    ----------
    name : str
        One of `head_names()`.
    blocks : dict of block name to width, optional
        In the order in which `concat` joined them. None treats all columns as one block.
    config : MLPConfig, optional
        Settings as one object, for example ``MLPConfig.paper()``; `params` go before it.
    **params
        Settings of this head; its class lists them.

    Raises
    ------
    UnknownHeadError
        If there is no head of that name.
    HeadConfigError
        If the head has no such setting.
    """
    cls = head_class(name)
    settings = {**(asdict(config) if config is not None else {}), **params}
    known = head_settings(name)
    for setting in settings:
        if setting not in known:
            raise HeadConfigError(f"head {name!r} has no setting {setting!r}; {nearest(setting, known)}")
    return cls(blocks=blocks, **settings)


def head_settings(name: str) -> tuple[str, ...]:
    """Return the settings that the head of this name takes."""
    return tuple(one for one in signature(head_class(name)).parameters if one != "blocks")


def head_names() -> tuple[str, ...]:
    """Return the names that `make_head` knows, the paper's head first."""
    return tuple(_HEADS)


def heads_in_pieces() -> tuple[str, ...]:
    """Return the names of the heads that learn from rows that do not fit in memory (`JoinedRows`)."""
    return _IN_PIECES


def head_class(name: str) -> type[Head]:
    """Return the class behind a head's name."""
    if name not in _HEADS:
        raise UnknownHeadError(f"there is no head {name!r}; {nearest(str(name), _HEADS)}")
    module, _, attribute = _HEADS[name].partition(":")
    found: type[Head] = getattr(import_module(module), attribute)
    return found
