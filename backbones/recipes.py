"""Recipes: what a backbone is made of, and the catalogue of them, read from the zoo without running any of it.

A file in `backbones/zoo` describes one kind of encoder: it sets ``RECIPE``, and that is all it takes to add one. What
the catalogue lists (the recipe's plain values, and ``build``'s options with their defaults) is written there as
literals: the file is parsed for it, so listing imports neither torch nor timm, and a network's classes can stand in it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kit.plugins import Plugin, PluginError, plugins
from . import zoo
from .backbone import CPU_PIECE, Backbone
from .errors import OptionError, UnknownBackboneError, nearest
from .picture import Transform, Triple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .weights.checkpoint import Checkpoint

    State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Branches:
    """A network that classifies with a head a branch."""

    k: int
    """How many classes the heads know."""
    shares: Mapping[str, float]
    """Branch -> its share in the mixed logits and in the loss; they sum to 1."""
    logits: Callable[[Any, Tensor], dict[str, Tensor]]
    """``logits(module, x)``: pictures (b, 3, h, w) -> {branch: (b, k)}."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How `create` takes a weights file that fits, beyond the defaults."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """What it must be told."""
    choices: Sequence[Mapping[str, Any]] = ({},)
    """What the file leaves open: each is a way to use it."""
    notes: Sequence[str] = ()
    """What to know before choosing, a line each."""


@dataclass(kw_only=True)
class Encoder:
    """What a recipe builds: everything a `Backbone` needs but the device."""

    name: str | None = None
    """What the backbone is called where that is not what `create` was asked for: a file of code without its folder."""

    architecture: str
    """Names the network's code: "manet", "timm:resnet50"."""
    module: nn.Module
    """Pictures (b, 3, h, w) float -> {block: (b, d)}."""
    trunk: nn.Module
    """The part of `module` whose names a weights file holds."""
    blocks: dict[str, int]
    """Block name -> width, in the order in which they are joined."""
    transform: Transform
    """From picture to input."""
    options: dict[str, Any]
    """The choices that change the numbers (flow, tap, pooling, input size): part of the identity."""
    heads: tuple[str, ...] = ()
    """Names of layers in `trunk` that no block depends on: loaded, but not part of the identity."""
    foreign_heads: tuple[str, ...] = ()
    """Names of layers that a weights file may hold and this encoder has no use for: dropped, and logged."""
    head_reads: tuple[int, Callable[[Any, Tensor], Tensor]] | None = None
    """What a classifier's head reads in fine-tuning where that is not the joined blocks: its width, and a function of
    `module` and pictures."""
    branches: Branches | None = None
    """Heads of its own, where fine-tuning is to train those instead of one new linear head."""
    adapt: Callable[[State], State] | None = None
    """Turns a state saved for another size or by another code base into this trunk's names and shapes."""
    replace_heads: bool = False
    """Whether heads of another width than the file's may stay as initialised."""
    channels_last: bool = False
    """Whether the CPU runs this network faster on (h, w, c) memory."""
    cpu_piece: int = CPU_PIECE
    """Pictures a forward pass on a CPU: about where two cores are fastest. Changing it raises `code`."""
    code: int = 1
    """Raised when this package's own code changes what the same weights yield."""
    settle: Callable[[Checkpoint], None] | None = None
    """Called with the weights file after loading: answers what an option left to it (MA-Net's ``flow="auto"``)."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Choices that do not change the numbers (stochastic depth): described, not part of the identity."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of the catalogue, and how to build it. Needs neither torch nor timm to be read."""

    name: str
    """What `create` takes; ends in a placeholder where many encoders share one recipe: "timm:<name>"."""
    note: str
    """One sentence."""
    build: Callable[..., Encoder | Backbone] = field(repr=False)
    """``build(tag=..., pretrained=..., **options)``; its keyword arguments are the options and their defaults. Returns
    an encoder, into which weights are put next, or a finished backbone where the file named is network and weights."""
    blocks: Mapping[str, int] | None = None
    """Block name -> width with default options; None where it depends on the model."""
    size_px: int | None = None
    """Side of the input picture."""
    mean: Triple | None = None
    """Channel means."""
    std: Triple | None = None
    """Channel deviations."""
    parameters: int | None = None
    """Parameters of the network as built with default options."""
    default_weights: str | None = None
    """Pretrained tag that ``weights="pretrained"`` means; None where weights must be named."""
    title: str | None = None
    """The network as people write it, where it has a name of its own: "MA-Net"."""
    variants: tuple[Mapping[str, Any], ...] = ({},)
    """Options that change which tensors are needed; `inspect_checkpoint` tries them, and uses the first that fits."""
    tags: Callable[[str], Sequence[str]] | None = field(default=None, repr=False)
    """The pretrained tags there are for what follows the colon in the name."""
    options: Callable[[str], Mapping[str, Any]] | None = field(default=None, repr=False)
    """``options(target)``: what there is and the defaults, where ``build`` takes any because the target decides."""
    usage: Callable[[Mapping[str, int], Mapping[str, Any] | None, Path], Usage] | None = field(default=None, repr=False)
    """``usage(heads, card, path)`` of a file that fits: its classifiers (layer -> classes), and the card beside it."""
    texts: Callable[..., Any] | None = field(default=None, repr=False)
    """``texts(target, prompts, weights=…, device=…)`` of an encoder that has a text half too: their vectors, and the
    temperature of its cosines (`cer_fusion.backbones.zoo.image_text.Texts`)."""
    again: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None, repr=False)
    """``again(options)`` of rows that are there: what more to tell ``build``, so that every file with their trunk does.
    """


