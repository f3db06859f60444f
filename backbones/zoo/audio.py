"""Sound around a frame to a row: ``audio:egemaps``, ``audio:wav2vec2``, ``audio:hubert``, ``audio:wavlm``.

Needs the extra ``[audio]``. Nothing is downloaded: eGeMAPS is computed by openSMILE, whose wheel is the whole of it,
and the networks are read from a folder that is there already.

- **eGeMAPS** (Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", IEEE TAC 2016): 88 functionals of pitch,
  loudness and spectrum, version v02 as openSMILE has it.
- **wav2vec 2.0** (Baevski et al., NeurIPS 2020), **HuBERT** (Hsu et al., TASLP 2021), **WavLM** (Chen et al., JSTSP
  2022): the mean over time of a layer's output, the network being transformers' own.

Sound comes as a WAV file in memory (mono, 16 kHz, float32), which `cer_fusion.frames.FrameSound` makes of a video. This
package knows what becomes of it, and not where it came from: `take_sound` says what decoded it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...kit import errors
from ...kit.errors import Masked, needed
from ..backbone import PRECISIONS, Backbone, Begun, Faces, or_does_not_fit
from ..errors import (
    CheckpointError,
    DeviceError,
    MissingExtraError,
    OptionError,
    PictureError,
    ShapeError,
    WeightsError,
    listed,
    nearest,
)
from ..recipes import Recipe

RATE_HZ = 16_000
"""What openSMILE's set is defined for here, and what the networks were trained at."""
LEAST_S, MOST_S = 0.1, 60.0
"""Sound from which a row is made: eGeMAPS' pitch looks at 60 ms at a time. A window is at least twice that, so that the
half of one at the beginning or end of the sound suffices."""
EGEMAPS_LICENCE = (
    "openSMILE is under audEERING's research licence: free for research, teaching and personal use; use in products, "
    "and of rows made with it, needs a licence of audEERING's (www.audeering.com)"
)
logger = logging.getLogger(__name__)


def build(
    *,
    target: str,
    device: str,
    precision: str,
    weights: str | None = None,
    window: float = 1.0,
    causal: bool = False,
    layer: int = -1,
) -> SoundBackbone:
    """Make what turns sound into rows.

    Parameters
    ----------
    target : str
        "egemaps", "wav2vec2", "hubert" or "wavlm".
    device, precision : str
        Of a network; openSMILE computes on the CPU, in float32.
    weights : str, optional
        Of a network: the folder that transformers' ``save_pretrained`` or a model hub's download leaves, with
        ``config.json`` and safetensors. What is pickled is not read.
    window : float
        Seconds of sound around the frame's time, half before and half after it.
    causal : bool
        Whether all of the window is before the frame's time: a row then says nothing of what sounds later.
    layer : int
        Of a network: the layer whose output is the row, -1 for the last; 0 is what enters the first.
    """
    if target not in KINDS:
        raise OptionError(
            f"there is no backbone 'audio:{target}'{nearest(target, KINDS)}; there are {', '.join(KINDS)}"
        )
    if not isinstance(causal, bool):
        raise OptionError(f"causal must be true or false, however: {causal!r}")
    made = KINDS[target](
        target, weights=weights, window_s=_window(window), layer=layer, device=device, precision=precision
    )
    made.causal = causal
    return made


RECIPE = Recipe(
    name="audio:<name>",
    note="A row of the sound around each frame of a video: egemaps (openSMILE; free for research, not for products), "
    "wav2vec2, hubert, wavlm (transformers, from a folder). Needs --videos.",
    build=build,
)


