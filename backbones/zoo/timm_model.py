"""Any timm model, with its own preprocessing: ``timm:<name>`` or ``timm:<name>.<tag>``.

What other files of the zoo need of timm stands here too: which of a network's numbers become the feature.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from ..errors import (
    CheckpointError,
    OptionError,
    UnknownBackboneError,
    WeightsError,
    listed,
    nearest,
)
from ..picture import Transform
from ..recipes import Encoder, Recipe


def build(
    *,
    target: str,
    tag: str | None,
    pretrained: bool,
    pooling: str = "default",
    img_size: int | None = None,
    crop_pct: float | None = 1.0,
    interpolation: str | None = None,
    in_chans: int = 3,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    target : str
        timm's model name, with or without a pretrained tag.
    tag, pretrained
        The tag whose preprocessing (and weights) are meant, and whether to download them.
    pooling : str
        See `cer_fusion.backbones.zoo.timm_model.Pooling`.
    img_size : int, optional
        Side of the input in pixels; the model's own when not given.
    crop_pct : float, optional
        The centre's share of the picture that is kept: all of it, since pictures of faces are cropped already. None is
        the model's own, which on photographs is less (0.875 to 0.95 for most).
    interpolation : str, optional
        Other than the model's own.
    in_chans : 3 or 1
        1 for a network that sees grey, such as those of FER2013's 48 x 48 pictures; mean and std must be said then.
    mean, std : numbers, optional
        Other than the model's own, one a channel, of values 0 to 1.
    """
    name, _, own = target.partition(".")
    if in_chans not in (1, 3):
        raise OptionError(f"in_chans must be 3, or 1 for grey, however: {in_chans=}")
    if in_chans == 1 and (mean is None or std is None):
        raise OptionError("how a network that sees grey was trained, no model of timm tells: say mean=… and std=…")
    chans = {"in_chans": in_chans} if in_chans == 1 else {}
    if (own or pretrained) and (twin := quick_twin(name, tag or own)):
        logger.warning(
            "timm's %s computes GELU, and the weights %r were trained with QuickGELU: unless the network is fine-tuned "
            "afterwards, take timm:%s.%s",
            name, tag or own, twin, tag or own,
        )  # fmt: skip
    trunk = build_trunk(name, tag=tag or own or None, pretrained=pretrained, img_size=img_size, **chans)
    module = encoder_of(trunk, pooling)
    transform = data_config(trunk, img_size=img_size, crop_pct=crop_pct, interpolation=interpolation)
    own_scale: dict[str, Any] = {k: _numbers(v) for k, v in (("mean", mean), ("std", std)) if v is not None}
    if own_scale or chans:
        transform = replace(transform, colour="L" if chans else "RGB", **own_scale)
    return Encoder(
        architecture=f"timm:{name}",
        module=module,
        trunk=trunk,
        blocks={module.block: module.width()},
        transform=transform,
        options={"img_size": transform.size_px, "pooling": pooling, **chans},
        foreign_heads=classifiers(trunk),
        adapt=adapter(trunk),
        code=2 if pooling == "mean_norm" or (pooling != "default" and module.is_normed_late) else 1,
    )


def _numbers(value: Sequence[float] | float) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)


def tags(target: str) -> list[str]:
    """List timm's pretrained tags of the model."""
    return list(tags_of(target))


RECIPE = Recipe(
    name="timm:<name>",
    note="Any timm model, e.g. timm:vit_small_patch14_dinov2.lvd142m; poolings default, token_mean, cls, cls_mean.",
    build=build,
    tags=tags,
)


logger = logging.getLogger(__name__)

Pooling = Literal["default", "token_mean", "mean_norm", "cls", "cls_mean"]
"""What becomes of the output. "default": timm's own pooling for this model. For transformers whose output is tokens:
"token_mean": the mean of the patch tokens after the final norm, wherever the model itself has that norm (ViT and CLIP
norm the tokens; BEiT and EVA-02 norm what was pooled; a RADIO norms neither); "mean_norm": the mean before it, normed
afterwards (how MAE fine-tunes, and what BEiT and EVA-02 do by default); "cls": the class token; "cls_mean": class token
and token_mean, joined. Register tokens never count as patch tokens. A model that pools by attention (SigLIP) has
"default" alone: its tokens were trained to be read by that."""

BLOCKS = {"default": "pooled"}
"""Block name where it is not the pooling's own."""

State = dict[str, Tensor]


