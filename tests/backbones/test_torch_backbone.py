"""What is torch's own: the precision of float32, and memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones.torch_backbone import float32_as

NEW = pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this torch has no newer precision settings")

LEGACY = [
    "pass",
    "B.cuda.matmul.allow_tf32 = True",
    "B.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium')",
]
NEWER = [
    "B.fp32_precision = 'tf32'",
    "B.fp32_precision = 'ieee'",
    "B.fp32_precision = 'bf16'",
    "B.cudnn.fp32_precision = 'tf32'",
    "B.cuda.matmul.fp32_precision = 'tf32'",
    "B.cuda.matmul.fp32_precision = 'ieee'",
    "B.cudnn.conv.fp32_precision = 'ieee'",
    "B.cudnn.rnn.fp32_precision = 'none'",
    "B.mkldnn.matmul.fp32_precision = 'bf16'",
    "torch.set_float32_matmul_precision('high'); B.fp32_precision = 'ieee'",
    "B.fp32_precision = 'tf32'; B.cuda.matmul.allow_tf32 = False",
    "B.cudnn.allow_tf32 = False; B.cudnn.conv.fp32_precision = 'tf32'",
]

CHECK = """
import os, sys, torch
from cer_fusion.backbones.torch_backbone import float32_as
B = torch.backends
LEVELS = [B, B.cudnn, B.mkldnn, B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul] if NEW else []

def legacy(read):
    try:
        return read()
    except RuntimeError:
        return "mixed"

def state():
    return [l.fp32_precision for l in LEVELS] + [
        legacy(lambda: B.cuda.matmul.allow_tf32), legacy(lambda: B.cudnn.allow_tf32),
        legacy(torch.get_float32_matmul_precision)]

for setting in CASES:
    if os.fork():  # settings cannot be made unsaid
        assert os.wait()[1] == 0, setting
        continue
    try:
        exec(setting)
        before = state()
        for precision in ("float32", "tf32", "bfloat16"):
            wanted = (["tf32"] * len(LEVELS) + [True, True, "high"] if precision == "tf32"
                      else ["ieee"] * len(LEVELS) + [False, False, "highest"])
            with float32_as(precision):
                assert state() == wanted, (precision, state())
            assert state() == before, (before, state())
        if NEW and setting.startswith("B.fp32_precision = 'tf32'"):
            B.fp32_precision = "ieee"  # what followed it before follows it still
            assert B.mkldnn.matmul.fp32_precision == B.cudnn.fp32_precision == "ieee"
        status = 0
    except BaseException as error:
        print(setting, repr(error), file=sys.stderr)
        status = 1
    os._exit(status)
"""


@pytest.mark.parametrize("cases", [LEGACY, pytest.param(NEWER, marks=NEW)], ids=["legacy", "newer"])
def test_float32_is_computed_as_asked_whatever_was_set_before_and_that_is_put_back(cases: list[str]) -> None:
    code = f"NEW, CASES = {hasattr(torch.backends.cudnn, 'conv')}, {cases!r}\n{CHECK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


@NEW
def test_a_network_computes_where_the_newer_settings_were_used() -> None:
    made = backbones.create("timm:test_resnet", weights="random")
    pictures = np.zeros((2, made.transform.size_px, made.transform.size_px, 3), np.uint8)
    wanted = made.embed(pictures)["pooled"]
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "tf32"
    try:
        assert np.array_equal(made.embed(pictures)["pooled"], wanted)
        assert settings.fp32_precision == "tf32"
    finally:
        settings.fp32_precision = before


def test_computations_at_once_share_the_strict_settings_and_the_last_puts_them_back():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        first, second = float32_as("float32"), float32_as("bfloat16")
        first.__enter__()
        second.__enter__()
        with contextlib.suppress(KeyError):
            first.__exit__(KeyError, KeyError(), None)
        assert torch.get_float32_matmul_precision() == "highest"
        second.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_pieces_are_computed_side_by_side_with_one_thread_each(three_threads):
    backbone = backbones.create("timm:test_resnet", weights="random", device="cpu")
    meet = threading.Barrier(3, timeout=60)  # passed only if three pieces are under way at once
    seen = []

    def look(*_):
        meet.wait()
        seen.append((threading.get_ident(), torch.get_num_threads(), torch.get_float32_matmul_precision()))

    pictures = np.random.default_rng(0).integers(0, 256, (3 * backbone.piece, 160, 160, 3), np.uint8)
    side = backbone.transform.size_px
    handle = backbone.module.register_forward_pre_hook(look)
    together = backbone.embed(pictures[:, :side, :side])
    handle.remove()
    assert len({thread for thread, _, _ in seen}) == 3
    assert {(count, precision) for _, count, precision in seen} == {(1, "highest")}
    assert torch.get_num_threads() == 3
    alone = backbone.embed(pictures[:1, :side, :side])
    for block, rows in alone.items():
        np.testing.assert_array_equal(rows, together[block][:1])


def test_a_piece_that_fails_fails_the_batch_and_leaves_the_threads_as_they_were(three_threads):
    backbone = backbones.create("timm:test_resnet", weights="random", device="cpu")

    def fail(*_):
        raise RuntimeError("not enough memory: you tried to allocate 9 bytes.")

    backbone.module.register_forward_pre_hook(fail)
    side = backbone.transform.size_px
    with pytest.raises(MemoryError, match="smaller batch"):
        backbone.embed(np.zeros((2 * backbone.piece, side, side, 3), np.uint8))
    assert torch.get_num_threads() == 3
