"""Fine-tuning from the first picture to the card: `finetune` is the front door."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...kit import errors as kit
from ...kit.tracking import check_trackers, tracked
from ..backbone import Backbone
from ..errors import MissingExtraError, OptionError
from ..torch_backbone import TorchBackbone
from ..weights.fit import Source
from .examples import Examples
from .folder import WEIGHTS_FILE, OutputFolder, Seen, finished_card, identity_of
from .material import Feed, Material, Pictures, Progress, gather
from .process import accelerator_of, drawn_from, held_signals, norms_of_whole_batches, trained_in
from .recipe import Recipe
from .trainable import only_what_learns
from .training import EpochScores, Training

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """What a training did."""

    output: Path
    """Folder with ``weights.safetensors``, ``card.json`` and ``log.jsonl``."""
    weights: Path
    """The best epoch's weights, for ``create(name, weights=…)``."""
    weights_digest: str
    """Their digest, as in the identity of features made with them."""
    best: EpochScores
    """Scores of that epoch."""
    epochs: tuple[EpochScores, ...]
    """Scores of every epoch."""
    stopped_early: bool
    """Whether patience ended it."""
    resumed: bool
    """Whether it went on from a state, or was finished already."""
    left_out: dict[str, str]
    """Id -> reason, for pictures that cannot be used."""


