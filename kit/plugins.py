"""Plugins: what other distributions add by entry points, known by name and loaded when it is asked for.

A distribution says in its `pyproject.toml` what it adds, for instance::

    [project.entry-points."cer_fusion.heads"]
    prior = "my_package.prior:PriorHead"

Groups are `cer_fusion.backbones`, `cer_fusion.heads`, `cer_fusion.manifests` and `cer_fusion.detectors`. What is built
in wins over a plugin of its name, a broken plugin is named in a warning and left out of lists, and ``CER_PLUGINS=0``
leaves all of them out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import CerError

SWITCH = "CER_PLUGINS"
GROUPS = ("backbones", "heads", "manifests", "detectors")
log = logging.getLogger(__name__)
_told: set[tuple[str, str, str]] = set()


class PluginError(CerError, ImportError):
    """A plugin that was asked for by name, and cannot be loaded or is not what its group holds."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One entry point of another distribution."""

    name: str
    """What it is asked for by."""
    group: str
    """Without `cer_fusion.`: ``heads``."""
    value: str
    """``module:attribute``, or a module."""
    distribution: str
    """Whose it is."""
    version: str
    """Of the distribution."""

    def load(self) -> Any:
        """Import it.

        Raises
        ------
        PluginError
            Naming plugin, distribution and what happened.
        """
        try:
            return EntryPoint(name=self.name, value=self.value, group=f"cer_fusion.{self.group}").load()
        except (Exception, SystemExit) as error:  # a boundary: other people's code, and the reason is kept
            raise PluginError(self.told(f"{type(error).__name__}: {error}")) from error

    def told(self, what: str) -> str:
        """Say what is wrong with it, and what to do."""
        return (
            f"the plugin {self.name!r} ({self.group}, {self.value}) of {self.distribution} {self.version} cannot be "
            f"used: {what}\n  tell its authors, uninstall it (pip uninstall {self.distribution}), or leave all plugins "
            f"out with {SWITCH}=0"
        )

    @property
    def origin(self) -> dict[str, str]:
        """What goes into provenance: the distribution and its version."""
        return {"distribution": self.distribution, "version": self.version}

    def warn(self, what: object) -> None:
        """Say once that it is left out."""
        tell_once(self, str(what))


def tell_once(plugin: Plugin, text: str) -> None:
    """Warn of a plugin, however often one comes by it."""
    key = (plugin.group, plugin.name, text)
    if key not in _told:
        _told.add(key)
        log.warning("%s", text)


def plugins(group: str, built_in: Collection[str] = ()) -> Mapping[str, Plugin]:
    """Return the plugins of a group by name, sorted; none is imported.

    Those called like something built in are left out, and of two with one name all but the first by distribution; both
    with a warning.
    """
    if os.environ.get(SWITCH, "").strip() == "0":
        return {}
    found: dict[str, Plugin] = {}
    for one in entry_points_of(group):
        if one.name in built_in:
            tell_once(one, one.told(f"{one.name!r} is built in, and what is built in wins"))
        elif one.name in found:
            tell_once(one, one.told(f"{found[one.name].distribution} has a plugin of that name too, and is taken"))
        else:
            found[one.name] = one
    return found


@cache
def entry_points_of(group: str) -> tuple[Plugin, ...]:
    """Return all that other distributions add to a group, what is left out included; none is imported."""
    every = [
        Plugin(
            name=one.name, group=group, value=one.value,
            distribution="unknown" if one.dist is None else one.dist.name,
            version="unknown" if one.dist is None else one.dist.version,
        )
        for one in entry_points(group=f"cer_fusion.{group}")
    ]  # fmt: skip
    return tuple(sorted(every, key=lambda one: (one.name, one.distribution)))


def need(group: str, name: str | None, origin: Mapping[str, str], what: str) -> None:
    """Refuse to open what a plugin made that is not here.

    Parameters
    ----------
    group : str
        Without `cer_fusion.`.
    name : str or None
        What the plugin is called; None where only its distribution is known.
    origin : mapping
        Its distribution and version, as provenance keeps them (`Plugin.origin`).
    what : str
        What needs it, for the message.

    Raises
    ------
    PluginError
        Naming plugin, distribution, version, and what to do.
    """
    here = plugins(group)
    if name in here or (name is None and any(one.distribution == origin["distribution"] for one in here.values())):
        return
    called = "a plugin" if name is None else f"the plugin {name!r}"
    remedy = f"install it: pip install '{origin['distribution']}=={origin['version']}'"
    if os.environ.get(SWITCH, "").strip() == "0":
        remedy = f"all plugins are left out by {SWITCH}=0: unset it"
    whose = f"{origin['distribution']} {origin['version']}"
    raise PluginError(f"{what} needs {called} ({group}) of {whose}, which is not here\n  {remedy}")


def forget() -> None:
    """Look for plugins anew: something was installed meanwhile."""
    entry_points_of.cache_clear()
    _told.clear()
