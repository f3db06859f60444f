"""Do the libraries fit this package, and each other? Where do pretrained weights come from?"""

from __future__ import annotations

import importlib
import os
import platform
import time
import urllib.error
import urllib.request
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from ...kit import plugins
from ...kit.errors import CerError
from ..console import size_text
from . import Check, fail, guarded, ok, one_line, warn

PACKAGE = "cer-fusion"
FOUND_BY = ("mtcnn", "yunet", "scrfd")
"""Detectors that are built in."""
_ANSWER_S = 3.0
_WALK_S = 1.0
_WITHOUT = "without it: weights in the cache, files (--weights FILE) and --weights random work"


def checks() -> list[Check]:
    """All checks of libraries; imports torch, which takes seconds."""
    return [
        *guarded("versions", _versions),
        *guarded("torch + torchvision", _vision),
        *guarded("timm", lambda: _imports("timm", "vit, resnet50 and timm:… need it")),
        *guarded("numpy + torch", _numpy),
        *guarded("h5py", _hdf5),
        *guarded("xgboost", lambda: _imports("xgboost", "the head xgboost needs it; the other heads do not")),
    ]


def plugin_checks() -> list[Check]:
    """What other distributions add, each loaded as it is when it is asked for."""
    found = [one for group in plugins.GROUPS for one in plugins.entry_points_of(group)]
    if os.environ.get(plugins.SWITCH, "").strip() == "0":
        names = ", ".join(f"{one.name} ({one.distribution})" for one in found)
        return [ok("plugins", f"left out by {plugins.SWITCH}=0: {names}", f"unset {plugins.SWITCH}")] if found else []
    return [check for one in found for check in guarded(f"plugin {one.name}", partial(_plugin, one))]


def _plugin(one: plugins.Plugin) -> Check:
    """Does a plugin load, as what its group holds, and is it the one that its name stands for?"""
    from ...backbones.recipes import recipe_of
    from ...fusion.heads import head_class

    title, whose = f"plugin {one.name} ({one.group})", f"{one.distribution} {one.version}"
    advice = f"tell its authors, or pip uninstall {one.distribution}; {plugins.SWITCH}=0 leaves all plugins out"
    try:
        stands = _stands_for(one)
        if stands is None:
            return warn(title, f"{whose} is left out: {one.name!r} is built in", advice)
        if stands != one:
            return warn(title, f"{whose} is left out: {stands.distribution} has one of that name", advice)
        loaded = one.load()
        if one.group == "heads":
            head_class(one.name)
        elif one.group == "backbones":
            recipe_of(one.name)
        elif not callable(loaded):
            return warn(title, f"{whose}: {one.value} cannot be called", advice)
    except CerError as error:
        return warn(title, f"{whose}: {one_line(str(error).partition(chr(10))[0])}", advice)
    return ok(title, f"{whose}, {one.value}")


def _stands_for(one: plugins.Plugin) -> plugins.Plugin | None:
    """The plugin that the name stands for in its group; None where something built in does."""
    from ...backbones.recipes import plugin_of as backbone_of
    from ...featstore.manifests.adapters import KINDS
    from ...fusion.heads import plugin_of as head_of

    if one.group == "heads":
        return head_of(one.name)
    if one.group == "backbones":
        try:
            return backbone_of(one.name)
        except plugins.PluginError:  # broken: loading it says why
            return plugins.plugins("backbones").get(one.name)
    own = {name for name, kind in KINDS.items() if kind.plugin is None}
    return plugins.plugins(one.group, own if one.group == "manifests" else FOUND_BY).get(one.name)


def _versions() -> list[Check]:
    """Every required library against the minimum this package names; optional ones are told apart."""
    from packaging.requirements import Requirement

    found: list[Check] = []
    wanted = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    needed = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        if problem := _unmet(requirement):
            advice = f"pip install --upgrade '{requirement.name}{requirement.specifier}'"
            found.append(fail(requirement.name, problem, advice))
    if not found:
        version = f"{PACKAGE} {metadata.version(PACKAGE)}, Python {platform.python_version()}"
        found.append(ok("versions", f"{version}: {len(needed)} libraries, all as new as needed"))
    for extra in ("onnx", "parquet"):
        missing = [
            problem
            for r in wanted
            if r not in needed and r.marker and r.marker.evaluate({"extra": extra}) and (problem := _unmet(r))
        ]
        if missing:
            found.append(ok(f"extra {extra}", f"not there: {'; '.join(missing)}", f"pip install '{PACKAGE}[{extra}]'"))
    return found


