"""Image-text encoders of transformers, CLIP and SigLIP, from a local folder: ``clip:<folder>``; needs ``[prompts]``.

The folder is as such models are published: ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` (or
``processor_config.json``), and for texts the tokenizer's files. Rows are those of the image half with its projection,
which lie in one space with the texts' vectors (Radford et al., 2021; Zhai et al., 2023, "Sigmoid loss for language
image pre-training"). transformers' own code computes; nothing is downloaded, and of the folder no pickle is opened and
no code run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...kit.documents import parse_json
from ..errors import CheckpointError, MissingExtraError, OptionError, UnknownBackboneError, WeightsError, listed
from ..picture import Transform
from ..recipes import Encoder, Recipe

OWN = "folder"
"""The tag of the weights that lie in the folder."""
KINDS = ("clip", "siglip")
"""Values of ``model_type`` that are known here."""
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of resampling filters, as the preprocessor's file has them."""
VOCABULARIES = (
    "tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt",
)  # fmt: skip
"""Files of a tokenizer, of which a folder has one at least."""
BATCH = 64
"""Prompts a pass."""


def build(*, target: str, tag: str | None, pretrained: bool) -> Encoder:
    """Build the image half.

    Parameters
    ----------
    target : str
        The folder.
    tag, pretrained
        Whether its weights are meant, or others that are put in afterwards.
    """
    folder = _folder(target)
    model = _network(folder, pretrained=pretrained)
    vision = model.config.vision_config
    half = ImageHalf(model)
    return Encoder(
        name=f"clip:{folder.resolve().name}",
        architecture=f"transformers:{model.config.model_type}",
        module=half,
        trunk=half,
        blocks={"image": half.width},
        transform=_transform(folder, int(vision.image_size)),
        options={
            "patch": int(vision.patch_size),
            "heads": int(vision.num_attention_heads),
            "activation": str(vision.hidden_act),
            "eps": float(vision.layer_norm_eps),
        },
    )


def tags(target: str) -> list[str]:
    """Return the one tag there is: the weights in the folder."""
    return [OWN]


class ImageHalf(nn.Module):
    """The image tower of a CLIP or SigLIP and, where it has one, its projection; tensors in their public names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        projection = getattr(model, "visual_projection", None)
        self.width = int(model.config.vision_config.hidden_size if projection is None else projection.out_features)
        if projection is not None:
            self.visual_projection = projection

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {"image": (b, d)}, not scaled."""
        pooled: Tensor = self.vision_model(pixel_values=x, return_dict=True).pooler_output
        return {"image": self.visual_projection(pooled) if hasattr(self, "visual_projection") else pooled}


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """What the text half makes of prompts."""

    vectors: NDArray[np.float32]
    """(p, d), not scaled."""
    temperature: float
    """The inverse of the scale that the encoder learned for its cosines. SigLIP learned an offset of its logits too,
    which is one for all classes, so that a softmax over these does not see it."""


