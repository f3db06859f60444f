"""Making a backbone by its name, with the weights that were asked for, or again from what its rows' identity says."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kit.errors import CerError
from ..kit.plugins import need
from .backbone import Backbone, Faces, PicturePart
from .errors import CheckpointError, DeviceError, OptionError, UnknownBackboneError, WeightsError, listed
from .recipes import Encoder, check_options, is_own, options_of, plugin_of, recipe_of
from .weights.fit import Fault, addressed, choose_source, compare, fit, in_heads, under
from .weights.inspection import looks_like

if TYPE_CHECKING:
    from torch import Tensor

    from .weights.checkpoint import Checkpoint
    from .zoo.audio import HeardBy

logger = logging.getLogger(__name__)


def create(
    name: str,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    **options: Any,
) -> Backbone:
    """Make a backbone.

    Parameters
    ----------
    name : str
        One of `names()`, ``timm:<name>``, ``onnx:<file>``, ``clip:<folder>``, ``open-clip:<name>``, ``audio:<name>``,
        or a network of your own: ``<file.py>:<Class>`` or ``<module>:<Class>``, whose code is run.
    weights : str or Path, optional
        A pretrained tag, "pretrained" for the default one, a file (safetensors, .pth, .pth.tar, a whole network that
        was pickled), ``file#teacher`` for one of the weights in it, or "random". Nothing stands in for what was asked.
    seed : int
        What random weights are drawn from.
    device : str
        "cpu", "cuda", "cuda:1", "mps", or "auto", which logs its choice.
    precision : "float32", "tf32", "bfloat16" or "float16"
        What the network computes in; rows are float32 always.
    **options
        The backbone's own: `options_of(name)` lists them with their defaults.

    Raises
    ------
    UnknownBackboneError, OptionError, WeightsError, CheckpointError, DeviceError, MissingExtraError
    """
    recipe, target = recipe_of(name)
    check_options(name, options)
    given: dict[str, Any] = {"target": target, "device": device, "precision": precision, "weights": weights}
    accepted = inspect.signature(recipe.build).parameters
    given = {key: value for key, value in given.items() if key in accepted}
    if "tag" not in accepted:
        if weights is not None and "weights" not in accepted:
            raise WeightsError(f"{name!r} is network and weights in one file; weights={str(weights)!r} is not for it")
        with _options_told(name, options):
            finished = recipe.build(**given, **options)
        assert isinstance(finished, Backbone)
        return _marked(finished, name)

    import torch

    from .torch_backbone import TorchBackbone, choose_device
    from .weights.checkpoint import open_checkpoint

    device = choose_device(device)
    source = choose_source(recipe, target, weights, seed)
    with torch.random.fork_rng(devices=[]):  # random weights depend on the seed alone, and leave the caller's state
        torch.manual_seed(seed)
        with _options_told(name, options):
            encoder = recipe.build(tag=source.tag, pretrained=source.kind == "pretrained", **given, **options)
    assert isinstance(encoder, Encoder)
    if source.path is not None:
        put(encoder, open_checkpoint(source.path, entry=source.entry))
    logger.info("%s: weights %s", name, source.label)
    return _marked(TorchBackbone(encoder.name or name, encoder, source, device=device, precision=precision), name)


@contextmanager
def _options_told(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Tell values that a network's own code stumbles over as what they are: the user's options."""
    try:
        yield
    except CerError:
        raise
    except (TypeError, ValueError, AssertionError, LookupError, RuntimeError) as error:
        if not options:
            raise
        given = ", ".join(f"{option}={value}" for option, value in options.items())
        why = str(error).partition("\n")[0] or type(error).__name__
        raise OptionError(f"{name!r} cannot be made with {given}: {why}") from error


def _marked(made: Backbone, name: str) -> Backbone:
    """Let a plugin's backbone say whose code it is: part of its identity."""
    plugin = plugin_of(name)
    if plugin is not None:
        made.plugin = plugin.origin
    return made