def _unmet(requirement: Any) -> str:
    """Why a requirement is not met, or nothing."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed, expected {requirement.specifier}"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"expected {requirement.name}{requirement.specifier}, however: {version}"
    return ""


def _vision() -> Check:
    """torchvision is compiled against one version of torch, and breaks in strange ways beside another."""
    from packaging.requirements import Requirement

    name = "torch + torchvision"
    torch_version, vision_version = metadata.version("torch"), metadata.version("torchvision")
    pair = f"torch {torch_version}, torchvision {vision_version}"
    advice = "install a pair that belongs together: pip install --upgrade torch torchvision"
    for text in metadata.requires("torchvision") or []:
        requirement = Requirement(text)
        if requirement.name == "torch" and not requirement.specifier.contains(torch_version, prereleases=True):
            return fail(name, f"{pair}, which wants torch{requirement.specifier}", advice)
    try:
        torch, ops = importlib.import_module("torch"), importlib.import_module("torchvision.ops")
        kept = ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # what a wrong pair raises
        return fail(name, f"{pair}: {one_line(error)}", advice)
    return ok(name, f"{pair}; compiled operators work") if len(kept) == 1 else fail(name, f"{pair}: wrong nms", advice)


def _imports(name: str, why: str) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # the boundary: a library may raise anything while it is imported
        return fail(name, f"cannot be imported: {one_line(error)}", f"{why}; pip install --force-reinstall {name}")
    return ok(name, f"{module.__version__} imports")


def _numpy() -> Check:
    """Do the compiled packages take this NumPy's arrays? Those built for NumPy 1 do not take NumPy 2's."""
    import numpy as np

    failed = []
    torch = importlib.import_module("torch")
    for name, use in (
        ("torch", lambda: torch.from_numpy(np.ones(2, dtype=np.float32)).numpy()),
        ("scipy", lambda: importlib.import_module("scipy.special").expit(np.ones(2))),
        ("sklearn", lambda: importlib.import_module("sklearn.linear_model")),
    ):
        try:
            use()
        except Exception as error:  # the boundary: ABI mismatches raise nearly anything
            failed.append(f"{name} ({one_line(error, 60)})")
    if failed:
        return fail(
            "numpy",
            f"numpy {np.__version__} does not fit: {'; '.join(failed)}",
            f"upgrade what does not fit, or pip install 'numpy<{int(np.__version__.split('.')[0])}'",
        )
    return ok("numpy", f"{np.__version__}; torch, scipy and scikit-learn take its arrays")


def _hdf5() -> Check:
    """h5py refuses or crashes with another libhdf5 than it was compiled against."""
    h5py = importlib.import_module("h5py")
    runtime, built = h5py.version.hdf5_version_tuple, h5py.version.hdf5_built_version_tuple
    text = f"h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"
    if tuple(runtime[:2]) != tuple(built[:2]):
        compiled = ".".join(map(str, built))
        return warn("h5py", f"{text}, compiled against {compiled}", "pip install --force-reinstall h5py")
    return ok("h5py", text)


def hub_checks() -> list[Check]:
    """Caches, and whether the hub answers."""
    return [
        *guarded("hub cache", _hub_cache, limit_s=10),
        *guarded("torch cache", _torch_cache, limit_s=10),
        *_answer(),
    ]


def _hub_cache() -> Check:
    constants = importlib.import_module("huggingface_hub.constants")
    return _folder("hub cache", Path(constants.HF_HUB_CACHE), "HF_HOME moves it")


def _torch_cache() -> Check:
    torch = importlib.import_module("torch")
    return _folder("torch cache", Path(torch.hub.get_dir()), "TORCH_HOME moves it")


def _folder(name: str, folder: Path, how: str) -> Check:
    if not folder.is_dir():
        return ok(name, f"{folder}, empty so far; {how}")
    nbytes, whole = _size(folder)
    return ok(name, f"{folder}, {'' if whole else 'more than '}{size_text(nbytes)}; {how}")


def _size(folder: Path) -> tuple[int, bool]:
    """Bytes in a folder, links not followed, and False where counting took too long."""
    started, nbytes = time.monotonic(), 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                nbytes += (Path(parent) / name).lstat().st_size
            except OSError:  # removed meanwhile
                continue
        if time.monotonic() - started > _WALK_S:
            return nbytes, False
    return nbytes, True


def _answer() -> list[Check]:
    found = guarded("hub", _hub, limit_s=2 * _ANSWER_S)
    # a lookup of names has no time limit of its own; no answer is a warning here, since much works without the hub
    return [c if c.status != "fail" else warn("hub", c.found, _WITHOUT) for c in found]


def _hub() -> Check:
    constants = importlib.import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        return warn("hub", "HF_HUB_OFFLINE is set: nothing is downloaded", f"unset it to download; {_WITHOUT}")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            return warn("hub", f"{constants.ENDPOINT} answers with status {error.code}", f"try later; {_WITHOUT}")
    except (OSError, ValueError) as error:  # no network, no name, no route, a proxy that refuses, a malformed endpoint
        return warn("hub", f"{constants.ENDPOINT} does not answer: {one_line(error)}", _WITHOUT)
    return ok("hub", f"{constants.ENDPOINT} answers ({time.monotonic() - started:.1f} s)")
