"""Image-text encoders of open_clip, from local files: ``open-clip:<folder>`` or ``open-clip:<model>.<tag>``.

Needs the extra ``[open-clip]``. A folder is as such models are published: ``open_clip_config.json`` beside
``open_clip_model.safetensors`` (or a file of PyTorch's, opened without running code). A model is one that the library
knows, its weights a file: ``open-clip:ViT-B-32-quickgelu.openai``, weights="FILE". The tag says whose weights the file
holds, since no file of weights tells two things that change every number: how pictures are prepared, and which
activation was trained. OpenAI's, MetaCLIP's and DFN's weights were trained with QuickGELU, ``x * sigmoid(1.702 x)``;
under a name that computes GELU they load without a word, and give other rows (open_clip's issue 771 and pull request
970; the library warns where it downloads, and not of a file or a folder). Here that is refused.

The library's own layers, conversions of texts and tokenizers compute; nothing is downloaded. A text tower that is a
network of transformers is on the Hub alone: of such models there are rows, and no text vectors.

Where a tower is timm's without a projection and pools by attention, as SigLIP's are, its tensors bear timm's names:
rows of ``timm:<name>`` with the same weights then have the same digest, and go with these text vectors. Of CLIP's
towers timm's rows are those before the projection, in another space than the texts'.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from ...kit.documents import parse_json
from ..errors import (
    CheckpointError,
    MissingExtraError,
    OptionError,
    UnknownBackboneError,
    WeightsError,
    listed,
    nearest,
)
from ..picture import Transform
from ..recipes import Encoder, Recipe
from ..weights.checkpoint import open_checkpoint
from ..weights.fit import addressed, compare
from .image_text import BATCH, OWN, VOCABULARIES, Texts, check_tokens
from .timm_model import check_model

logger = logging.getLogger(__name__)

CONFIG: Final = "open_clip_config.json"
FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
"""Names under which a folder has its weights, in the library's order."""
BESIDE: Final = ("text", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection",
                 "text_decoder", "logit_scale", "logit_bias")  # fmt: skip
"""What a whole model holds beside its image half."""
UNTOLD: Final = "own"
"""The tag of weights that one trained oneself under a model's name: pictures are prepared as the library's training
does by default."""
OPENAI: Final = ("input_resolution", "context_length", "vocab_size")
"""Tensors that stand in OpenAI's own files beside the weights."""
_QUICK = re.compile(r"(?<![a-z])(openai|quick[-_]?gelu)", re.IGNORECASE)
_TRAINING = ("patch_dropout", "timm_model_pretrained", "timm_drop", "timm_drop_path", "output_tokens")
"""Settings of an image tower that change no number in evaluation."""
_TOKENIZING = ("clean", "strip_sep_token")
"""Settings of a tokenizer that are known to cut nothing, draw nothing and run no code."""

State = dict[str, Tensor]


def build(*, target: str, tag: str | None, pretrained: bool) -> Encoder:
    """Build the image half.

    Parameters
    ----------
    target : str
        The folder, or the model's name with or without a tag.
    tag, pretrained
        Whether the weights in the folder are meant, or others that are put in afterwards.
    """
    model = _Model.of(target)
    visual, settings = model.image_tower()
    half = ImageHalf(visual)
    # timm's own names, where the tower is timm's network and no more, and there is but one way to pool its tokens
    bare = settings.get("timm_model_name") is not None and not len(visual.head)
    bare = bare and getattr(visual.trunk, "attn_pool", None) is not None
    trunk, adapt = visual.trunk if bare else half, image_part("visual.trunk." if bare else "visual.")
    encoder = Encoder(
        name=model.name,
        architecture=f"open_clip:{settings['timm_model_name']}" if bare else "open_clip",
        module=half,
        trunk=trunk,
        blocks={"image": int(model.config["embed_dim"])},
        transform=model.transform(visual.image_size),
        options={"embed_dim": int(model.config["embed_dim"]), **settings},
        foreign_heads=("head", *BESIDE, *OPENAI),
        adapt=adapt,
        settle=lambda opened: model.refuse_other(opened.state, opened.path.name),
        notes={"in_folder": model.folder is not None},
    )
    if pretrained:
        _put(trunk, adapt(model.state()), str(model.weights), "image")
    return encoder


def tags(target: str) -> list[str]:
    """Return the one tag that is meant; none where a model is named without, and its weights must be."""
    model = _Model.of(target)
    return [OWN] if model.folder is not None else [model.tag] if model.tag else []


