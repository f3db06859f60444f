"""Saying what a weights file is, without running code from it and without knowing where it came from; and writing it
clean, as safetensors: the same tensors under their public names, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...kit.onnx_file import OnnxFileError, outline, read_onnx
from ..errors import CardError, CheckpointError, OptionError, listed
from ..recipes import Encoder, Usage, names, options_of, recipe_of
from .checkpoint import Checkpoint, State, open_checkpoint
from .fit import Fit, addressed, by_name, card_beside, digest, fit, under
from .timm_names import count_of, is_vit, sees_grey, timm_names

if TYPE_CHECKING:
    from torch import Tensor


HEAD_NAMES = ("fc", "head", "head.fc", "classifier", "head_drop")
"""What classifiers are called in timm; the named backbones' own say their names themselves."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What `inspect_checkpoint` found."""

    path: str
    """The file."""
    form: str
    """"safetensors", "torch zip" or "torch legacy"."""
    opened_by: str
    """Which reader opened it: "safetensors" or "stub unpickler"."""
    entry: str | None
    """Key of the file's dictionary that held the weights."""
    prefix: str
    """What was stripped from every name, or from those of the network where a wrapper holds more."""
    tensors: int
    """How many tensors it holds."""
    parameters: int
    """How many numbers they hold."""
    dtypes: tuple[str, ...]
    """Element types."""
    heads: dict[str, int]
    """Classifier layer -> number of classes."""
    fits: str | None
    """Name of the backbone that takes it; None where none of those tried does."""
    candidates: tuple[Candidate, ...]
    """Backbones that it fits or resembles, the best first, with what each lacks."""
    looks_like: str
    """The architecture in words, as far as names and shapes tell."""
    digest: str
    """Identity of the tensors in their public names, heads included; a converted file has the same."""
    extras: dict[str, str]
    """What lies beside the weights."""
    code: tuple[str, ...]
    """Code that the file names; none of it was run."""
    advice: str
    """How to use it in Python."""
    commands: tuple[str, ...]
    """How to use it on the command line; several where the file leaves a choice."""
    notes: tuple[str, ...]
    """What to know before choosing."""
    is_module: bool = False
    """Whether a whole network was pickled, of which the tensors were taken."""
    trained: dict[str, Any] | None = None
    """What the card of fine-tuning beside the file says: backbone, options, classes in order, recipe, best epoch."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def inspect_checkpoint(path: str | Path) -> CheckpointInfo:
    """Open a weights file safely and say what it is; ``file#entry`` is one of the weights in it.

    Raises
    ------
    CheckpointError
        If it holds no dictionary of tensors.
    """
    file, entry = addressed(path)
    if file.suffix.lower() == ".onnx" and (found := _described_onnx(file)) is not None:
        return found
    return described(open_checkpoint(file, entry=entry, may_be_open=True))


TAPS = (
    "GlobalAveragePool",
    "ReduceMean",
    "Flatten",
    "Gemm",
    "MatMul",
    "LayerNormalization",
    "Relu",
    "PRelu",
    "Add",
    "Conv",
)
"""Operators of ONNX that often give what a feature is made of."""
TAPS_SHOWN = 8


def _described_onnx(file: Path) -> CheckpointInfo | None:
    """Say what an ONNX model takes and gives; None for what is none, which `open_checkpoint` says."""
    try:
        model = read_onnx(file)
        found = outline(model.content)
    except OnnxFileError:
        return None
    taps = [f"{name} ({kind})" for name, kind in found.inner if kind in TAPS][::-1][:TAPS_SHOWN]
    said = "; ".join(
        f"{word} {', '.join(f'{name} {shape}' for name, shape in values)}"
        for word, values in (("takes", found.inputs), ("gives", found.outputs))
    )
    grey = any(re.match(r"\([^,]+, 1, |.*, 1\)$", shape) for _, shape in found.inputs)
    meaning = ("mean=M", "std=S", "colour=L") if grey else ("mean=R,G,B", "std=R,G,B", "colour=RGB")
    options = [word for each in (*meaning, "scale=0-1") for word in ("-O", each)]
    name = f"onnx:{file}"
    return CheckpointInfo(
        path=str(file),
        form="onnx",
        opened_by="a reader of the graph",
        entry=None,
        prefix="",
        tensors=found.tensors,
        parameters=found.numbers,
        dtypes=(),
        heads={},
        fits=name,
        candidates=(),
        looks_like=f"an ONNX model that {said}",
        digest=model.digest,
        extras=dict.fromkeys(model.data_files, "data file"),
        code=(),
        advice=f"create({name!r}, mean=…, std=…, colour=…, scale=…)",
        commands=(shlex.join(["cer-feat", "extract", "--backbone", name, "--data", "MANIFEST", *options]),),
        notes=(
            "a file does not say what its input means: mean, std, colour and scale are of who trained it",
            "any tensor within is a feature too, the last ones first: -O output=NAME -O pool=mean, of "
            + listed(taps, count=TAPS_SHOWN),
        ),
    )


def described(opened: Checkpoint) -> CheckpointInfo:
    """Say what an opened file is; see `inspect_checkpoint`."""
    card, trained, about_card = _card_of(opened)
    tuned = (trained["backbone"],) if trained and trained["backbone"].startswith("timm:") else ()  # no code of others
    found = candidates(opened.state, also=(*tuned, *timm_names(opened.state, opened.stubs)))
    best = found[0] if found and found[0].fits else None
    prefix = best.prefix if best else ""
    state = public_names(opened.state, prefix)
    heads = head_widths(state)
    path = opened.path
    entries = (opened.entry or "", *opened.others) if opened.is_open else (opened.asked or "",)
    addresses = [f"{path}#{entry}" if entry else str(path) for entry in entries]
    usage = Usage()
    if best and (ask := recipe_of(best.backbone)[0].usage) is not None:
        try:
            usage = ask(heads, card, path)
        except CheckpointError as error:  # what the card says cannot be
            trained, about_card, usage = None, (str(error),), ask(heads, None, path)
    options = _options(best, usage, trained) if best else {}
    return CheckpointInfo(
        path=str(path),
        form=opened.form,
        opened_by=opened.opened_by,
        entry=opened.entry,
        prefix=opened.prefix + prefix,
        tensors=len(state),
        parameters=sum(tensor.numel() for tensor in state.values()),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})),
        heads=heads,
        fits=best.backbone if best else None,
        candidates=tuple(found),
        looks_like=looks_like(state, found),
        digest=digest(state),
        extras=opened.extras,
        code=opened.stubs,
        advice=_advice(best, options, Path(addresses[0]).name),
        commands=tuple(c for address in addresses for c in _commands(best, options, address, usage.choices)),
        notes=(*usage.notes, *_notes(best), *_alternatives(found), *_entries(opened), *_padding(best), *about_card),
        is_module=opened.is_module,
        trained=trained,
    )


def public_names(state: Mapping[str, Tensor], prefix: str) -> State:
    """Strip what the network's names begin with; what lies beside keeps its name, and no tensor is dropped."""
    renamed = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return renamed if len(renamed) == len(state) else dict(state)