CALLED = ("build", "tags", "options", "usage", "texts", "again")
"""What of a recipe is no plain value: known once its file is imported."""

OWN = re.compile(r"(.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):[^\W\d]\w*")
OWN_NAME = "<file.py>:<Class>"
"""Names of users' own networks: ``folder/file.py:Class``, ``package.module:Class``; and their row in the catalogue."""

RESERVED = ("target", "tag", "pretrained", "device", "precision", "weights")
"""Arguments of ``build`` that `create` fills in, as far as a recipe takes them; ``target`` follows the name's colon."""


def names() -> tuple[str, ...]:
    """List the backbones that have a name of their own.

    Besides, ``timm:<name>`` makes any timm model (``timm:vit_small_patch14_dinov2.lvd142m``), ``onnx:<file>`` any
    ONNX model, ``clip:<folder>`` and ``open-clip:<name>`` the image half of an image-text encoder, ``audio:<name>``
    what hears the sound around a frame, and ``<file.py>:<Class>`` or ``<module>:<Class>`` a network of the user's own.
    """
    return tuple(sorted(name for name in _entries() if "<" not in name))


def catalogue() -> list[dict[str, Any]]:
    """Return one row a backbone, ready for JSON, without building anything.

    Keys: name, blocks, size_px, mean, std, parameters, default_weights, note, options (name -> default). What depends
    on the model is None.
    """
    plain = ("blocks", "size_px", "mean", "std", "parameters", "default_weights", "note")
    entries = _entries()
    return [
        {
            "name": name,
            **{key: list(value) if isinstance(value := entries[name].said.get(key), tuple) else value for key in plain},
            "options": dict(entries[name].options),
        }
        for name in (*names(), *sorted(name for name in entries if "<" in name))
    ]


def options_of(name: str) -> dict[str, Any]:
    """Return a backbone's own options with their defaults; of the user's own network, by running its code."""
    if not is_own(name):
        return dict(_entry_of(name)[0].options)
    recipe, target = recipe_of(name)
    assert recipe.options is not None
    return dict(recipe.options(target))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the backbone does not have."""
    known = options_of(name)
    for option in options:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{name!r} has no option {option!r}; {has}{nearest(option, known)}")


def is_own(name: str) -> bool:
    """Tell whether a name is that of a user's own network, so that making it runs code of theirs."""
    return bool(OWN.fullmatch(name)) and not any(e.startswith(f"{name.partition(':')[0]}:") for e in _entries())


