"""Fine-tuning from the first picture to the card: `finetune` is the front door."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cer_fusion.backbones.backbone import Backbone
from cer_fusion.backbones.errors import OptionError
from cer_fusion.backbones.finetuning.card import CARD_FILE, read_card
from cer_fusion.backbones.finetuning.curves import Curves
from cer_fusion.backbones.finetuning.device import accelerator_of, trained_in
from cer_fusion.backbones.finetuning.examples import Examples
from cer_fusion.backbones.finetuning.identity import check_same, identity_of
from cer_fusion.backbones.finetuning.material import Material, Progress, gather
from cer_fusion.backbones.finetuning.output_folder import WEIGHTS_FILE, OutputFolder
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.finetuning.run import Run
from cer_fusion.backbones.finetuning.scores import EpochScores, FinetuneReport
from cer_fusion.backbones.finetuning.seeding import drawn_from
from cer_fusion.backbones.finetuning.signals import held_signals
from cer_fusion.backbones.torch_backbone import TorchBackbone
from cer_fusion.backbones.weights import Source

logger = logging.getLogger(__name__)


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
    memory: float = 2e9,
    max_errors: float = 0.01,
    readers: int = 2,
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
        Write the state after so many updates as well as after each epoch and at an interrupt; 0: not.
    memory : float
        Bytes that decoded pictures may take.
    max_errors : float
        Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.
    tensorboard : bool
        Write curves for TensorBoard too.

    Raises
    ------
    ExamplesError, TooManyErrors, RecipeError, OptionError, DivergedError, DeviceMemoryError, ResumeError,
    MissingExtraError
    """
    if not isinstance(backbone, TorchBackbone):
        raise OptionError(f"{backbone.name} cannot be trained: only torch networks can, not {type(backbone).__name__}")
    if backbone.views != "none":
        raise OptionError(f"{backbone.name} takes the views {backbone.views!r}: train it without, extract with them")
    recipe, output = recipe or Recipe(), Path(output)
    tell: Progress = progress or (lambda stage, done, total: None)
    accelerator = accelerator_of(backbone, recipe)
    with ThreadPoolExecutor(max(1, readers)) as pool:
        material = gather(
            backbone, train, valid, classes, pool=pool, memory=memory, max_errors=max_errors, progress=tell
        )
        identity = identity_of(backbone, material, recipe, seed=seed, processes=accelerator.num_processes)
        if resume and (done := _finished(output, identity)) is not None:
            logger.info("%s is finished already", output)
            return _report(backbone, output, done, material, resumed=True)
        with (
            drawn_from(seed),
            trained_in(backbone),
            held_signals() as held,
            Curves(output, wanted=tensorboard) as curves,
        ):
            run = Run(backbone, material, recipe, accelerator, seed=seed)
            folder = OutputFolder(run, output, identity, state_every=state_every, held=held)
            resumed = folder.begin(resume=resume)
            _train(run, folder, curves, tell)
            card = folder.finish()
    return _report(backbone, output, card, material, resumed=resumed)


def _train(run: Run, folder: OutputFolder, curves: Curves, progress: Progress) -> None:
    """Run the epochs that are left."""
    position, recipe = run.position, run.recipe
    while position.epoch < recipe.epochs and not position.stopped:
        run.train_epoch(folder.after_step, progress)
        started = time.perf_counter()
        scores = run.scores(run.evaluate(progress), started)
        folder.keep(scores)
        if run.accelerator.is_main_process:
            curves.add(scores)
            logger.info("%s", scores.line(recipe.epochs))
        folder.after_epoch()
    if position.stopped:
        logger.info("stopped: no better macro F1 since epoch %d", position.best)


def _finished(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the card of a run that is finished and was this one; refuse another one's."""
    path = output / CARD_FILE
    if not path.exists() or not (card := read_card(path))["finished"]:
        return None
    check_same({key: card.get(key) for key in identity}, identity, path)
    return card


def _report(
    backbone: TorchBackbone, output: Path, card: dict[str, Any], material: Material, *, resumed: bool
) -> FinetuneReport:
    """Give the backbone the weights that were kept, and say what was done."""
    from cer_fusion.backbones.checkpoint import open_checkpoint
    from cer_fusion.backbones.weights import put

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
