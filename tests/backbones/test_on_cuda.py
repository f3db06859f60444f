"""What only a CUDA device shows; skipped, and said so, where there is none. `test_cuda.py` has the fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones.backbone import DeviceMemoryError
from cer_fusion.featstore import Store, extract
from tests.backbones.finetuning.conftest import CLASSES, TINY, examples, network
from tests.backbones.test_cuda import faces

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

KINDS = ["vit", "manet", "resnet50", "timm:test_vit"]


def both(kind: str, precision: str = "float32") -> tuple[Any, Any, np.ndarray]:
    """The same network on the GPU and on the CPU, and pictures for it."""
    there, here = (backbones.create(kind, weights="random", device=d, precision=p)
                   for d, p in (("cuda", precision), ("cpu", "float32")))  # fmt: skip
    side = here.transform.size_px
    return there, here, np.random.default_rng(0).integers(0, 256, (5, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_float32_are_those_of_the_cpu_but_for_their_last_bits(kind: str) -> None:
    there, here, pictures = both(kind)
    ours, theirs = there.embed(pictures), here.embed(pictures)
    for block, rows in theirs.items():
        scale = np.abs(rows).max()
        np.testing.assert_allclose(ours[block] / scale, rows / scale, rtol=0, atol=2e-4)
    assert there.spec() == here.spec()


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_rows_in_fewer_bits_are_near_and_another_feature(precision: str) -> None:
    there, here, pictures = both("resnet50", precision)
    ours, theirs = there.embed(pictures)["bottleneck512"], here.embed(pictures)["bottleneck512"]
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.99
    assert there.spec()["device_kind"] in ("cuda", "rocm")


def test_batches_begun_one_behind_the_other_give_the_rows_of_each_alone() -> None:
    there, _, pictures = both("timm:test_vit")
    batches = [np.roll(pictures, i, axis=1) for i in range(6)]
    begun = [there.start(batch) for batch in batches]
    for batch, one in zip(batches, begun, strict=True):
        np.testing.assert_array_equal(one.rows()["pooled"], there.embed(batch)["pooled"])


def test_more_pictures_than_fit_are_told_and_an_automatic_batch_halves(tmp_path: Path) -> None:
    there: Any = network("timm:test_resnet", device="cuda")
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 96e6) / total))
    try:
        with pytest.raises(DeviceMemoryError, match="pictures at once do not fit"):
            there.embed(np.zeros((16384, 32, 32, 3), np.uint8))
        assert extract(there, faces(tmp_path, 9), Store.create(tmp_path / "s"), dataset="d").embedded == 9
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert free <= total


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_a_network_is_trained_in_every_precision(precision: str, tmp_path: Path) -> None:
    report = backbones.finetune(
        network("timm:test_resnet", device="cuda", precision=precision), examples(25), examples(9, first=100),
        classes=CLASSES, recipe=TINY.changed({"mixup": 0.3, "focal": 1.0}), output=tmp_path / "out",
    )  # fmt: skip
    assert all(np.isfinite(epoch.loss) for epoch in report.epochs)