def text_vectors(
    target: str, prompts: Sequence[str], *, weights: str | Path | None = None, device: str = "cpu"
) -> Texts:
    """Embed prompts by the text half of the encoder in a folder.

    Parameters
    ----------
    target : str
        The folder.
    prompts : sequence of p str
        None is cut: one that is longer than the encoder reads is refused.
    weights : str or Path, optional
        Of a fine-tuned image half, in which there are none of texts: these are always the folder's.
    device : str

    Raises
    ------
    OptionError
        If a prompt is too long, or the folder has no tokenizer.
    UnknownBackboneError, WeightsError, CheckpointError, MissingExtraError
        As `build`.
    """
    folder = _folder(target)
    encode = _tokenizer(folder)
    model = _network(folder, pretrained=True).to(device)
    most = int(model.config.text_config.max_position_embeddings)
    plain = encode(list(prompts))["input_ids"]
    check_tokens(prompts, [len(ids) for ids in plain], most, str(folder))
    found = []
    for at in range(0, len(prompts), BATCH):
        part = list(prompts[at : at + BATCH])
        if model.config.model_type == "siglip":  # it was trained on texts filled up to the full length, without a mask
            ids = {"input_ids": encode(part, padding="max_length", max_length=most, return_tensors="pt")["input_ids"]}
        else:
            both = encode(part, padding=True, return_tensors="pt")
            ids = {key: both[key] for key in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            pooled = model.text_model(**{key: one.to(device) for key, one in ids.items()}, return_dict=True)
            projection = getattr(model, "text_projection", None)
            out = pooled.pooler_output if projection is None else projection(pooled.pooler_output)
        found.append(out.float().cpu().numpy())
    return Texts(vectors=np.concatenate(found), temperature=float(1 / model.logit_scale.detach().exp()))


RECIPE = Recipe(
    name="clip:<folder>",
    note="Image half of CLIP or SigLIP in a local folder of transformers; cer-feat prompts makes vectors of texts.",
    build=build,
    tags=tags,
    texts=text_vectors,
)


def check_tokens(prompts: Sequence[str], counts: Sequence[int], most: int, where: str) -> None:
    """Refuse prompts of more tokens than an encoder reads."""
    long = [text for text, count in zip(prompts, counts, strict=True) if count > most]
    if long:
        raise OptionError(
            f"{len(long)} prompts have more than the {most} tokens that {where} reads (first: {long[0][:60]!r})\n"
            "  shorten them: a prompt that is cut says something else"
        )


def _folder(target: str) -> Path:
    folder = Path(target)
    if not (folder / "config.json").is_file():
        other = (folder / "open_clip_config.json").is_file()
        raise UnknownBackboneError(
            f"there is no image-text encoder in {target!r}: expected a folder with config.json, model.safetensors, "
            "preprocessor_config.json and a tokenizer\n  "
            + (f"it holds one of open_clip: open-clip:{target}\n  " if other else "")
            + "nothing is downloaded: fetch it elsewhere, for example with "
            "huggingface-cli download openai/clip-vit-base-patch32 --local-dir FOLDER"
        )
    return folder


def _network(folder: Path, *, pretrained: bool) -> Any:
    """Build transformers' network in float32, with the folder's weights or with random ones."""
    config = parse_json((folder / "config.json").read_bytes(), where=str(folder / "config.json"), error=OptionError)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in KINDS:
        raise OptionError(
            f"{folder} holds a model of type {kind!r}, expected an image-text encoder: {', '.join(KINDS)}\n"
            "  rows and text vectors of other encoders can be imported: cer-feat import, and --prompts VECTORS.npz"
        )
    with _transformers() as library:
        network = {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]
        made = getattr(library, network)
        try:
            if not pretrained:
                settings = getattr(library, network.replace("Model", "Config")).from_pretrained(folder)
                return made(settings).float().eval()
            if not (folder / "model.safetensors").is_file():
                raise WeightsError(
                    f"{folder} has no model.safetensors\n  weights in one file of that form are read; pickled ones, "
                    "and those in several parts, are to be saved anew: model.save_pretrained(…, max_shard_size='10GB')"
                )
            model, told = made.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except WeightsError:
            raise
        except Exception as error:  # a boundary: the library and those under it raise nearly anything
            reason = str(error).strip().partition("\n")[0][:300]
            raise CheckpointError(f"transformers cannot open {folder}: {type(error).__name__}: {reason}") from error
    lacking = sorted(map(str, told["missing_keys"])) + [str(one) for one in told["mismatched_keys"]]
    if lacking:  # transformers would leave them at random
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: {len(lacking)} tensors are missing or of another "
            f"shape: {listed(lacking)}"
        )
    return model.float().eval()


def _tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in VOCABULARIES):  # the library would make one that knows no word
        raise OptionError(
            f"{folder} has no tokenizer: expected one of {', '.join(VOCABULARIES)}\n"
            "  put the files of the encoder's own tokenizer there"
        )
    with _transformers() as library:
        try:
            return library.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # a boundary, as above
            reason = str(error).strip().partition("\n")[0][:300]
            raise OptionError(f"the tokenizer in {folder} cannot be read: {type(error).__name__}: {reason}") from error


@contextlib.contextmanager
def _transformers() -> Iterator[Any]:
    """Import the library, which draws no bars and warns of nothing meanwhile."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtraError(
            f"image-text encoders need the library transformers, which cannot be imported: {error}\n"
            "  install it with: pip install 'cer-fusion[prompts]'"
        ) from None
    told = transformers.utils.logging
    level, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()
    told.disable_progress_bar()
    try:
        yield transformers
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()


def _transform(folder: Path, side: int) -> Transform:
    """Read what is done to a picture off the preprocessor's file; a size that it leaves out is the network's."""
    names = ("preprocessor_config.json", "processor_config.json")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise OptionError(
            f"{folder} has no {names[0]}, so nothing says how its pictures are prepared\n"
            "  put the encoder's own there: other pixels would give other rows"
        )
    found = parse_json(path.read_bytes(), where=str(path), error=OptionError)
    found = found.get("image_processor", found) if isinstance(found, dict) else {}
    try:
        size = found.get("size", side)
        sides = {"shortest_edge": size} if isinstance(size, int) else dict(size)
        resized = int(sides.get("shortest_edge") or sides["height"])
        crop = found.get("crop_size", side) if found.get("do_center_crop") else resized
        cropped = int(crop if isinstance(crop, int) else crop["height"])
        mean, std = (tuple(map(float, found[key])) for key in ("image_mean", "image_std"))
        scale = float(found.get("rescale_factor", 1 / 255))
        square = sides.get("height") == sides.get("width") and (isinstance(crop, int) or len(set(crop.values())) == 1)
        wanted = {"do_resize", "do_normalize", "do_rescale"}
        if (
            not square
            or cropped > resized
            or abs(scale * 255 - 1) > 1e-6
            or not all(found.get(w, True) for w in wanted)
        ):
            raise ValueError(json.dumps({key: found.get(key) for key in ("size", "crop_size", *sorted(wanted))}))
        return Transform(
            size_px=cropped,
            resize="shorter" if "shortest_edge" in sides else "squash",
            crop_pct=cropped / resized,
            interpolation=_FILTERS[int(found.get("resample", 3))],  # type: ignore[arg-type]
            mean=mean,
            std=std,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{path} prepares pictures in a way that is not known here ({error})\n"
            "  known: resized to a square or by the shorter edge, cropped at the centre, scaled by 1/255, normalised"
        ) from None
