"""The heads, one file each or a plugin (`kit/plugins.py`), found by name; none is imported before it is asked for."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...kit.errors import nearest
from ...kit.plugins import Plugin, PluginError, plugins
from ..errors import HeadConfigError, UnknownHeadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Head
    from .settings import MLPConfig

__all__ = [
    "USUAL",
    "head_class",
    "head_names",
    "head_presets",
    "head_settings",
    "heads_in_pieces",
    "installed_heads",
    "make_head",
]

_HEADS = {
    "mlp": "cer_fusion.fusion.heads.mlp:MLPHead",
    "multitask": "cer_fusion.fusion.heads.multitask:MultitaskHead",
    "sequence": "cer_fusion.fusion.heads.sequence:SequenceHead",
    "linear": "cer_fusion.fusion.heads.linear:LinearHead",
    "weighted": "cer_fusion.fusion.heads.weighted:WeightedHead",
    "ridge": "cer_fusion.fusion.heads.ridge:RidgeHead",
    "lda": "cer_fusion.fusion.heads.lda:LDAHead",
    "svm": "cer_fusion.fusion.heads.svm:SVMHead",
    "knn": "cer_fusion.fusion.heads.neighbours:KNNHead",
    "ncm": "cer_fusion.fusion.heads.neighbours:NCMHead",
    "late": "cer_fusion.fusion.heads.late:LateHead",
    "stacking": "cer_fusion.fusion.heads.late:StackingHead",
    "xgboost": "cer_fusion.fusion.heads.boosted:XGBoostHead",
    "histgb": "cer_fusion.fusion.heads.boosted:HistGBHead",
    "lightgbm": "cer_fusion.fusion.heads.boosted:LightGBMHead",
    "catboost": "cer_fusion.fusion.heads.boosted:CatBoostHead",
    "gated": "cer_fusion.fusion.heads.gated:GatedHead",
    "bilinear": "cer_fusion.fusion.heads.bilinear:BilinearHead",
    "tokens": "cer_fusion.fusion.heads.tokens:TokensHead",
    "tabm": "cer_fusion.fusion.heads.tabm:TabMHead",
}

USUAL = ("mlp", "linear", "weighted", "late", "xgboost", "histgb")
"""One of each kind, which between them answer most questions in a minute: compared when nobody names any."""


def make_head(
    name: str,
    *,
    blocks: Mapping[str, int] | None = None,
    config: MLPConfig | None = None,
    preset: str | None = None,
    **params: Any,
) -> Head:
    """Build an unfitted head, a scikit-learn classifier.

    Parameters
    ----------
    name : str
        One of `head_names()`, or any classifier of scikit-learn by its path: ``sklearn:sklearn.naive_bayes.GaussianNB``
        (`cer_fusion.fusion.heads.estimators`).
    blocks : dict of block name to width, optional
        In the order in which `concat` joined them. None treats all columns as one block.
    config : MLPConfig, optional
        Settings as one object, for example ``MLPConfig.paper()``; `params` go before it.
    preset : str, optional
        Settings by name, one of `head_presets(name)`: `paper` of `mlp`, `fast` and `quality` of boosted trees. The head
        holds the settings themselves, so that a kept one does not change with the advice.
    **params
        Settings of this head; its class lists them.

    Raises
    ------
    UnknownHeadError
        If there is no head of that name.
    HeadConfigError
        If the head has no such setting or preset.
    MissingExtraError
        If the head needs a library that is not installed.
    """
    cls = head_class(name)
    if preset is not None and preset not in cls.presets:
        raise HeadConfigError(f"head {name!r} has no preset {preset!r}; {nearest(str(preset), cls.presets)}")
    advised = {} if preset is None else cls.presets[preset]
    settings = {**advised, **(asdict(config) if config is not None else {}), **params}
    known = head_settings(name)
    for setting in settings:
        if setting not in known:
            raise HeadConfigError(f"head {name!r} has no setting {setting!r}; {nearest(setting, known)}")
    return cls(blocks=blocks, **settings)


def head_settings(name: str) -> tuple[str, ...]:
    """Return the settings that the head of this name takes."""
    return tuple(one for one in signature(head_class(name)).parameters if one != "blocks")


def head_presets(name: str) -> tuple[str, ...]:
    """Return the names of the settings that `make_head(name, preset=...)` takes."""
    return tuple(head_class(name).presets)


def head_names() -> tuple[str, ...]:
    """Return the names that `make_head` knows, the paper's head first; some need a library that is an extra."""
    return (*_HEADS, *plugins("heads", _HEADS))


def installed_heads() -> tuple[str, ...]:
    """Return the names of the heads that can be used here: those whose library is there."""
    return tuple(name for name in head_names() if (cls := _usable(name)) is not None and all(map(find_spec, cls.needs)))


def heads_in_pieces() -> tuple[str, ...]:
    """Return the names of the heads that learn from rows that do not fit in memory (`JoinedRows`)."""
    return tuple(name for name in head_names() if (cls := _usable(name)) is not None and cls.learns_in_pieces)


def plugin_of(name: str) -> Plugin | None:
    """Return the plugin that a head of this name is, where it is none of ours."""
    return plugins("heads", _HEADS).get(name)


def _usable(name: str) -> type[Head] | None:
    """Return the class behind a name; None for a plugin that is broken, of which there is one warning."""
    try:
        return head_class(name)
    except PluginError as error:
        plugin = plugin_of(name)
        assert plugin is not None
        plugin.warn(error)
        return None


def head_class(name: str) -> type[Head]:
    """Return the class behind a head's name; of scikit-learn's classifiers, one that is made for it."""
    if name.startswith("sklearn:"):
        from .estimators import estimator_head

        return estimator_head(name)
    if (plugin := plugin_of(name)) is not None:
        from .base import Head

        plugged = plugin.load()
        if not (isinstance(plugged, type) and issubclass(plugged, Head)):
            raise PluginError(plugin.told("it is no subclass of cer_fusion.fusion.heads.base.Head"))
        return plugged
    if name not in _HEADS:
        raise UnknownHeadError(
            f"there is no head {name!r}; {nearest(str(name), head_names())}\n"
            "  any classifier of scikit-learn is a head by its path: sklearn:MODULE.CLASS"
        )
    module, _, attribute = _HEADS[name].partition(":")
    found: type[Head] = getattr(import_module(module), attribute)
    return found