class HeardBy(Protocol):
    """What decodes sound: `cer_fusion.frames.FrameSound`."""

    @property
    def window_s(self) -> float:
        """Length of sound around a frame."""

    @property
    def causal(self) -> bool:
        """Whether windows end with the frame's time."""

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the sound of a given video; JSON values."""

    def versions(self) -> dict[str, str]:
        """Of the libraries that decode."""


class SoundBackbone(Backbone):
    """Sound files -> {block: (b, d) float32}; in all else a backbone like any other.

    `compute` is what a kind has of its own, with its `blocks`, `architecture`, `options` and `weights_digest`.
    """

    window_s: float
    """Seconds of sound around a frame."""
    causal: bool = False
    """Whether windows end with the frame's time; the identity has it as what decodes the sound says it."""
    heard_by: HeardBy | None = None
    """What decodes the sound; set by `take_sound`."""

    def take_sound(self, heard_by: HeardBy) -> None:
        """Say what decodes the sound: it becomes part of the identity.

        Raises
        ------
        OptionError
            If it cuts windows of another length, or elsewhere.
        """
        if heard_by.window_s != self.window_s:
            raise OptionError(f"{self.name} takes windows of {self.window_s:g} s, however: {heard_by.window_s:g} s")
        if heard_by.causal != self.causal:
            raise OptionError(
                f"{self.name} takes windows {'before' if self.causal else 'around'} a frame (causal={self.causal}), "
                f"however: causal={heard_by.causal}"
            )
        self.heard_by = heard_by

    def take_views(self, views: str) -> None:
        """Refuse views: sound has none."""
        if views != "none":
            raise OptionError(f"{self.name} hears sound, of which there are no views, however: views={views!r}")

    def take_faces(self, faces: Faces, *, missing: str = "resize") -> None:
        """Refuse faces: sound has none."""
        raise OptionError(f"{self.name} hears sound, in which there is no face to cut out")

    @property
    def open(self) -> Callable[[bytes], NDArray[np.float32]]:
        """From a WAV file to its samples."""
        return waveform

    @property
    def prepare(self) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
        """From samples to an array of one length, NaN where the window was shortened."""
        return Filled(round(self.window_s * RATE_HZ))

    def start(self, pictures: NDArray[Any]) -> Begun:
        """Embed a batch (b, n) of samples, float32, NaN behind those that are shorter; done at once.

        Those of one length are computed together; on a CPU each by itself, so that a row has the same bits whatever it
        is embedded with.
        """
        n = round(self.window_s * RATE_HZ)
        if pictures.dtype != np.float32 or pictures.ndim != 2 or pictures.shape[1] != n:
            raise ShapeError(
                f"sound must be float32 of shape (b, {n}), however: {pictures.dtype} {pictures.shape}\n"
                f"  in backbone: {self.name}; decode() gives sound of that shape"
            )
        rows = {block: np.empty((len(pictures), width), np.float32) for block, width in self.blocks.items()}
        lengths = (~np.isnan(pictures)).sum(axis=1)
        for length in np.unique(lengths).tolist():
            same = np.flatnonzero(lengths == length)
            for at in np.split(same, range(self.piece, len(same), self.piece)) if self.piece else [same]:
                found = self._checked(self.compute(pictures[at, :length]), len(at))
                for block in self.blocks:
                    rows[block][at] = found[block]
        return Begun.done(rows)

    @abstractmethod
    def compute(self, pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Embed sound of one length, (b, m) float32."""

    def spec(self) -> dict[str, Any]:
        """Return everything that fixes this backbone's numbers, ready for JSON; `sound` in the place of `transform`.

        Raises
        ------
        OptionError
            If nobody has said what decodes the sound.
        """
        if self.heard_by is None:
            raise OptionError(
                f"nobody has said what decodes the sound that {self.name} hears\n"
                "  in a program: sound = cer_fusion.frames.FrameSound(root, videos, window_s=backbone.window_s, "
                "causal=backbone.causal); backbone.take_sound(sound); cer_fusion.extract(backbone, …, source=sound)"
            )
        rounded = {"device_kind": self.device_kind} if self.rounds else {}
        plugged = {} if self.plugin is None else {"plugin": dict(self.plugin)}
        return {
            "architecture": self.architecture,
            "options": {"window": self.window_s, **dict(sorted(self.options.items()))},
            "weights": {"digest": self.weights_digest()},
            "sound": self.heard_by.identity(),
            "precision": self.precision,
            **rounded,
            "code": self.code,
            **plugged,
        }

    def described(self, **facts: Any) -> dict[str, Any]:
        """Return what `describe` says of every kind, and these facts."""
        decoding = {} if self.heard_by is None else self.heard_by.versions()
        versions = {**facts.pop("versions"), **decoding, "numpy": str(np.__version__)}
        return {"name": self.name, "blocks": dict(self.blocks), "device": self.device, **facts, "versions": versions}

    def __repr__(self) -> str:
        joined = " + ".join(f"{block} {width}" for block, width in self.blocks.items())
        return f"<SoundBackbone {self.name}: {joined}, {self.window_s:g} s, {self.device}, {self.precision}>"


def waveform(data: bytes) -> NDArray[np.float32]:
    """Read a WAV file as `cer_fusion.frames.FrameSound` makes them: mono, 16 kHz, float32.

    Raises
    ------
    PictureError
        If the bytes are something else.
    """
    from scipy.io import wavfile

    try:
        rate_hz, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # a boundary: what is no WAV file raises nearly anything, and the reason is kept
        raise PictureError(f"no sound: {error}") from None
    if rate_hz != RATE_HZ or samples.dtype != np.float32 or samples.ndim != 1:
        raise PictureError(f"sound must be mono, {RATE_HZ} Hz, float32, however: {rate_hz} Hz, {samples.dtype}")
    return np.asarray(samples)


@dataclasses.dataclass(frozen=True)
class Filled:
    """Brings samples to one length, so that they can be stacked: NaN, which no sound has, stands behind them."""

    n: int

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(m,) to (n,); raises Masked where there is too little of it."""
        if len(samples) < LEAST_S * RATE_HZ:
            raise Masked(f"there is less than {LEAST_S:g} s of sound around it")
        full = np.full(self.n, np.nan, np.float32)
        full[: len(samples)] = samples[: self.n]
        return full


class EGeMAPS(SoundBackbone):
    """openSMILE's eGeMAPSv02; one block, ``functionals``, of 88."""

    def __init__(
        self, name: str, *, weights: str | None, window_s: float, layer: int, device: str, precision: str
    ) -> None:
        if weights is not None:
            raise WeightsError(f"audio:egemaps has no weights; weights={weights!r} is not for it")
        if layer != -1:
            raise OptionError(f"audio:egemaps has no layers, however: layer={layer}")
        if device not in ("cpu", "auto"):
            raise DeviceError(f"openSMILE computes on the CPU, however: device={device!r}; say cpu, or auto")
        if precision != "float32":
            raise OptionError(f"openSMILE computes in float32, however: precision={precision!r}")
        opensmile = _library("opensmile", "audio:egemaps")
        logger.warning("%s", EGEMAPS_LICENCE)
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
        )
        self._version = str(opensmile.__version__)
        self.name, self.architecture, self.window_s = f"audio:{name}", "audio:egemaps", window_s
        self.blocks = {"functionals": len(self._smile.feature_names)}
        self.options = {"feature_set": "eGeMAPSv02", "opensmile": self._version}
        self.device, self.precision, self.code, self.piece = "cpu", precision, 1, 1

    def compute(self, pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Embed sound of one length, (b, m) float32."""
        rows = [self._smile.process_signal(one, RATE_HZ).to_numpy(np.float32)[0] for one in pictures]
        return {"functionals": np.stack(rows)}

    def weights_digest(self) -> str:
        """Return the digest of the set's configuration: which functionals of what, by name."""
        config = sorted(Path(self._smile.config_path).parent.glob("*"))
        return hashlib.sha256(
            b"\0".join([*(name.encode() for name in self._smile.feature_names), *(one.read_bytes() for one in config)])
        ).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return source, versions, licence; no part of the identity."""
        return self.described(
            weights_source="openSMILE", parameters=None, versions={"opensmile": self._version}, licence=EGEMAPS_LICENCE
        )


def with_folder(kind: str) -> bool:
    """Whether ``audio:<name>`` is a network, whose weights lie in a folder."""
    return kind.removeprefix("audio:") in NETWORKS


NETWORKS = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
"""``model_type`` of a config to the class in transformers."""
UNUSED = ("masked_spec_embed",)
"""What stands for masked sound in training, and is not there in all files."""
VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures")
"""What a config says of who wrote it."""


class SpeechNetwork(SoundBackbone):
    """A network of transformers'; one block, ``mean``, over the time of the window."""

    def __init__(
        self, name: str, *, weights: str | None, window_s: float, layer: int, device: str, precision: str
    ) -> None:
        _library("transformers", f"audio:{name}")
        from ..torch_backbone import choose_device

        if precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, however: precision={precision!r}")
        self.name, self.architecture, self.window_s = f"audio:{name}", f"audio:{name}", window_s
        self.folder = _folder(name, weights)
        config = _json(self.folder / "config.json")
        if config.get("model_type") != name:
            raise CheckpointError(
                f"{self.folder} holds a {config.get('model_type')!r}, expected {name!r}\n  "
                + (f"take it as audio:{config['model_type']}" if config.get("model_type") in NETWORKS
                   else f"networks of sound are {', '.join(NETWORKS)}")
            )  # fmt: skip
        self.normalised = _is_normalised(self.folder)
        self.device, self.precision, self.code = choose_device(device), precision, 1
        if precision == "tf32" and not self.device.startswith("cuda"):
            raise OptionError(f"precision tf32 needs a CUDA device, however: {self.device}; say precision='float32'")
        self.piece = 1 if self.device == "cpu" else 0
        self.network = _loaded(name, self.folder).to(self.device)
        layers = int(self.network.config.num_hidden_layers)
        if not -1 <= layer <= layers:
            raise OptionError(f"layer must be from 0 to {layers}, or -1 for the last, however: {layer}")
        self.layer = layer
        self.blocks = {"mean": int(self.network.config.hidden_size)}
        plain = {key: value for key, value in config.items() if key not in VOLATILE}
        self.options = {
            "layer": layer,
            "normalised": self.normalised,
            "config": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest(),
        }

    def compute(self, pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Embed sound of one length, (b, m) float32.

        Raises
        ------
        DeviceMemoryError
            If it does not fit on the device.
        """
        return or_does_not_fit(
            lambda: self._forward(pictures), pictures=len(pictures), name=self.name, device=self.device
        )

    def _forward(self, sound: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        import torch

        from ..torch_backbone import float32_as

        if self.normalised:  # as transformers' Wav2Vec2FeatureExtractor does
            mean, variance = sound.mean(axis=1, keepdims=True), sound.var(axis=1, keepdims=True)
            sound = (sound - mean) / np.sqrt(variance + 1e-7)
        kind = torch.device(self.device).type
        half: dict[str, Any] = {"enabled": False}
        if self.rounds and self.precision != "tf32":
            half = {"dtype": getattr(torch, self.precision)}
        with torch.inference_mode(), float32_as(self.precision), torch.autocast(kind, **half):
            out = self.network(torch.from_numpy(np.ascontiguousarray(sound)).to(self.device), output_hidden_states=True)
            steps = out.last_hidden_state if self.layer == -1 else out.hidden_states[self.layer]
            return {"mean": steps.float().mean(dim=1).cpu().numpy()}  # (b, t, d) -> (b, d)

    def weights_digest(self) -> str:
        """Return the digest of the tensors, whatever files they came in."""
        from ..weights.fit import digest

        return digest(self.network.state_dict(), leave_out=UNUSED)

    def describe(self) -> dict[str, Any]:
        """Return source, versions, device; no part of the identity."""
        import torch
        import transformers

        return self.described(
            weights_source=self.folder.resolve().name,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            versions={"torch": str(torch.__version__), "transformers": str(transformers.__version__)},
        )


def _folder(name: str, weights: str | None) -> Path:
    """The folder that was named, with what must be in it."""
    wanted = f"audio:{name} needs the folder of a network: --weights FOLDER, with config.json and model.safetensors"
    if weights is None:
        raise WeightsError(f"{wanted}\n  as transformers' save_pretrained leaves it; nothing is downloaded here")
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"{wanted}, however: {weights}")
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{wanted}\n  there is no config.json in {folder}")
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(one.name for one in folder.glob("*.bin"))
        raise WeightsError(
            f"{folder} holds no safetensors"
            + (f", but {listed(pickled)}, which is pickled and not read" if pickled else "")
            + "\n  save the network again with transformers: model.save_pretrained(folder)"
        )
    return folder


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return found


def _is_normalised(folder: Path) -> bool:
    """Whether each window is brought to mean 0 and variance 1, as the network's own preprocessing says."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise CheckpointError(
            f"there is no {path.name} in {folder}, which says whether sound is normalised before the network hears it\n"
            "  it belongs to the network's files; from Python: Wav2Vec2FeatureExtractor(do_normalize=…)."
            "save_pretrained(folder)"
        )
    said: Mapping[str, Any] = _json(path)
    if said.get("sampling_rate", RATE_HZ) != RATE_HZ:
        raise CheckpointError(f"{path} wants sound of {said['sampling_rate']} Hz, and it is {RATE_HZ} Hz here")
    return bool(said.get("do_normalize", True))


def _loaded(name: str, folder: Path) -> Any:
    """The network with all of its weights, from safetensors alone, without going online."""
    transformers: Any = _library("transformers", f"audio:{name}")
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()  # what it would tell of missing tensors is an error below
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network, told = getattr(transformers, NETWORKS[name]).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True,
                attn_implementation="eager",
            )  # fmt: skip
    except Exception as error:  # a boundary: it is another library's reader of somebody's files, and its words are kept
        text = " ".join(str(error).split())[:300]
        raise CheckpointError(f"transformers cannot open the network in {folder}: {text}") from None
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
    missing = sorted(key for key in told["missing_keys"] if key not in UNUSED)
    wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in told.get("mismatched_keys") or ())
    if missing or wrong:
        raise CheckpointError(
            f"the weights do not fit {name}: {len(missing)} tensors are missing, {len(wrong)} have another shape "
            f"(first: {listed([*missing, *wrong][:3])})\n  in folder: {folder}"
        )
    if told["unexpected_keys"]:
        logger.info("%s: left out %s, which no row depends on", name, listed(sorted(told["unexpected_keys"])))
    return network.float().eval()


def _library(name: str, purpose: str) -> Any:
    """A library of the extra `audio`."""
    try:
        return needed(name, purpose, extra="audio")
    except errors.MissingExtraError as error:
        raise MissingExtraError(str(error)) from None


def _window(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 2 * LEAST_S <= seconds <= MOST_S:
        raise OptionError(f"window must be from {2 * LEAST_S:g} to {MOST_S:g} seconds, however: {seconds!r}")
    return float(seconds)


KINDS: dict[str, Callable[..., SoundBackbone]] = {"egemaps": EGeMAPS, **dict.fromkeys(NETWORKS, SpeechNetwork)}
"""What follows the name's colon, and what it makes."""