def put(encoder: Encoder, opened: Checkpoint) -> None:
    """Load an opened file into an encoder's trunk; every name and shape must match.

    Raises
    ------
    CheckpointError
        With the names that are missing, left over or of another shape, and what the file looks like instead.
    OptionError
        If an option was left to the file (``flow="auto"``), and nothing beside the file answers it.
    """
    name = opened.path.name
    try:
        found = fit(encoder, opened.state)
    except CheckpointError as error:
        raise CheckpointError(f"{error}\n  in file: {opened.path}") from None
    if found.refusal is not None and len(found.faults) * 2 < len(encoder.trunk.state_dict()):
        raise CheckpointError(f"{found.refusal}\n  in file: {opened.path}")
    if found.left_out:
        under_prefix = f" (took what is under {found.prefix!r})" if found.prefix else ""
        logger.info("%s: left out %s, which no block depends on%s", name, listed(found.left_out), under_prefix)
    if found.is_adapted:
        logger.info("%s: adapted to %s (names, patch and position embeddings)", name, encoder.architecture)
    expected: dict[str, Tensor] = dict(encoder.trunk.state_dict())
    state, faults = found.state, list(found.faults)
    if faults and set(in_heads(encoder, faults)) == set(faults):
        state = _settle_heads(encoder, state, expected, name)
        faults = compare(state, expected)
    if faults:
        raise CheckpointError(_misfit(encoder, opened, len(state), faults))
    complete = {key: state.get(key, tensor) for key, tensor in expected.items()}
    encoder.trunk.load_state_dict(complete, strict=True)
    if encoder.settle is not None:
        encoder.settle(opened)


def _misfit(encoder: Encoder, opened: Checkpoint, count: int, faults: Sequence[Fault]) -> str:
    """Say what is amiss, what the file looks like instead, and what to do."""
    expected = len(encoder.trunk.state_dict())
    advice = f"see which backbone takes it: cer-feat inspect {opened.path.name}"
    if encoder.branches is not None:  # heads of its own, which a block may depend on
        widths = {fault.width for fault in faults}
        if len(widths) == 1 and (width := widths.pop()) is not None:
            advice = f"its heads are {width}-way: num_classes={width}"
    return (
        f"the weights do not fit {encoder.architecture}: {listed(map(str, faults))}\n"
        f"  the file holds {count} tensors, expected {expected}; it looks like {looks_like(opened.state)}\n"
        f"  {advice}\n  in file: {opened.path}"
    )