class TimmEncoder(nn.Module):
    """A timm network without its classifier, pooled to one block."""

    def __init__(self, trunk: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.pooling = pooling
        self.block = BLOCKS.get(pooling, pooling)

    @property
    def is_normed_late(self) -> bool:
        """Whether the trunk norms what was pooled, and leaves its tokens as they are until then."""
        return _is_norm(self.trunk, "fc_norm")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {block: (b, d)}."""
        return {self.block: self.pooled(x)}

    def pooled(self, x: Tensor) -> Tensor:
        """Run the trunk and pool its output."""
        if self.pooling == "default":
            out: Tensor = self.trunk(x)
            return out
        tokens, first = self.trunk.forward_features(x), int(self.trunk.num_prefix_tokens)  # (b, 3, h, w) -> (b, t, d)
        if tokens.ndim != 3 or tokens.shape[1] <= first:
            raise OptionError(
                f"pooling={self.pooling!r} needs tokens (b, t, d), {first} of them before those of the patches; "
                f"{type(self.trunk).__name__} gives {tuple(tokens.shape)}\n  take pooling='default'"
            )
        if self.pooling == "mean_norm":
            return self.trunk.fc_norm(tokens[:, first:].mean(1))  # type: ignore[no-any-return]
        if self.is_normed_late:
            tokens = self.trunk.fc_norm(tokens)
        if self.pooling == "cls":
            return tokens[:, 0]  # type: ignore[no-any-return]
        mean: Tensor = tokens[:, first:].mean(1)  # (b, t, d) -> (b, d)
        return mean if self.pooling == "token_mean" else torch.cat([tokens[:, 0], mean], dim=1)

    def width(self) -> int:
        """Return d."""
        if self.pooling == "default":
            return int(getattr(self.trunk, "head_hidden_size", None) or self.trunk.num_features)
        return int(self.trunk.num_features) * (2 if self.pooling == "cls_mean" else 1)


def encoder_of(trunk: nn.Module, pooling: str) -> TimmEncoder:
    """Wrap a trunk, checking that it has the tokens that `pooling` speaks of."""
    known, kind = get_args(Pooling), type(trunk).__name__
    if pooling not in known:
        raise OptionError(f"pooling must be one of {', '.join(known)}, however: {pooling=}{nearest(pooling, known)}")
    if pooling == "default":
        return TimmEncoder(trunk, "default")
    if getattr(trunk, "attn_pool", None) is not None:
        raise OptionError(
            f"pooling={pooling!r} is not for a model that pools by attention, whose tokens were trained to be read by "
            f"that; this {kind} has attn_pool\n  take pooling='default', which is that attention pool"
        )
    if not (hasattr(trunk, "num_prefix_tokens") and hasattr(trunk, "patch_embed")):
        raise OptionError(f"pooling={pooling!r} needs a transformer with tokens; {kind} has none")
    if pooling in ("cls", "cls_mean") and getattr(trunk, "cls_token", None) is None:
        raise OptionError(f"pooling={pooling!r} needs a class token; this {kind} has none")
    if pooling == "mean_norm":
        norm_after_pooling(trunk)
    return TimmEncoder(trunk, pooling)  # type: ignore[arg-type]


def norm_after_pooling(trunk: Any) -> None:
    """Make a trunk that norms its tokens leave them as they are; its norm is then `fc_norm`, as timm calls a late one.

    Raises
    ------
    OptionError
        If it has no final norm at all.
    """
    if not _is_norm(trunk, "fc_norm"):
        if not _is_norm(trunk, "norm"):
            raise OptionError(
                f"pooling='mean_norm' needs a final norm, and this {type(trunk).__name__} has none\n"
                "  take pooling='token_mean'"
            )
        trunk.fc_norm, trunk.norm = trunk.norm, nn.Identity()


def _is_norm(trunk: Any, name: str) -> bool:
    return not isinstance(getattr(trunk, name, nn.Identity()), nn.Identity)


def create_trunk(name: str, *, tag: str | None, pretrained: bool, **arguments: Any) -> nn.Module:
    """Build a timm network without its classifier; with `pretrained`, download the tag's weights.

    Raises
    ------
    WeightsError
        If the weights cannot be had.
    OptionError
        If the model does not take one of the arguments.
    """
    full = f"{name}.{tag}" if tag else name
    try:
        trunk: nn.Module = timm.create_model(full, pretrained=pretrained, num_classes=0, **arguments)
    except Exception as error:  # a boundary: hub, network and cache raise their own errors, and the text is kept
        if pretrained:
            raise WeightsError(
                f"the pretrained weights of {full} could not be loaded: {type(error).__name__}: {error}\n"
                f"  without a network, download them elsewhere and give the file: weights='model.safetensors'\n"
                f"  or say that untrained weights are meant: weights='random'"
            ) from error
        if isinstance(error, TypeError | RuntimeError | ValueError | AssertionError):
            raise OptionError(f"timm cannot build {full} with {arguments}: {error}") from error
        raise
    return trunk


def build_trunk(
    name: str, *, tag: str | None, pretrained: bool, img_size: int | None = None, **arguments: Any
) -> nn.Module:
    """Build a network for another input size; only one whose parameters depend on the size is told."""
    check_model(name)
    cfg = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    if img_size is not None and not (isinstance(img_size, int) and not isinstance(img_size, bool) and img_size >= 1):
        raise OptionError(f"img_size must be a positive image size in pixels, however: img_size={img_size}")
    if img_size is not None and cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = img_size
    trunk = create_trunk(name, tag=tag, pretrained=pretrained, **arguments)
    if img_size is not None and cfg is not None and img_size != cfg.input_size[-1]:
        _refuse_size(trunk, name, img_size, int(arguments.get("in_chans", 3)))
    return trunk


def _refuse_size(trunk: nn.Module, name: str, img_size: int, channels: int) -> None:
    """Refuse a size that the network cannot compute, by a blank picture: some say so at their first picture only."""
    learning = trunk.training
    trunk.eval()
    try:
        with torch.inference_mode():
            trunk(torch.zeros(1, channels, img_size, img_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise OptionError(f"{name} takes no pictures of {img_size} px: {error}\n  say another img_size") from error
    finally:
        trunk.train(learning)


def data_config(
    trunk: Any, *, img_size: int | None, crop_pct: float | None, interpolation: str | None = None
) -> Transform:
    """Read the evaluation transform off a timm network; equals ``timm.data.create_transform(**config)``."""
    wanted = {"img_size": img_size, "crop_pct": crop_pct, "interpolation": interpolation}
    config: dict[str, Any] = resolve_data_config(wanted, pretrained_cfg=trunk.pretrained_cfg)  # type: ignore[no-untyped-call]
    channels, height, width = config["input_size"]
    rules: Mapping[str, Any] = {"center": "shorter", "squash": "squash"}
    if channels != 3 or height != width or config["crop_mode"] not in rules:
        raise OptionError(
            f"only square RGB inputs with crop mode center or squash are supported, however: "
            f"input_size={config['input_size']}, crop_mode={config['crop_mode']}"
        )
    return Transform(
        size_px=int(height),
        resize=rules[config["crop_mode"]],
        crop_pct=float(config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def classifiers(trunk: Any) -> tuple[str, ...]:
    """Name the classifier layers that a file of this architecture may hold."""
    named = trunk.pretrained_cfg.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def adapter(trunk: Any) -> Callable[[State], State]:
    """Return what timm itself does to files of this architecture before loading them, on a state already opened.

    It renames other code bases' parameters and resamples patch and position embeddings to another input size.
    """
    change = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)

    def adapt(state: State) -> State:
        state = settle_norm(trunk, state)
        if change is None:
            return state
        try:
            return dict(change(state, trunk))
        except Exception as error:  # a boundary: the caller reports how the unchanged state differs
            logger.debug("timm's own conversion failed: %s: %s", type(error).__name__, error)
            return state

    return adapt


def quick_twin(name: str, tag: str | None) -> str | None:
    """Return the model for weights that were trained with QuickGELU, where timm has them under one of GELU too.

    OpenAI's, MetaCLIP's and DFN's are; timm lists both since its pull request 2033.
    """
    twin = name.replace("_clip_", "_clip_quickgelu_")
    is_there = twin != name and timm.is_model(twin) and f"{twin}.{tag}" in timm.list_pretrained(f"{twin}.*")
    return twin if is_there else None


def settle_norm(trunk: Any, state: State) -> State:
    """Bring the final norm to the name under which this trunk's pooling has it, or say which pooling it belongs to."""
    has = {name: bool(list(getattr(trunk, name, nn.Identity()).parameters())) for name in ("norm", "fc_norm")}
    if has["fc_norm"] and not has["norm"] and "norm.weight" in state and "fc_norm.weight" not in state:
        return {key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: v for key, v in state.items()}
    if has["norm"] and not has["fc_norm"] and "fc_norm.weight" in state and "norm.weight" not in state:
        raise CheckpointError(
            "the weights were trained to pool the tokens before the final norm (they have fc_norm, not norm)\n"
            "  ask for that pooling: pooling='mean_norm'"
        )
    return state


def tags_of(name: str) -> Sequence[str]:
    """List a timm model's pretrained tags, the one in the name or else the default one first.

    Raises
    ------
    UnknownBackboneError
        If timm has no such model, or the model no such tag.
    """
    model, _, own = name.partition(".")
    check_model(model)
    found = [full.partition(".")[2] for full in timm.list_pretrained(f"{model}.*")]
    if own and own not in found:
        has = f"it has {listed(map(repr, found), count=6)}" if found else "it has none"
        raise UnknownBackboneError(f"timm's {model} has no pretrained tag {own!r}; {has}{nearest(own, found)}")
    cfg = timm.get_pretrained_cfg(model)
    first = own or (cfg.tag if cfg is not None else "")
    return sorted(found, key=lambda tag: (tag != first, tag))


def check_model(name: str) -> None:
    """Refuse a name that timm does not know."""
    if not timm.is_model(name):
        raise UnknownBackboneError(f"timm {timm.__version__} has no model {name!r}{nearest(name, timm.list_models())}")
