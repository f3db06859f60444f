"""Sound to rows: eGeMAPS and networks of speech, each where its library is installed; the contract that all keep."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile

from cer_fusion.backbones import (
    CheckpointError,
    DeviceError,
    MissingExtraError,
    OptionError,
    PictureError,
    ShapeError,
    WeightsError,
    catalogue,
    create,
)
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.zoo import audio
from cer_fusion.backbones.zoo.audio import RATE_HZ, SoundBackbone
from cer_fusion.kit.errors import Masked

NAMES = ("wav2vec2", "hubert", "wavlm")


class Heard:
    """Stands for what decodes a video."""

    def __init__(self, window_s: float = 0.5, probe: str = "p", *, causal: bool = False) -> None:
        self.window_s, self.probe, self.causal = window_s, probe, causal

    def identity(self) -> dict[str, Any]:
        return {"rate_hz": RATE_HZ, "probe": self.probe, "place": "before" if self.causal else "around"}

    def versions(self) -> dict[str, str]:
        return {"av": "0"}


class Loud(SoundBackbone):
    """Needs no library: how loud it is, and how often the sign changes, in a second."""

    def __init__(self, name: str, *, window_s: float, **_: Any) -> None:
        self.name, self.architecture, self.window_s = f"audio:{name}", "audio:loud", window_s
        self.blocks, self.options = {"level": 1, "changes": 1}, {}
        self.device, self.precision, self.code, self.piece = "cpu", "float32", 1, 1

    def compute(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        signs = np.diff(np.signbit(pictures), axis=1).sum(axis=1, keepdims=True)
        level = np.sqrt((pictures**2).mean(axis=1, keepdims=True))
        return {"level": level, "changes": (signs * RATE_HZ / pictures.shape[1]).astype(np.float32)}

    def weights_digest(self) -> str:
        return "0" * 64

    def describe(self) -> dict[str, Any]:
        return self.described(weights_source="none", parameters=None, versions={})


@pytest.fixture
def loud(monkeypatch):
    monkeypatch.setitem(audio.KINDS, "loud", Loud)


def wav(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    out = io.BytesIO()
    wavfile.write(out, rate_hz, samples)
    return out.getvalue()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A tiny network of each kind, drawn at random and saved by transformers itself."""
    transformers = pytest.importorskip("transformers", reason="transformers, of the extra `audio`, is not installed")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("networks")
    for name, kind in audio.NETWORKS.items():
        config = getattr(transformers, kind.replace("Model", "Config"))(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
            conv_stride=(8, 8), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2, vocab_size=8,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            getattr(transformers, kind)(config).save_pretrained(folder / name)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=name != "hubert").save_pretrained(folder / name)
    return folder


def check(made: SoundBackbone) -> None:
    """What every backbone of sound promises."""
    made.take_sound(Heard(made.window_s))
    whole, half = made.decode(wav(noise(0.5))), made.decode(wav(noise(0.3, 1)))
    assert whole.shape == half.shape == (round(made.window_s * RATE_HZ),)
    sound = np.stack([whole, half, made.decode(wav(noise(0.5, 2))), half])
    rows = made.embed(sound)
    assert list(rows) == list(made.blocks)
    for block, width in made.blocks.items():
        assert rows[block].shape == (4, width)
        assert rows[block].dtype == np.float32
        assert np.isfinite(rows[block]).all()
        assert np.array_equal(rows[block][1], rows[block][3])
        assert np.array_equal(made.embed(sound[1:2])[block][0], rows[block][1]), "whatever it is embedded with"
        assert not np.array_equal(rows[block][0], rows[block][2])
    assert all(len(array) == 0 for array in made.embed(sound[:0]).values())
    spec, told = made.spec(), made.describe()
    assert json.loads(json.dumps(spec)) == spec
    assert json.loads(json.dumps(told)) == told
    assert (spec["options"]["window"], spec["sound"]["rate_hz"]) == (0.5, RATE_HZ)
    assert len(spec["weights"]["digest"]) == 64
    with pytest.raises(ShapeError, match="sound must be float32"):
        made.embed(sound[:, 1:])
    with pytest.raises(PictureError, match="no sound"):
        made.decode(b"\xff\xd8\xff a picture")
    with pytest.raises(PictureError, match="48000 Hz"):
        made.decode(wav(noise(0.5), 48_000))
    with pytest.raises(Masked, match=r"less than 0\.1 s"):
        made.decode(wav(noise(0.09)))