def text_vectors(
    target: str, prompts: Sequence[str], *, weights: str | Path | None = None, device: str = "cpu"
) -> Texts:
    """Embed prompts by the text half of an encoder.

    Parameters
    ----------
    target : str
        As `build` has it.
    prompts : sequence of p str
        None is cut: one that is longer than the encoder reads is refused.
    weights : str or Path, optional
        The file of a named model's weights. Of a folder the texts' are always its own.
    device : str

    Raises
    ------
    OptionError
        If a prompt is too long or says nothing to the tokenizer, there is no tokenizer, or the text half is a network
        that is not here.
    UnknownBackboneError, WeightsError, CheckpointError, MissingExtraError
        As `build`.
    """
    model = _Model.of(target)
    ids = model.tokens(prompts, None if weights is None else addressed(weights)[0].parent)
    tower = model.text_tower()
    expected = {name: one for name, one in tower.state_dict().items() if not name.startswith("visual.")}
    state = model.state(weights)
    if "positional_embedding" in state and not hasattr(tower, "positional_embedding"):
        state = dict(_library().model.convert_to_custom_text_state_dict(state))
    for name in ("logit_scale", "logit_bias"):  # a number, or one of one dimension
        if name in state and name in expected and state[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    _put(tower, {name: one for name, one in state.items() if name in expected}, str(weights or model.weights), "text")
    tower = tower.to(device).eval()
    found = []
    with torch.inference_mode():
        for at in range(0, len(ids), BATCH):
            out = tower.encode_text(ids[at : at + BATCH].to(device))
            found.append((out[0] if isinstance(out, tuple) else out).float().cpu().numpy())
    return Texts(vectors=np.concatenate(found), temperature=1 / tower.logit_scale.detach().exp().item())


RECIPE = Recipe(
    name="open-clip:<name>",
    note="Image half of a model of open_clip: a folder with open_clip_config.json, or MODEL.TAG and a file of weights.",
    build=build,
    tags=tags,
    texts=text_vectors,
)


class ImageHalf(nn.Module):
    """An image tower with its projection; tensors in the library's names, ``visual.…``."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {"image": (b, d)}, not scaled; of CoCa the first of its two outputs."""
        found = self.visual(x)
        return {"image": found[0] if isinstance(found, tuple) else found}


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What is known of an encoder before its weights are opened."""

    name: str
    """What people call it, without folders."""
    config: Mapping[str, Any]
    """The library's `model_cfg`."""
    prepared: Mapping[str, Any]
    """Its `preprocess_cfg`."""
    folder: Path | None = None
    tag: str | None = None

    @classmethod
    def of(cls, target: str) -> _Model:
        """Find a folder or a model of the library.

        Raises
        ------
        UnknownBackboneError
            If it is neither.
        OptionError
            If the folder's configuration cannot be read, or computes another activation than a name says was trained.
        """
        library, folder = _library(), Path(target)
        if (folder / CONFIG).is_file():
            return cls._in(folder)
        if folder.is_dir() or len(folder.parts) > 1:
            other = (folder / "config.json").is_file()
            hint = f"\n  it holds one as transformers keeps it: clip:{target}" if other else ""
            raise UnknownBackboneError(
                f"there is no encoder of open_clip in {target!r}: expected a folder with {CONFIG} and {FILES[0]}{hint}"
            )
        name, dot, tag = target.partition(".")
        known = library.list_models()
        if name not in known:
            raise UnknownBackboneError(
                f"open_clip {library.__version__} has no model {name!r}, and there is no such folder"
                f"{nearest(name, known)}"
            )
        return cls(
            name=f"open-clip:{target}", config=library.get_model_config(name), prepared=_prepared(library, name, tag),
            tag=tag if dot else None,
        )  # fmt: skip

    @classmethod
    def _in(cls, folder: Path) -> _Model:
        where = folder / CONFIG
        found = parse_json(where.read_bytes(), where=str(where), error=OptionError)
        parts = [found.get(key) if isinstance(found, dict) else None for key in ("model_cfg", "preprocess_cfg")]
        config, prepared = parts
        inner = [config.get(key) for key in ("vision_cfg", "text_cfg")] if isinstance(config, dict) else [None]
        if not all(isinstance(one, dict) for one in (*parts, *inner)):
            raise OptionError(
                f"{where} describes no encoder: expected model_cfg, with vision_cfg and text_cfg, and preprocess_cfg, "
                "which says how pictures are prepared"
            )
        assert isinstance(config, dict)
        assert isinstance(prepared, dict)
        model = cls(name=f"open-clip:{folder.resolve().name}", config=config, prepared=prepared, folder=folder)
        model.refuse_other({}, folder.resolve().name)
        return model

    @property
    def weights(self) -> Path | None:
        """The file of weights in the folder."""
        found = [self.folder / name for name in FILES if (self.folder / name).is_file()] if self.folder else []
        return found[0] if found else None

    def state(self, weights: str | Path | None = None) -> State:
        """Open the weights in the folder or, of a named model, a file of them, running no code of theirs."""
        if self.folder is None and weights is None:
            raise WeightsError(
                f"the weights of {self.name!r} must be a file: nothing is downloaded\n  {_whence(self.name, self.tag)}"
                "give it: --weights FILE"
            )
        if self.folder is not None:
            if self.weights is None:
                raise WeightsError(
                    f"{self.folder} has no weights of open_clip: expected one of {', '.join(FILES)}\n"
                    "  or name a file: --weights FILE"
                )
            state = open_checkpoint(self.weights).state
            self.refuse_other(state, self.weights.name)
            return state
        assert weights is not None
        path, entry = addressed(weights)
        state = open_checkpoint(path, entry=entry).state
        self.refuse_other(state, path.name)
        return state

    def image_tower(self) -> tuple[Any, dict[str, Any]]:
        """Return the image tower with random weights, and those of its settings that change its numbers."""
        library = _library()
        vision = {**self.config["vision_cfg"], "timm_model_pretrained": False}
        if (named := vision.get("timm_model_name")) is not None:
            check_model(str(named))
        text = {"layers": 1, "width": 8, "heads": 1, "vocab_size": 2, "context_length": 2}
        made = self._made(library.CLIP, vision, text)
        default = asdict(library.CLIPVisionCfg())
        settings = {key: one for key, one in vision.items() if one != default.get(key) and key not in _TRAINING}
        if named is None and isinstance(vision.get("layers", 12), int):  # others have an activation of their own
            settings["quick_gelu"] = self.quick
        return made.visual, settings

    def text_tower(self) -> Any:
        """Return the text tower with random weights, beside the least image tower that there can be."""
        library, text = _library(), self.config["text_cfg"]
        if text.get("hf_model_name"):
            raise OptionError(
                f"the text half of {self.name!r} is a network of transformers, {text['hf_model_name']!r}, whose "
                "configuration is on the Hub, and nothing is downloaded\n"
                "  make the vectors elsewhere: an .npz or .csv of them can be given where they are read"
            )
        vision = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 32, "image_size": 32}
        custom = self.config.get("custom_text") or "multimodal_cfg" in self.config
        return self._made(library.CustomTextCLIP if custom else library.CLIP, vision, dict(text))

    def _made(self, kind: Any, vision: Mapping[str, Any], text: Mapping[str, Any]) -> Any:
        beside = ("embed_dim", "quick_gelu", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
        given = {key: self.config[key] for key in beside if key in self.config}
        try:
            return kind(vision_cfg=dict(vision), text_cfg=dict(text), **given).float().eval()
        except Exception as error:  # a boundary: settings that cannot be raise nearly anything
            reason = str(error).strip().partition("\n")[0][:300]
            raise OptionError(
                f"open_clip cannot build the network of {self.name!r}: {type(error).__name__}: {reason}"
            ) from error

    @property
    def quick(self) -> bool:
        """Whether the library's own layers compute QuickGELU."""
        return bool(self.config.get("quick_gelu", False))

    def refuse_other(self, state: Mapping[str, Tensor], called: str) -> None:
        """Refuse a network of GELU for weights of QuickGELU, as far as their file or folder tells.

        Parameters
        ----------
        state : dict of Tensor
            What the file holds: OpenAI's own have three numbers beside the weights.
        called : str
            The name of the file or the folder.
        """
        marks, mark = [name for name in OPENAI if name in state], _QUICK.search(called)
        if self.quick or not (marks or mark):
            return
        told = f"they hold {', '.join(marks)}, as OpenAI's own do" if marks else f"they are called {called!r}"
        hint = "" if marks else "; if that name is wrong, call them otherwise"
        raise OptionError(
            f"the weights were trained with QuickGELU ({told}), and {self.name!r} computes GELU: the rows would be "
            f"others, without a sign\n  {self._instead()}{hint}"
        )

    def _instead(self) -> str:
        if self.folder is not None:
            return f'say "quick_gelu": true in the model_cfg of {self.folder / CONFIG}'
        name = self.name.removeprefix("open-clip:").partition(".")[0]
        return f"take open-clip:{name}-quickgelu" + (f".{self.tag}" if self.tag else "")

    def transform(self, size: Any) -> Transform:
        """Return what is done to a picture: the library's way in evaluation, at the network's size."""
        library = _library()
        given = {key: one for key, one in self.prepared.items() if one is not None}
        default = asdict(library.transform.PreprocessCfg())
        said = {**default, **{key: one for key, one in given.items() if key in default}}
        sides = {int(one) for one in ((size, size) if isinstance(size, int) else size)}
        rules = {"shortest": "shorter", "squash": "squash"}
        filters = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}  # drawn while training alone
        try:
            mean, std = (
                tuple(float(one) for one in ((value,) * 3 if isinstance(value, int | float) else value))
                for value in (said["mean"], said["std"])
            )
            if len(sides) > 1 or said["mode"] != "RGB":
                raise ValueError(f"size {sorted(sides)}, mode {said['mode']}")
            return Transform(
                size_px=sides.pop(),
                resize=rules[said["resize_mode"]],  # type: ignore[arg-type]
                interpolation=filters[said["interpolation"]],  # type: ignore[arg-type]
                mean=mean,
                std=std,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(
                f"{self.name!r} prepares pictures in a way that is not known here ({error})\n"
                "  known: RGB, resized to a square (squash) or by the shorter side (shortest), bicubic or bilinear"
            ) from None

    def tokens(self, prompts: Sequence[str], beside: Path | None) -> Tensor:
        """Return the tokens of prompts (p, length) as the library's tokenizer of the model makes them.

        `beside` is a folder where a tokenizer's files may lie that the library does not have itself.
        """
        library, text = _library(), self.config["text_cfg"]
        most, told = int(text.get("context_length", 77)), dict(text.get("tokenizer_kwargs") or {})
        odd = sorted(set(told) - set(_TOKENIZING))
        if odd or told.get("clean", "lower") not in ("canonicalize", "lower", "whitespace"):
            raise OptionError(
                f"the tokenizer of {self.name!r} is set in a way that is not known here: {told}\n"
                f"  known: {', '.join(_TOKENIZING)}"
            )
        if text.get("hf_tokenizer_name"):
            made = self._vocabulary(self.folder or beside, most, told, text.get("tokenizer_mode"))
            own = made.tokenizer
            texts = [made.clean_fn(one) for one in prompts]
            clips = made.tokenizer_mode == "clips"
            plain = own(texts, add_special_tokens=not clips)["input_ids"]
            check_tokens(prompts, [len(one) + 3 * clips for one in plain], most, self.name)
            unknown = own.unk_token_id
            special = {own.eos_token_id, own.bos_token_id, own.pad_token_id, own.sep_token_id, own.cls_token_id}
            unread = [one for one, ids in zip(prompts, plain, strict=True) if unknown not in special and unknown in ids]
        else:
            made = library.SimpleTokenizer(context_length=most, **told)
            texts = [made.clean_fn(one) for one in prompts]
            check_tokens(prompts, [len(made.encode(one)) + 2 for one in prompts], most, self.name)
            unread = []
        silent = [one for one, cleaned in zip(prompts, texts, strict=True) if not cleaned.strip()]
        if silent:
            raise OptionError(
                f"the tokenizer of {self.name!r} leaves nothing of {len(silent)} prompts (first: {silent[0]!r})"
            )
        if unread:
            logger.warning(
                "the tokenizer of %s does not know all that %d prompts say (first: %r)",
                self.name,
                len(unread),
                unread[0],
            )
        ids: Tensor = made(list(prompts))
        if int(ids.max()) >= (size := int(text.get("vocab_size", 49408))):
            raise OptionError(
                f"the tokenizer has a token of number {int(ids.max())}, and {self.name!r} knows {size}: it is another "
                "encoder's"
            )
        return ids

    def _vocabulary(self, folder: Path | None, most: int, told: Mapping[str, Any], mode: str | None) -> Any:
        """Open a tokenizer of transformers, from its files in a folder."""
        if folder is None or not any((folder / name).is_file() for name in VOCABULARIES):
            raise OptionError(
                f"the texts of {self.name!r} need the tokenizer {self.config['text_cfg']['hf_tokenizer_name']!r}, and "
                f"{folder or 'no folder'} has none: expected one of {', '.join(VOCABULARIES)}\n"
                "  put its files beside the weights: nothing is downloaded"
            )
        try:
            return _library().tokenizer.HFTokenizer(
                str(folder), context_length=most, tokenizer_mode=mode, local_files_only=True, trust_remote_code=False,
                **told,
            )  # fmt: skip
        except ImportError as error:
            raise MissingExtraError(
                f"the tokenizer of {self.name!r} needs the library transformers, which cannot be imported: {error}\n"
                "  install it with: pip install 'cer-fusion[prompts]'"
            ) from None
        except Exception as error:  # a boundary: the library and those under it raise nearly anything
            reason = str(error).strip().partition("\n")[0][:300]
            raise OptionError(f"the tokenizer in {folder} cannot be read: {type(error).__name__}: {reason}") from error


def image_part(under: str) -> Callable[[State], State]:
    """Return what turns a whole model's tensors into those of the image half, their names without what a trunk lacks.

    Parameters
    ----------
    under : "visual." or "visual.trunk."
        What names of the whole model begin with; only the latter is taken off.
    """

    def adapt(state: State) -> State:
        part = {name: one for name, one in state.items() if _is_visual(name)} or state
        return part if under == "visual." else {name.removeprefix(under): one for name, one in part.items()}

    return adapt


def _prepared(library: Any, name: str, tag: str) -> Mapping[str, Any]:
    """Return how pictures are prepared for weights of a tag, refusing those that were trained with another activation.

    Without a tag it is what all of the model's tags have in common.
    """
    quick = bool(library.get_model_config(name).get("quick_gelu", False))
    known: dict[str, Mapping[str, Any]] = {
        one: library.get_pretrained_cfg(name, one) for one in library.list_pretrained_tags_by_model(name)
    }
    if tag == UNTOLD or not (tag or known):
        return {}
    plain = name.removesuffix("-quickgelu")
    twin = plain if plain != name else f"{name}-quickgelu"
    if tag and tag not in known:
        elsewhere = twin in library.list_models() and tag in library.list_pretrained_tags_by_model(twin)
        raise UnknownBackboneError(
            f"open_clip's {name} has no weights {tag!r}; it has {listed(map(repr, known), count=6) or 'none'}"
            + (f"\n  they are of the other activation: open-clip:{twin}.{tag}" if elsewhere else nearest(tag, known))
            + f"\n  of weights of your own, say open-clip:{name}.{UNTOLD}"
        )
    meant = {tag: known[tag]} if tag else known
    wrong = [one for one, said in meant.items() if said.get("quick_gelu", False) and not quick]
    if tag and wrong:
        raise OptionError(
            f"the weights {tag!r} were trained with QuickGELU, and {name} computes GELU: the rows would be others, "
            f"without a sign\n  take open-clip:{twin}.{tag}"
        )
    fields = ("mean", "std", "interpolation", "resize_mode")
    ways = {tuple(str(said.get(key)) for key in fields) for said in meant.values()}
    if wrong or len(ways) > 1:
        first = next((f"{name}.{one}" for one in known if one not in wrong), f"{twin}.{next(iter(known))}")
        raise OptionError(
            f"nothing in a file says which weights of {name} it holds, and they differ in how pictures are prepared or "
            f"in the activation: {listed(meant, count=8)}\n  say which: open-clip:{first}, or "
            f"open-clip:{name}.{UNTOLD} for your own"
        )
    return {key: one for key, one in next(iter(meant.values())).items() if key in fields}


def _whence(name: str, tag: str | None) -> str:
    """Say where the weights of a tag are to be had."""
    model = name.removeprefix("open-clip:").partition(".")[0]
    said = _library().get_pretrained_cfg(model, tag) if tag else {}
    place = f"huggingface.co/{said['hf_hub'].rstrip('/')}" if said.get("hf_hub") else said.get("url")
    return f"they are at {place}; " if place else ""


def _put(module: Any, state: State, where: str, half: str) -> None:
    """Load one half of a model's tensors; every name and shape must match."""
    expected = {name: one for name, one in module.state_dict().items() if half == "image" or not _is_visual(name)}
    faults = compare(state, expected)
    if faults:
        raise CheckpointError(f"the weights do not fit the {half} half: {listed(map(str, faults))}\n  in file: {where}")
    module.load_state_dict(state, strict=False)


def _is_visual(name: str) -> bool:
    return name.startswith("visual.")


def _library() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise MissingExtraError(
            f"encoders of open_clip need the library open_clip_torch, which cannot be imported: {error}\n"
            "  install it with: pip install 'cer-fusion[open-clip]'"
        ) from None