def _settle_heads(
    encoder: Encoder, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Keep new heads where the file's are of another width, if that was asked for; explain it where it was not."""
    widths = sorted({state[key].shape[0] for key in state if under(key, encoder.heads) and state[key].ndim})
    wanted = sorted({t.shape[0] for key, t in expected.items() if under(key, encoder.heads) and t.ndim})
    found = f"{'/'.join(map(str, widths))}-way heads" if widths else "no heads"
    if not encoder.replace_heads:
        keep = f"  keep the file's heads with num_classes={widths[0]}, or\n" if len(widths) == 1 else ""
        raise CheckpointError(
            f"the file has {found}, expected {'/'.join(map(str, wanted))}: {name}\n{keep}"
            f"  load the trunk alone and start new heads with replace_heads=True"
        )
    logger.warning("%s: replaced its %s by new, untrained %s-way heads", name, found, "/".join(map(str, wanted)))
    fresh = {key: tensor for key, tensor in expected.items() if under(key, encoder.heads)}
    return {key: tensor for key, tensor in state.items() if not under(key, encoder.heads)} | fresh


def recreate(
    name: str,
    identity: Mapping[str, Any],
    described: Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    code: str | Path | None = None,
    device: str = "cpu",
    faces: Callable[[Mapping[str, Any]], Faces] | None = None,
    sound: Callable[[float, bool], HeardBy] | None = None,
) -> Backbone:
    """Make the backbone whose `spec` is `identity`.

    Parameters
    ----------
    name : str
        What the feature is called, for messages.
    identity, described : dict
        What `Backbone.spec` and `Backbone.describe` said when the rows were made.
    weights : str or Path, optional
        Where the weights are now. Needed where they came from a file, whose folder is not kept; seeds and pretrained
        tags are.
    code : str or Path, optional
        Where the code of a network of the user's own is now, where that was a file: its folder is not kept either, and
        it is looked for in the working folder. Other code than the rows were made by is not run.
    device : str
        Where to compute; no part of the identity.
    faces : callable, optional
        Makes what cuts faces out, from its identity; needed for rows of pictures that were aligned on the way in.
    sound : callable (window_s, causal), optional
        Gives what decodes the sound; needed for rows that were made from the sound around frames.

    Raises
    ------
    WeightsError
        If the file must be named, or holds other weights; naming both digests.
    OptionError
        If no backbone made these rows, or this release's is another one; naming what differs.
    PluginError
        If a plugin's backbone made them that is not here.
    """
    kind, source = described.get("name"), str(described.get("weights_source", ""))
    if not isinstance(kind, str) or not {"transform", "sound"} & identity.keys():
        raise OptionError(_not_ours(name, identity, kind))
    if (origin := identity.get("plugin")) is not None:
        need("backbones", kind, origin, f"the feature {name!r}")
    if "sound" in identity:
        return _hearing(name, kind, identity, source, weights, device, sound)
    is_there = weights is not None and Path(weights).is_dir()
    if kind.startswith("clip:") or (kind.startswith("open-clip:") and (described.get("in_folder") or is_there)):
        given, kind = _of_folder(name, kind, source, weights)
    else:
        given, kind = _weights(name, kind, source, weights)
    stated = {**described, **identity["transform"], **identity["options"]}
    if is_own(kind):
        kind = _code(name, kind, code, identity["options"])
        options = {option: identity["options"].get(option) for option in options_of(kind)}
    else:
        options = {option: stated[option] for option in options_of(kind) if stated.get(option) is not None}
    if (again := recipe_of(kind)[0].again) is not None:
        options |= again(identity["options"])
    seed = re.fullmatch(r"random\(seed=(\d+)\)", source)
    made = create(
        kind,
        weights=given,
        seed=int(seed[1]) if seed else 0,
        device=device,
        precision=identity["precision"],
        **options,
    )
    made.take_views(identity["options"].get("views", "none"))
    if "faces" in identity:
        way = {key: value for key, value in identity["faces"].items() if key != "missing"}
        if faces is None and "part" not in way:
            raise OptionError(f"the pictures of {name!r} were aligned on the way in, and nothing here finds faces")
        found = PicturePart.again(way) if faces is None or "part" in way else faces(way)
        made.take_faces(found, missing=identity["faces"]["missing"])
    if "compile" in identity["options"]:
        _compile(name, made, identity["options"]["compile"])
    _check(name, identity, made.spec(), source, weights)
    return made


def _hearing(
    name: str, kind: str, identity: Mapping[str, Any], source: str, weights: str | Path | None, device: str,
    sound: Callable[[float, bool], HeardBy] | None,
) -> Backbone:  # fmt: skip
    """Make what hears sound again."""
    from .zoo.audio import SoundBackbone, with_folder

    if sound is None:
        raise OptionError(
            f"the rows of {name!r} were made from the sound around frames ({kind}), of which pictures have none\n"
            "  show it the video, or answer about samples of the store: cer-fuse predict --head RUN --data NAME"
        )
    if with_folder(kind) and weights is None:
        raise WeightsError(
            f"the network of {name!r} lies in a folder, {source}, whose place is not kept\n"
            f"  say where it is now: --weights {name}=FOLDER"
        )
    causal = identity["sound"].get("place") == "before"
    options = {option: value for option, value in identity["options"].items() if option in options_of(kind)}
    made = create(
        kind, weights=weights, device=device if with_folder(kind) else "cpu", precision=identity["precision"],
        causal=causal, **options,
    )  # fmt: skip
    assert isinstance(made, SoundBackbone)
    made.take_sound(sound(made.window_s, causal))
    _check(name, identity, made.spec(), source, weights)
    return made


def _not_ours(name: str, identity: Mapping[str, Any], kind: object) -> str:
    """Say of rows that no backbone here made whose they are, and what to do."""
    if identity.get("architecture") == "foreign":  # as `featstore.import_rows` calls them
        return (
            f"{name!r} was not made by a backbone here: its rows were imported, and nothing can make more of them\n"
            "  extract the feature with cer-feat extract and train a head on it"
        )
    called = next((str(one) for one in (kind, identity.get("architecture")) if isinstance(one, str)), "unnamed")
    return (
        f"{name!r} was made by an encoder of your own ({called}), which only your program can make again\n"
        "  embed the pictures with it, cer_fusion.extract(encoder, manifest, store, …), and answer about samples of "
        "the store: cer-fuse predict --head RUN --data NAME\n"
        "  or have commands make it: write it as a class in a file, cer-feat extract --backbone FILE.py:CLASS"
    )


def _code(name: str, kind: str, code: str | Path | None, options: Mapping[str, Any]) -> str:
    """What `create` is to be asked for: the class in the file where it is now, if that is what made the rows."""
    from .zoo.own_network import DIGEST, Code

    place, _, attribute = kind.rpartition(":")
    if code is not None:
        kind = f"{code}:{attribute}"
    try:
        found = Code.named(kind).digest()
    except UnknownBackboneError:
        raise OptionError(
            f"the code of {name!r} was {place}, and is not there: {code or place}\n"
            f"  say where it is now: --code {name}=FILE.py"
            if place.endswith(".py")
            else f"the code of {name!r} was the module {place!r}, which Python does not find here\n  install it again"
        ) from None
    before = options.get(DIGEST)
    if found != before:
        raise OptionError(
            f"the code of {name!r} is another: its rows were made with digest {str(before)[:12]}… ({kind}), it now has "
            f"{found[:12]}…, and was not run\n  name the file that they were made with: --code {name}=FILE.py, or "
            "extract the feature again and train a head on it"
        )
    logger.info("%s: runs the code of %s, which made its rows", name, kind)
    return kind


def _compile(name: str, made: Backbone, backend: str) -> None:
    """Compile as the rows' network was: compiled code may give other last bits, so nothing else stands in for it."""
    from .torch_backbone import TorchBackbone

    if not isinstance(made, TorchBackbone):
        raise OptionError(
            f"the rows of {name!r} were made by compiled code, and {made.name} is no torch network: there is nothing "
            "to compile\n  extract the feature again and train a head on it"
        )
    made.compile_network(backend=backend)


def _weights(name: str, kind: str, source: str, weights: str | Path | None) -> tuple[str | Path | None, str]:
    """What `create` is to be asked for: weights and backbone."""
    if kind.startswith("onnx:"):
        if weights is None:
            raise _unnamed(name, f"{kind.removeprefix('onnx:')}.onnx")
        return None, f"onnx:{weights}"
    if weights is not None:
        entry, named = addressed(source)[1], addressed(weights)[1]  # which of several in the file, where it is not said
        return (f"{weights}#{entry}" if entry and named is None else weights), kind
    if source.startswith("random("):
        return "random", kind
    if tag := re.fullmatch(r"pretrained\((.+)\)", source):
        return tag[1], kind
    raise _unnamed(name, source)


def _of_folder(name: str, kind: str, source: str, weights: str | Path | None) -> tuple[str | Path | None, str]:
    """What `create` is to be asked for where network and weights lie in a folder; a file in it is other weights."""
    family, _, folder = kind.partition(":")
    if weights is None:
        raise WeightsError(
            f"the encoder of {name!r} lies in a folder, {folder}, whose place is not kept\n"
            f"  say where it is now: --weights {name}=FOLDER"
        )
    place = Path(weights)
    if place.is_file():
        return place, f"{family}:{place.parent}"
    return "random" if source.startswith("random(") else None, f"{family}:{place}"


def _unnamed(name: str, source: str) -> WeightsError:
    return WeightsError(
        f"the weights of {name!r} came from a file, {source}, whose folder is not kept\n"
        f"  say where it is now: --weights {name}=FILE"
    )


def _check(
    name: str, wanted: Mapping[str, Any], found: Mapping[str, Any], source: str, weights: str | Path | None
) -> None:
    """Refuse a backbone that would give other rows."""
    before, now = wanted["weights"]["digest"], found["weights"]["digest"]
    if before != now:
        raise WeightsError(
            f"the weights of {name!r} are others: its rows were made with digest {before[:12]}… ({source}), "
            f"{weights or source} has {now[:12]}…\n  name the file that they were made with: --weights {name}=FILE"
        )
    there, here = wanted.get("device_kind"), found.get("device_kind")
    if there is not None and there != here:
        raise DeviceError(
            f"the rows of {name!r} were computed in {wanted['precision']} on {there!r}, and {here!r} rounds at other "
            f"places\n  say --device {there}, or extract the feature again in float32"
        )
    for field in wanted:
        if wanted[field] != found.get(field):
            raise OptionError(
                f"this release would not make the rows of {name!r} again: {field} was {wanted[field]!r}, "
                f"is {found.get(field)!r}\n  extract the feature again and train a head on it"
            )