def test_a_backbone_of_sound_without_any_library_keeps_the_contract(loud):
    check(create("audio:loud", window=0.5))


def test_egemaps_gives_its_88_functionals_and_says_its_licence(caplog):
    pytest.importorskip("opensmile", reason="openSMILE's wheel, of the extra `audio`, is not installed")
    made = create("audio:egemaps", window=0.5)
    assert "free for research" in caplog.text
    check(made)
    assert made.blocks == {"functionals": 88}
    assert "licence" in made.describe()
    t = np.arange(8000) / RATE_HZ
    pitch = {}
    for hz in (150.0, 300.0):
        voice = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8))
        pitch[hz] = float(made.embed(made.decode(wav((0.1 * voice).astype(np.float32)))[None])["functionals"][0, 0])
    assert pitch[300.0] - pitch[150.0] == pytest.approx(12, abs=0.5), "semitones of an octave"
    assert np.isfinite(made.embed(made.decode(wav(np.zeros(8000, np.float32)))[None])["functionals"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_transformers_is_read_from_a_folder(networks, name):
    made = create(f"audio:{name}", weights=networks / name, window=0.5)
    check(made)
    assert made.blocks == {"mean": 16}
    assert made.describe()["weights_source"] == name
    assert made.spec()["options"]["normalised"] is (name != "hubert")


def test_the_row_is_what_transformers_itself_gives(networks):
    import torch
    import transformers

    made = create("audio:wav2vec2", weights=networks / "wav2vec2", window=0.5, layer=1)
    sound = noise(0.5, 5) + 0.25
    model = transformers.Wav2Vec2Model.from_pretrained(networks / "wav2vec2").eval()
    heard = transformers.Wav2Vec2FeatureExtractor.from_pretrained(networks / "wav2vec2")
    values = heard(sound, sampling_rate=RATE_HZ, return_tensors="pt").input_values
    with torch.no_grad():
        wanted = model(values, output_hidden_states=True).hidden_states[1].mean(dim=1).numpy()
    assert made.embed(made.decode(wav(sound))[None])["mean"] == pytest.approx(wanted, abs=1e-5)


def test_identity_follows_from_weights_config_window_layer_and_decoder(networks, tmp_path):
    import shutil

    def spec(folder: Any = networks / "wavlm", heard: Heard | None = None, **options: Any) -> str:
        made = create("audio:wavlm", weights=folder, **{"window": 0.5, **options})
        assert isinstance(made, SoundBackbone)
        made.take_sound(heard or Heard(made.window_s))
        return json.dumps(made.spec(), sort_keys=True)

    assert spec() == spec()
    changed = shutil.copytree(networks / "wavlm", tmp_path / "other")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    same = shutil.copytree(networks / "wavlm", tmp_path / "same")
    (same / "config.json").write_text(json.dumps({**config, "transformers_version": "4.0"}))
    assert spec(same) == spec()
    others = [spec(changed), spec(window=0.6), spec(layer=1), spec(heard=Heard(probe="q"))]
    assert len({spec(), *others}) == 5


def test_what_is_pickled_absent_foreign_or_incomplete_is_refused(networks, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    with pytest.raises(WeightsError, match="needs the folder of a network"):
        create("audio:hubert")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        create("audio:hubert", weights=tmp_path)
    with pytest.raises(CheckpointError, match="take it as audio:wavlm"):
        create("audio:hubert", weights=networks / "wavlm")
    pickled = shutil.copytree(networks / "hubert", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="which is pickled and not read"):
        create("audio:hubert", weights=pickled)
    partial = shutil.copytree(networks / "hubert", tmp_path / "partial")
    tensors = load_file(partial / "model.safetensors")
    left_out = next(name for name in tensors if "attention.k_proj.weight" in name)
    save_file({k: v for k, v in tensors.items() if k != left_out}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors are missing"):
        create("audio:hubert", weights=partial)
    unsaid = shutil.copytree(networks / "hubert", tmp_path / "unsaid")
    (unsaid / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="whether sound is normalised"):
        create("audio:hubert", weights=unsaid)
    with pytest.raises(OptionError, match="layer must be from 0 to 2"):
        create("audio:hubert", weights=networks / "hubert", layer=3)


@pytest.mark.parametrize(("name", "library"), [("egemaps", "opensmile"), ("wavlm", "transformers")])
def test_without_its_library_a_backbone_of_sound_is_refused_with_the_extras_name(monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"cer-fusion\[audio\]"):
        create(f"audio:{name}", weights=None)


def test_what_cannot_be_meant_is_refused(loud):
    with pytest.raises(OptionError, match="there is no backbone 'audio:egemap'; nearest: 'egemaps'"):
        create("audio:egemap")
    for window in (0.1, 61, "a", float("nan")):
        with pytest.raises(OptionError, match=r"window must be from 0\.2 to 60 seconds"):
            create("audio:loud", window=window)
    made = create("audio:loud", window=0.5)
    assert isinstance(made, SoundBackbone)
    with pytest.raises(OptionError, match="nobody has said what decodes"):
        made.spec()
    with pytest.raises(OptionError, match=r"takes windows of 0\.5 s, however: 2 s"):
        made.take_sound(Heard(2.0))
    with pytest.raises(OptionError, match="no views"):
        made.take_views("flip")
    with pytest.raises(DeviceError, match="computes on the CPU"):
        create("audio:egemaps", device="cuda")
    with pytest.raises(WeightsError, match="has no weights"):
        create("audio:egemaps", weights="w")
    made.take_sound(Heard(0.5))
    with pytest.raises(OptionError, match="made from the sound around frames"):
        recreate("loud", made.spec(), made.describe())
    with pytest.raises(OptionError, match="causal must be true or false, however: 1"):
        create("audio:loud", causal=1)
    with pytest.raises(OptionError, match=r"windows around a frame \(causal=False\), however: causal=True"):
        made.take_sound(Heard(0.5, causal=True))


@pytest.mark.parametrize("causal", [False, True])
def test_what_hears_is_made_again_from_what_the_identity_says(loud, causal):
    made = create("audio:loud", window=0.5, causal=causal)
    made.take_sound(Heard(0.5, causal=causal))
    said = json.loads(json.dumps([made.spec(), made.describe()]))
    again = recreate("loud", *said, sound=lambda window_s, causal: Heard(window_s, causal=causal))
    assert again.spec() == made.spec()
    with pytest.raises(OptionError, match="would not make the rows of 'loud' again: sound was"):
        recreate("loud", *said, sound=lambda window_s, causal: Heard(window_s, "other", causal=causal))


def test_a_network_of_sound_is_made_again_from_its_folder_alone(networks):
    folder = networks / "wav2vec2"
    made = create("audio:wav2vec2", weights=folder, window=0.5, layer=1)
    made.take_sound(Heard(0.5))
    said = json.loads(json.dumps([made.spec(), made.describe()]))
    sound = lambda window_s, causal: Heard(window_s, causal=causal)  # noqa: E731
    assert recreate("speech", *said, weights=folder, sound=sound).spec() == made.spec()
    with pytest.raises(WeightsError, match="--weights speech=FOLDER"):
        recreate("speech", *said, sound=sound)
    with pytest.raises(CheckpointError, match="take it as audio:hubert"):
        recreate("speech", *said, weights=networks / "hubert", sound=sound)


def test_the_catalogue_lists_sound_with_its_options_and_the_licence():
    (row,) = [row for row in catalogue() if row["name"] == "audio:<name>"]
    assert row["options"] == {"window": 1.0, "causal": False, "layer": -1}
    assert "free for research" in row["note"]