def head_widths(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Find the classifiers: layer -> number of classes."""
    named = [encoder.heads for name in names() if (encoder := encoder_of(name)) is not None]
    known, found = {*HEAD_NAMES, *(head for heads in named for head in heads)}, {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        around, _, number = layer.rpartition(".")
        if kind == "weight" and tensor.ndim == 2 and (layer in known or (number.isdecimal() and around in known)):
            found[layer] = int(tensor.shape[0])
    return found


def _card_of(opened: Checkpoint) -> tuple[dict[str, Any] | None, dict[str, Any] | None, tuple[str, ...]]:
    """Read the card beside the file: all of it, what was trained, and what to say about another file's card."""
    try:
        card = card_beside(opened.path, opened.state)
        return card, None if card is None else _trained(card), ()
    except (CheckpointError, CardError) as error:
        return None, None, (str(error),)
    except (KeyError, TypeError) as error:
        return None, None, (f"the card beside the weights is none of fine-tuning's: {error!r} is amiss",)


def _trained(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Take from fine-tuning's card what a user of the weights wants to know; None for one written by hand."""
    if "format" not in card:
        return None
    return {
        **{key: card[key] for key in ("backbone", "options", "classes")},
        "recipe": card["recipe"]["name"],
        "best": {key: card["best"][key] for key in ("epoch", "valid_accuracy", "valid_macro_f1")},
    }


def _options(best: Candidate, usage: Usage, trained: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect what `create` must be told to take the file, and what it was trained with where a card says so."""
    options = {**best.options, **usage.options}
    if trained and trained["backbone"] == best.backbone:
        left_open = {key for choice in usage.choices for key in choice}  # each is told by itself
        usual = options_of(best.backbone)
        for key, value in trained["options"].items():
            if key not in left_open and usual.get(key) != value:
                options[key] = value
    return options


def _advice(best: Candidate | None, options: Mapping[str, Any], name: str) -> str:
    """Say how the file is used in Python."""
    if best is None:
        return f"none of the named backbones takes it; try create('timm:<name>', weights='{name}')"
    told = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"create({best.backbone!r}, weights={name!r}{told})"


def _commands(
    best: Candidate | None, options: Mapping[str, Any], address: str, choices: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Say how the file is used on the command line, once for each choice that it leaves."""
    if best is None:
        return ()
    words = ["cer-feat", "extract", "--backbone", best.backbone, "--weights", address, "--data", "MANIFEST"]

    def told(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    return tuple(
        shlex.join([*words, *(word for k, v in {**choice, **options}.items() for word in ("-O", f"{k}={told(v)}"))])
        for choice in choices
    )


def _notes(best: Candidate | None) -> tuple[str, ...]:
    """Say what loading the file does."""
    if best is None:
        return ()
    adapted = ("names or position embeddings are changed while loading, as timm does",) if best.is_adapted else ()
    left = (f"loading leaves out {len(best.left_out)} tensors that no block depends on",) if best.left_out else ()
    grey = ("it sees grey: whose mean and std it was trained with, and at what img_size, the file does not tell",)
    return (*adapted, *left, *(grey if "in_chans" in best.options else ()))


def _entries(opened: Checkpoint) -> list[str]:
    """Say which other weights the file holds, and how one takes them."""
    if not opened.others:
        return []
    which = listed([f"{opened.path.name}#{entry}" for entry in opened.others], count=6)
    if opened.is_open:
        return [
            f"it holds several weights, and nothing tells which are meant: {opened.path.name}#{opened.entry}, {which}"
        ]
    return [f"it holds other weights too, which are taken as --weights {which}"]


def _padding(best: Candidate | None) -> list[str]:
    """Say of an EfficientNet that a file of plain tensors does not tell whose padding it was trained with."""
    kind, _, name = best.backbone.partition(":") if best else ("", "", "")
    if kind != "timm" or not name.startswith(("efficientnet_b", "tf_efficientnet_b")):
        return []
    other = name.removeprefix("tf_") if name.startswith("tf_") else f"tf_{name}"
    return [
        f"timm:{other} has the same names and shapes, and pads as {'PyTorch' if 'tf_' in name else 'TensorFlow'} does"
    ]


def _alternatives(found: Sequence[Candidate]) -> list[str]:
    """Say with which other options, or as which other backbone, the file can be used as well."""
    others = [each for each in found[1:] if each.fits]
    return [
        " ".join(["it fits as well:", each.backbone, *(f"-O {key}={value}" for key, value in each.options.items())])
        for each in others
    ]


RESEMBLES = 0.3
"""A backbone is worth naming when the file has at least this share of its tensors."""

ALIKE = 0.5
"""A network is called one of its kind when the file has at least this share of its names, whatever their shapes."""

SHOWN = 3
"""How many of the names that are amiss a candidate keeps."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One backbone, and how the file meets it."""

    backbone: str
    """What `create` takes."""
    options: dict[str, Any]
    """Options under which it was tried, where they are not the defaults."""
    fits: bool
    """Whether `create` takes the file (classifiers of another width aside)."""
    expected: int
    """How many tensors the backbone has."""
    missing: int
    """How many of them the file lacks."""
    unexpected: int
    """How many the file has and the backbone does not."""
    misshapen: int
    """How many have another shape."""
    first: tuple[str, ...]
    """The first few of all these, in words."""
    left_out: tuple[str, ...]
    """Names in the file that no block of this backbone depends on."""
    prefix: str
    """What the names that are taken begin with, where others do not."""
    is_adapted: bool
    """Whether names or position embeddings are changed to fit."""
    refusal: str | None
    """What the backbone says against the file, beyond names and shapes."""

    @property
    def share(self) -> float:
        """Share of the backbone's tensors that the file has in the right shape."""
        return 1 - (self.missing + self.misshapen) / self.expected

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def candidates(state: Mapping[str, Tensor], also: tuple[str, ...] = ()) -> list[Candidate]:
    """Try the backbones that have names of their own, then those in `also` until one fits; what fits comes first.

    Backbones that the file hardly resembles are not listed.
    """
    found = [candidate(state, name, number) for name in names() for number in range(len(recipe_of(name)[0].variants))]
    grey = sees_grey(state)
    for name in also:
        if any(each.fits for each in found):
            break
        if encoder_of(name, grey=grey) is not None:
            found.append(candidate(state, name, grey=grey))
    worth = [each for each in found if each.fits or each.share >= RESEMBLES]
    return sorted(  # of what fits, what takes the smaller part of the file's network comes last
        worth, key=lambda c: (not c.fits, c.missing + c.unexpected + c.misshapen, len(c.left_out) > c.expected)
    )


def candidate(state: Mapping[str, Tensor], name: str, variant: int = 0, *, grey: bool = False) -> Candidate:
    """Try one backbone, under one of its recipe's variants, or a network of timm as one that sees grey."""
    encoder = encoder_of(name, variant, grey=grey)
    assert encoder is not None
    refusal = None
    try:
        reading = fit(encoder, state)
    except CheckpointError as error:  # several parts fit
        reading, refusal = Fit(state={}, faults=()), str(error)
    amiss = [fault for fault in reading.faults if not under(fault.tensor, encoder.heads)]
    missing = sum(fault.found is None for fault in amiss)
    unexpected = sum(fault.expected is None for fault in amiss)
    refusal = refusal or (reading.refusal if amiss else None)
    return Candidate(
        backbone=name,
        options=dict(recipe_of(name)[0].variants[variant]) | (GREY if grey else {}),
        fits=not amiss and refusal is None,
        expected=len(encoder.trunk.state_dict()),
        missing=missing,
        unexpected=unexpected,
        misshapen=len(amiss) - missing - unexpected,
        first=tuple(map(str, amiss[:SHOWN])),
        left_out=reading.left_out,
        prefix=reading.prefix,
        is_adapted=reading.is_adapted,
        refusal=refusal,
    )


GREY = {"in_chans": 1, "mean": 0.5, "std": 0.5}
"""How a network of timm is built that sees grey; its mean and standard deviation are an example."""


@lru_cache(maxsize=32)
def encoder_of(name: str, variant: int = 0, *, grey: bool = False) -> Encoder | None:
    """Build a backbone's network on no device; None where the library cannot do that."""
    import timm  # noqa: F401  # out of the context below: importing it computes, which old PyTorch cannot in there
    import torch

    recipe, target = recipe_of(name)
    given: dict[str, Any] = {"target": target} if target else {}
    given |= GREY if grey else {}
    try:
        with torch.device("meta"):
            built = recipe.build(tag=None, pretrained=False, **given, **recipe.variants[variant])
    except OptionError:
        return None
    return built if isinstance(built, Encoder) else None


def looks_like(state: Mapping[str, Tensor], found: Sequence[Candidate] | None = None) -> str:
    """Name the family of a network from its parameters' names, in a few words; `found` saves trying the backbones."""
    for each in candidates(state) if found is None else found:
        if each.fits and (title := recipe_of(each.backbone)[0].title):
            return title
    state = by_name(state)
    if is_vit(state):
        width, _, _, patch = state["patch_embed.proj.weight"].shape
        return f"a ViT of width {width}, depth {count_of(state, 'blocks')}, patch {patch}"
    if "layer4.0.conv1.weight" in state:
        depths = [count_of(state, f"layer{stage}") for stage in range(1, 5)]
        return f"a ResNet with {depths} blocks{' (bottleneck)' if 'layer4.0.conv3.weight' in state else ''}"
    for name in names():
        title, encoder = recipe_of(name)[0].title, encoder_of(name)
        if title and encoder is not None:
            expected = encoder.trunk.state_dict()
            if sum(key in state for key in expected) >= ALIKE * len(expected):
                return f"another {title}, of other sizes"
    if "logit_scale" in state and any(key.startswith("vision_model.") for key in state):
        return "an image-text encoder as transformers keeps it: --backbone clip:FOLDER"
    if "logit_scale" in state and any(key.startswith("visual.") for key in state):
        return "an image-text encoder of open_clip: --backbone open-clip:FOLDER, or open-clip:MODEL.TAG and this file"
    if "conv_stem.weight" in state:
        return "an EfficientNet or MobileNet of timm"
    if any(key.startswith("stages.") for key in state):
        return "a ConvNeXt or another network in stages"
    if state and all(key.partition(".")[0].isdecimal() for key in state):
        return "layers or tensors that are numbered, which a backbone of the same network takes by their place"
    return f"something unknown (first names: {listed(list(state)[:3])})"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A weights file as safetensors, ready to be written."""

    info: CheckpointInfo
    """What the original is."""
    data: bytes
    """The new file's content."""
    tensors: int
    """How many tensors it holds: all that the original's weights hold."""
    left_out: dict[str, str]
    """What lay beside the weights and is not kept: entry -> what it was."""


def convert_checkpoint(path: str | Path) -> Conversion:
    """Read a weights file and lay its tensors out as safetensors; the caller writes the bytes.

    Every tensor is kept, in its element type, contiguous, heads and a pre-training decoder included; wrappers'
    prefixes go, and so does what lay beside the weights, which is listed. The digest stays the same, and with it the
    fingerprint of the features that the weights make.

    Raises
    ------
    CheckpointError
        If the file holds no dictionary of tensors, or one that safetensors cannot hold.
    """
    file, entry = addressed(path)
    opened = open_checkpoint(file, entry=entry)
    info = described(opened)
    state = public_names(opened.state, info.prefix.removeprefix(opened.prefix))
    data = _laid_out(state, opened.path)
    return Conversion(info=info, data=data, tensors=len(state), left_out=dict(opened.extras))


def _laid_out(state: Mapping[str, Tensor], path: Path) -> bytes:
    """Write the tensors to bytes, and read those back to see that nothing was lost."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    own = {  # safetensors refuses tensors that share memory
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    try:
        data = save(own, metadata={"format": "pt"})
        back = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"safetensors cannot hold these tensors ({error}): {path}") from None
    if set(back) != set(state) or digest(back) != digest(state):
        raise CheckpointError(f"safetensors does not give the tensors back as they were; nothing is written: {path}")
    return data
