"""Real encoders on real faces, against rows that another program computed; only where ../shared lies beside us."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cer_fusion import backbones
from cer_fusion.backbones import Backbone
from tests.backbones.conftest import SHARED

FACES = 8

pytestmark = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="../shared is not here")


@pytest.fixture(scope="module")
def faces() -> list[bytes]:
    names = (SHARED / "features" / "file_names.txt").read_text().splitlines()[:FACES]
    with zipfile.ZipFile(SHARED / "data" / "ferplus.zip") as archive:
        return [archive.read(name) for name in names]


def cosines(backbone: Backbone, faces: list[bytes], cached: Path) -> np.ndarray:
    (rows,) = backbone.embed(np.stack([backbone.decode(face) for face in faces])).values()
    expected = np.load(cached, mmap_mode="r")[:FACES].astype(np.float32)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray((rows * expected).sum(1) / norms)


def test_dinov2_at_112_px_agrees_with_the_cached_rows(faces: list[bytes]) -> None:
    backbone = backbones.create(
        "timm:vit_small_patch14_dinov2.lvd142m",
        weights=SHARED / "weights" / "vit_small_patch14_dinov2.safetensors",
        img_size=112,
        pooling="cls_mean",
    )
    assert dict(backbone.blocks) == {"cls_mean": 768}
    assert cosines(backbone, faces, SHARED / "features" / "dinov2_vits14_768.npy").min() >= 0.995


def test_efficientnet_lite0_at_160_px_agrees_with_the_cached_rows(faces: list[bytes]) -> None:
    backbone = backbones.create(
        "timm:efficientnet_lite0",
        weights=SHARED / "weights" / "efficientnet_lite0.safetensors",
        img_size=160,
        crop_pct=1.0,
    )
    assert cosines(backbone, faces, SHARED / "features" / "efficientnet_lite0_1280.npy").min() >= 0.965


def test_the_onnx_face_model_agrees_with_the_cached_rows(faces: list[bytes]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    backbone = backbones.create(
        f"onnx:{SHARED / 'weights' / 'hse_faceres_deep.onnx'}",
        mean=(103.939, 116.779, 123.68),
        std=(1.0, 1.0, 1.0),
        colour="BGR",
        scale="0-255",
    )
    assert cosines(backbone, faces, SHARED / "features" / "hse_faceres_1024.npy").min() >= 0.995


def test_inspect_says_what_the_real_files_are() -> None:
    info = backbones.inspect_checkpoint(SHARED / "weights" / "vit_small_patch14_dinov2.safetensors")
    assert info.looks_like == "a ViT of width 384, depth 12, patch 14"
    assert info.dtypes == ("float16",)