def finetune(
    backbone: Backbone,
    train: Examples,
    valid: Examples,
    *,
    classes: Sequence[str],
    recipe: Recipe | None = None,
    output: str | Path,
    resume: bool = True,
    seed: int = 0,
    state_every: int = 0,
    state_minutes: float = 10.0,
    held_out: Mapping[str, str] | None = None,
    memory: float = 2e9,
    max_errors: float = 0.01,
    readers: int = 2,
    reader_processes: int = 0,
    track: Sequence[str] = (),
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Train a backbone end to end under a classifier, and keep the best epoch.

    Afterwards `backbone` has the weights that were kept. Under ``accelerate launch`` or ``torchrun`` every process
    calls this with the same arguments; the batch is shared out, and only the first process writes.

    Parameters
    ----------
    backbone : TorchBackbone
        Its device and precision are those of the training.
    train, valid : Examples
        What to learn from; what to choose the epoch on. No test examples: nothing here is an unbiased score.
    classes : sequence of str
        Names of 0..k-1.
    recipe : Recipe, optional
        `Recipe()` when not given.
    output : Path
        Folder for ``weights.safetensors``, ``card.json`` and ``log.jsonl``.
    resume : bool
        Go on where an earlier run with the same arguments was; on a CPU the weights are then the same, bit for bit.
    state_every : int
        Write the state after so many updates as well; 0: not.
    state_minutes : float
        Write the state after an epoch where the last one is as old as this; 0: after every epoch. At an interrupt it is
        written in any case. It holds the network, its average and the optimizer's moments.
    held_out : dict of str, optional
        Id -> sha256 of the file, of pictures that nothing is to be learnt from (the test split). Those that this
        training has, or that the weights to start from were trained on, are told, and counted in the card.
    memory : float
        Bytes that decoded pictures may take, in all processes of this machine together.
    readers : int
        Threads that read and decode, keeping what they decoded as far as `memory` lets.
    reader_processes : int
        Processes of torch's `DataLoader` that do so instead, each time anew; 0: threads do. For a GPU.
    max_errors : float
        Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.
    track : sequence of str
        Trackers, of ``trackio``, ``tensorboard``, ``wandb`` and ``mlflow``, that are told the recipe and every epoch's
        scores, by the first process. TensorBoard's file is in ``<output>/tensorboard``.
    tensorboard : bool
        The same as ``track=("tensorboard",)``.

    Raises
    ------
    ExamplesError, TooManyErrors, RecipeError, OptionError, DivergedError, DeviceMemoryError, ResumeError,
    MissingExtraError, TrackingError
    """
    trackers = _checked([*track, *(["tensorboard"] if tensorboard else [])])
    if not isinstance(backbone, TorchBackbone):
        raise OptionError(f"{backbone.name} cannot be trained: only torch networks can, not {type(backbone).__name__}")
    if backbone.views != "none":
        raise OptionError(f"{backbone.name} takes the views {backbone.views!r}: train it without, extract with them")
    recipe, output = recipe or Recipe(), Path(output)
    tell: Progress = progress or (lambda stage, done, total: None)
    accelerator = accelerator_of(backbone, recipe)
    with ThreadPoolExecutor(max(1, readers)) as pool:
        material = gather(
            backbone, train, valid, classes, accelerator=accelerator, pool=pool, processes=reader_processes,
            memory=memory, max_errors=max_errors, progress=tell,
        )  # fmt: skip
        seen = Seen.by(material, backbone.source.path, held_out or {})
        if accelerator.is_main_process:
            seen.tell()
        identity = identity_of(backbone, material, recipe, seed=seed, processes=accelerator.num_processes)
        if resume and (done := finished_card(output, identity)) is not None:
            logger.info("%s is finished already", output)
            return _report(backbone, output, done, material, resumed=True)
        parts = {"train": material.train, "valid": material.valid}
        pictures = Pictures(backbone, parts, material.kept, recipe, seed=seed, pool=None if reader_processes else pool)
        with (
            Feed(pictures, processes=reader_processes, pin=accelerator.device.type == "cuda") as feed,
            drawn_from(seed),
            trained_in(backbone),
            only_what_learns(backbone, recipe),
            norms_of_whole_batches(backbone.module, wanted=recipe.sync_bn),
            held_signals() as signalled,
            tracked(
                trackers if accelerator.is_main_process else (),
                run=output.name,
                curves=output / CURVES,
                config={
                    "backbone": backbone.name,
                    "classes": len(classes),
                    "seed": seed,
                    "recipe": asdict(recipe),
                    "device": backbone.device,
                    "precision": backbone.precision,
                },
            ) as tell_trackers,
        ):
            training = Training(backbone, material, feed, recipe, accelerator, seed=seed, signalled=signalled)
            folder = OutputFolder(
                training, output, identity, state_every=state_every, state_minutes=state_minutes, seen=seen
            )
            resumed = folder.begin(resume=resume)
            position = training.position
            while position.epoch < recipe.epochs and not position.stopped:
                training.train_epoch(folder.after_step, tell)
                scores = training.evaluate(tell)
                folder.keep(scores)
                if accelerator.is_main_process:
                    tell_trackers({name: getattr(scores, name) for name in _TRACKED}, step=scores.epoch)
                    logger.info("%s", scores.line(recipe.epochs))
                folder.after_epoch()
            if position.stopped:
                logger.info("stopped: no better macro F1 since epoch %d", position.best)
            card = folder.finish()
    return _report(backbone, output, card, material, resumed=resumed)


CURVES = "tensorboard"
"""The folder of TensorBoard's file, in the output."""
_TRACKED = ("loss", "lr", "train_accuracy", "valid_loss", "valid_accuracy", "valid_macro_f1")


def _checked(trackers: Sequence[str]) -> tuple[str, ...]:
    try:
        return check_trackers(trackers)
    except kit.MissingExtraError as error:
        raise MissingExtraError(str(error)) from None


def _report(
    backbone: TorchBackbone, output: Path, card: dict[str, Any], material: Material, *, resumed: bool
) -> FinetuneReport:
    """Give the backbone the weights that were kept, and say what was done."""
    from ..making import put
    from ..weights.checkpoint import open_checkpoint

    path = output / WEIGHTS_FILE
    put(backbone.encoder, open_checkpoint(path))
    backbone.source = Source(kind="file", tag=backbone.source.tag, path=path)
    return FinetuneReport(
        output=output,
        weights=path,
        weights_digest=backbone.weights_digest(),
        best=EpochScores(**card["best"]),
        epochs=tuple(EpochScores(**entry) for entry in card["epochs"]),
        stopped_early=card["stopped_early"],
        resumed=resumed,
        left_out=material.left_out,
    )
