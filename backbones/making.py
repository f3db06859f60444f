"""Making a backbone by its name, or again from what its rows' identity says."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cer_fusion.backbones.backbone import Backbone
from cer_fusion.backbones.errors import OptionError, WeightsError
from cer_fusion.backbones.recipes import Encoder, check_options, options_of, recipe_of
from cer_fusion.backbones.weights.fit import choose_source, put

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
        One of `names()`, ``timm:<name>`` or ``onnx:<file>``.
    weights : str or Path, optional
        A pretrained tag, "pretrained" for the default one, a file (safetensors, .pth, .pth.tar), or "random".
        Nothing stands in for what was asked.
    seed : int
        What random weights are drawn from.
    device : str
        "cpu", "cuda", "cuda:1", "mps", or "auto", which logs its choice.
    precision : "float32", "bfloat16" or "float16"
        What the network computes in; rows are float32 always.
    **options
        The backbone's own: `options_of(name)` lists them with their defaults.

    Raises
    ------
    UnknownBackboneError, OptionError, WeightsError, CheckpointError, DeviceError, MissingExtraError
    """
    recipe, target = recipe_of(name)
    check_options(name, options)
    given: dict[str, Any] = {"target": target, "device": device, "precision": precision}
    accepted = inspect.signature(recipe.build).parameters
    given = {key: value for key, value in given.items() if key in accepted}
    if "tag" not in accepted:
        if weights is not None:
            raise WeightsError(f"{name!r} is network and weights in one file; weights={str(weights)!r} is not for it")
        finished = recipe.build(**given, **options)
        assert isinstance(finished, Backbone)
        return finished

    import torch
    from cer_fusion.backbones.torch_backbone import TorchBackbone, choose_device
    from cer_fusion.backbones.weights.checkpoint import open_checkpoint

    device = choose_device(device)
    source = choose_source(recipe, target, weights, seed)
    with torch.random.fork_rng(devices=[]):  # random weights depend on the seed alone, and leave the caller's state
        torch.manual_seed(seed)
        encoder = recipe.build(tag=source.tag, pretrained=source.kind == "pretrained", **given, **options)
    assert isinstance(encoder, Encoder)
    if source.path is not None:
        put(encoder, open_checkpoint(source.path))
    logger.info("%s: weights %s", name, source.label)
    return TorchBackbone(name, encoder, source, device=device, precision=precision)


def recreate(
    name: str,
    identity: Mapping[str, Any],
    described: Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
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
    device : str
        Where to compute; no part of the identity.

    Raises
    ------
    WeightsError
        If the file must be named, or holds other weights; naming both digests.
    OptionError
        If no backbone made these rows, or this release's is another one; naming what differs.
    """
    kind, source = described.get("name"), str(described.get("weights_source", ""))
    if not isinstance(kind, str) or "transform" not in identity:
        raise OptionError(
            f"{name!r} was not made by a backbone here ({identity.get('architecture')}): its rows were imported, and "
            "nothing can make more of them\n  extract the feature with cer-feat extract and train a head on it"
        )
    given, kind = _weights(name, kind, source, weights)
    stated = {**described, **identity["transform"], **identity["options"]}
    options = {option: stated[option] for option in options_of(kind) if stated.get(option) is not None}
    if "replace_heads" in options_of(kind) and "logits" not in identity["options"].get("extra", ()):
        options["replace_heads"] = True  # no row depends on the heads, so a file with others is as good
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
    if "compile" in identity["options"]:
        _compile(name, made, identity["options"]["compile"])
    _check(name, identity, made.spec(), source, weights)
    return made


def _compile(name: str, made: Backbone, backend: str) -> None:
    """Compile as the rows' network was: compiled code may give other last bits, so nothing else stands in for it."""
    from cer_fusion.backbones.torch_backbone import TorchBackbone

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
        return weights, kind
    if source.startswith("random("):
        return "random", kind
    if tag := re.fullmatch(r"pretrained\((.+)\)", source):
        return tag[1], kind
    raise _unnamed(name, source)


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
    for field in wanted:
        if wanted[field] != found.get(field):
            raise OptionError(
                f"this release would not make the rows of {name!r} again: {field} was {wanted[field]!r}, "
                f"is {found.get(field)!r}\n  extract the feature again and train a head on it"
            )