def recipe_of(name: str) -> tuple[Recipe, str]:
    """Find the recipe for a name, importing its file, and what follows the name's colon."""
    entry, target = _entry_of(name)
    if entry.plugin is None:
        recipe = importlib.import_module(f"{zoo.__name__}.{entry.module}").RECIPE
        assert isinstance(recipe, Recipe)
        return recipe, target
    recipe = getattr(entry.plugin.load(), "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise PluginError(entry.plugin.told("its module sets no RECIPE = Recipe(…)"))
    return recipe, target


def plugin_of(name: str) -> Plugin | None:
    """Return the plugin that a backbone of this name is, where it is none of ours."""
    return _entry_of(name)[0].plugin


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What a file of the zoo says in literals."""

    module: str
    said: dict[str, Any]
    options: dict[str, Any]
    plugin: Plugin | None = None


def _entry_of(name: str) -> tuple[_Entry, str]:
    kind, colon, target = name.partition(":")
    for known, entry in _entries().items():
        if colon and target and known.startswith(f"{kind}:"):
            return entry, target
        if name == known:
            return entry, ""
    if is_own(name):
        return _entries()[OWN_NAME], name
    if broken := plugins("backbones", tuple(_entries())).get(name):
        return _plugged_in(broken), ""  # raises what was told when it was left out
    raise UnknownBackboneError(
        f"there is no backbone {name!r}{nearest(name, names())}\n"
        f"  there are {', '.join(names())}, any timm model as timm:<name>, any ONNX model as onnx:<file>, "
        "CLIP or SigLIP as clip:<folder> or open-clip:<name>, what hears sound as audio:<name> and your own network as "
        "<file.py>:<Class>"
    )


def _entries() -> dict[str, _Entry]:
    files = [file for folder in zoo.__path__ for file in sorted(Path(folder).glob("[!_]*.py"))]
    own = {entry.said["name"]: entry for entry in map(_read, files)}
    return own | {entry.said["name"]: entry for entry in _plugged(tuple(own)) if entry.said["name"] not in own}


def _plugged(own: tuple[str, ...]) -> Iterator[_Entry]:
    """What plugins add: modules like those of the zoo, parsed and not run either; broken ones are told and left out."""
    for plugin in plugins("backbones", own).values():
        try:
            yield _plugged_in(plugin)
        except PluginError as error:
            plugin.warn(error)


def _plugged_in(plugin: Plugin) -> _Entry:
    try:
        spec = importlib.util.find_spec(plugin.value.partition(":")[0])
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise OptionError(f"there is no module {plugin.value}")
        entry = _read(Path(spec.origin))
        if entry.said["name"] != plugin.name:
            raise OptionError(f"its RECIPE is called {entry.said['name']!r}")
    except (OptionError, ImportError, OSError, SystemExit) as error:  # a package above it is run to find it
        raise PluginError(plugin.told(str(error))) from error
    return replace(entry, plugin=plugin)


@lru_cache
def _read(file: Path) -> _Entry:
    """Parse a file of the zoo for what it says of itself."""
    said: dict[str, Any] = {}
    options: dict[str, Any] = {}
    try:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RECIPE":
                assert isinstance(node.value, ast.Call)
                plain = (each for each in node.value.keywords if each.arg not in CALLED)
                said = {str(each.arg): ast.literal_eval(each.value) for each in plain}
            elif isinstance(node, ast.FunctionDef) and node.name == "build":
                given = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                options = {a.arg: ast.literal_eval(d) for a, d in given if d is not None and a.arg not in RESERVED}
    except (ValueError, SyntaxError, AssertionError) as error:
        raise OptionError(f"RECIPE and build's defaults must be literals, to be listed ({error}): {file}") from None
    if "name" not in said:
        raise OptionError(f"a file of the zoo sets RECIPE = Recipe(name=..., ...), however: {file}")
    return _Entry(module=file.stem, said=said, options=options)
