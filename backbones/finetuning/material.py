"""The material of a run: both parts with their pictures opened, their targets, and the digest of it all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cer_fusion.backbones.errors import listed
from cer_fusion.backbones.finetuning.card import data_digest
from cer_fusion.backbones.finetuning.examples import Examples, check_parts
from cer_fusion.backbones.finetuning.pictures import OpenedPictures, check_failures, open_all
from cer_fusion.backbones.torch_backbone import TorchBackbone

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run learns from and is judged on."""

    train: Examples
    valid: Examples
    train_pictures: OpenedPictures
    valid_pictures: OpenedPictures
    classes: tuple[str, ...]
    digest: str
    """Of ids, labels and picture files of both parts."""
    left_out: dict[str, str]
    """Id -> reason, for pictures that cannot be used."""


def gather(
    backbone: TorchBackbone,
    train: Examples,
    valid: Examples,
    classes: Sequence[str],
    *,
    pool: ThreadPoolExecutor,
    memory: float,
    max_errors: float,
    progress: Progress,
) -> Material:
    """Open all pictures and check both parts, before and after leaving out those that cannot be used.

    Raises
    ------
    ExamplesError, TooManyErrors
    """
    check_parts(train, valid, classes)
    total = len(train) + len(valid)
    size = backbone.transform.size_px**2 * 3
    # The validation part first: it is the smaller one, and read as often.
    good_valid, valid_pictures, valid_digests, failed = open_all(
        backbone, valid, pool=pool, memory=memory, progress=lambda n: progress("opening", n, total)
    )
    good_train, train_pictures, train_digests, more = open_all(
        backbone, train, pool=pool, memory=memory - min(memory, len(valid) * size),
        progress=lambda n: progress("opening", len(valid) + n, total),
    )  # fmt: skip
    left_out = {**more, **failed}
    check_failures(left_out, total, max_errors)
    check_parts(good_train, good_valid, classes)
    _tell_leaks(good_train, train_digests, good_valid, valid_digests)
    if total * size > memory:
        logger.info("decoded pictures do not all fit into %.1f GB: the rest is decoded again each epoch", memory / 1e9)
    return Material(
        train=good_train, valid=good_valid, train_pictures=train_pictures, valid_pictures=valid_pictures,
        classes=tuple(classes), left_out=left_out,
        digest=data_digest({"train": (good_train, train_digests), "valid": (good_valid, valid_digests)}),
    )  # fmt: skip


def _tell_leaks(train: Examples, train_digests: Sequence[str], valid: Examples, valid_digests: Sequence[str]) -> None:
    known = dict(zip(train_digests, train.ids, strict=True))
    pairs = [f"{name} = {known[d]}" for name, d in zip(valid.ids, valid_digests, strict=True) if d in known]
    if pairs:
        logger.warning(
            "%d validation pictures are in the training part too: %s; the validation scores flatter",
            len(pairs), listed(pairs),
        )  # fmt: skip
