"""A training: the networks and their optimizer, one update after another, and the validation after each epoch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from timm.optim._optim_factory import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from ...kit.errors import duration, listing
from ..errors import DivergedError, RecipeError
from ..torch_backbone import TorchBackbone, float32_as
from .classifier import (
    UNITS,
    Classifier,
    classifier_of,
    locality_sum,
    log_prior,
    loss_sum,
    mix,
    targets_of,
)  # fmt: skip
from .examples import batches, epoch_order, step_seed
from .material import Feed, Item, Material, Place, Progress
from .process import memory_errors, share_buffers, summed
from .recipe import Recipe
from .trainable import keep_still

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EpochScores:
    """One line of ``log.jsonl``."""

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss."""
    lr: float
    """Learning rate of the classifier at the epoch's last update."""
    train_accuracy: float
    """Share of augmented training pictures whose label was found, while the weights were changing."""
    valid_loss: float
    """Mean cross-entropy with the hard labels, of the weights that would be kept."""
    valid_accuracy: float
    """Likewise."""
    valid_macro_f1: float
    """Mean F1 over the classes that the validation part has; the best epoch is the first with the highest."""
    valid_recall: dict[str, float]
    """Class -> share found, for those classes."""
    seconds: float
    """Training and validation."""
    seconds_left: float
    """What the epochs that are left will take at most, at this pace; patience may end them before."""
    pictures_per_s: float
    """Training pictures over the seconds of training alone, on this process's device times processes."""

    def line(self, epochs: int) -> str:
        """Say it in one line."""
        return (
            f"epoch {self.epoch}/{epochs}: loss {self.loss:.4f}, train accuracy {self.train_accuracy:.4f}; valid: loss "
            f"{self.valid_loss:.4f}, accuracy {self.valid_accuracy:.4f}, macro F1 {self.valid_macro_f1:.4f}; "
            f"lr {self.lr:.2e}, {self.pictures_per_s:,.1f} pictures/s, at most {duration(self.seconds_left)} left"
        )


@dataclass(kw_only=True)
class Position:
    """Where a training is, and what it knows so far."""

    epoch: int = 0
    """Epochs that are complete."""
    step: int = 0
    """Updates done in the epoch that is not."""
    loss: float = 0.0
    """Sum of its losses so far."""
    correct: int = 0
    """Training pictures found right so far."""
    seen: int = 0
    """Training pictures seen so far."""
    seconds: float = 0.0
    """Time spent in it so far."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """`EpochScores` of the complete epochs."""
    best: int = 0
    """Number of the best epoch, from 1; 0: none yet."""
    best_digest: str = ""
    """Digest of all tensors of its weights file."""
    best_identity: str = ""
    """Digest of those that features depend on, as in a feature's identity."""
    stopped: bool = False
    """Whether patience ended the training."""

    def begin_epoch(self) -> None:
        """Count the epoch as complete and forget its sums."""
        self.epoch += 1
        self.step, self.loss, self.correct, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0


class Training:
    """The networks and their optimizer at one `Position`.

    Order of examples, augmentation, dropout and mixing are functions of (seed, epoch, step), and the schedule is one of
    the number of updates: what has a state are the networks, the optimizer, float16's scaler and the position.
    """

    def __init__(
        self,
        backbone: TorchBackbone,
        material: Material,
        feed: Feed,
        recipe: Recipe,
        accelerator: Accelerator,
        *,
        seed: int,
        signalled: threading.Event,
    ) -> None:
        self.backbone, self.material, self.recipe, self.accelerator = backbone, material, recipe, accelerator
        self.feed, self.seed = feed, seed
        self._signalled, self._any_signalled = signalled, False
        self.position = Position()
        k = len(material.classes)
        self.updates_per_epoch = len(batches(np.arange(len(material.train)), recipe.batch_size))
        self._check_parts()
        device = accelerator.device
        self.classifier: Classifier = classifier_of(backbone, k, seed=seed).to(device)
        if recipe.locality:
            self.classifier.show_units()
        self.average = ModelEmaV3(self.classifier, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        optimizer = _optimizer_of(self.classifier, backbone, recipe)
        self.schedule = _schedule_of(optimizer, recipe, updates_per_epoch=self.updates_per_epoch)
        self.model, self.optimizer = accelerator.prepare(self.classifier, optimizer)
        self.targets = torch.from_numpy(targets_of(material.train, k, recipe)).to(device)
        self.y = torch.from_numpy(material.train.y).to(device)
        self.prior = torch.from_numpy(log_prior(material.train.y, k, recipe)).to(device)

    def judged(self) -> Classifier:
        """Return the weights that are judged and kept: the averaged ones, where there are any."""
        return self.classifier if self.average is None else self.average.module

    @property
    def interrupted(self) -> bool:
        """Whether a signal came, to any process: as all of them know since the last step or evaluation."""
        return self._signalled.is_set() if self.accelerator.num_processes == 1 else self._any_signalled

    def train_epoch(self, after_step: Callable[[], None], progress: Progress) -> None:
        """Train from the position to the end of its epoch."""
        recipe, position = self.recipe, self.position
        order = epoch_order(self.material.train.y, seed=self.seed, epoch=position.epoch, sampling=recipe.sampling)
        steps = batches(np.arange(len(order)), recipe.batch_size)[position.step :]
        parts = self.feed(
            [Place("train", int(order[at]), position.epoch, int(at)) for at in part]
            for step in steps
            for part in self._own_parts(step)
        )
        self.model.train()
        keep_still(self.classifier)
        start = time.perf_counter() - position.seconds
        for step in steps:
            with memory_errors(recipe), float32_as(self.backbone.precision):
                self._update(parts, len(step))
            position.seconds = time.perf_counter() - start
            progress(f"epoch {position.epoch + 1}", position.seen, len(order))
            after_step()

    def evaluate(self, progress: Progress) -> EpochScores:
        """Score the epoch, of which all updates are done; every process has the answer."""
        started, position = time.perf_counter(), self.position
        for module in (self.classifier, *((self.average.module,) if self.average is not None else ())):
            share_buffers(module)
        judged = _judge(self._valid_logits(progress), self.material.valid.y, self.material.classes)
        # A run that was taken up after the epoch's last update has made none: ask for the rate of that one.
        self.schedule.step_update((position.epoch + 1) * self.updates_per_epoch - 1)
        (came,) = summed(np.array([float(self._signalled.is_set())]), self.accelerator)
        self._any_signalled = came > 0
        seconds = position.seconds + time.perf_counter() - started
        every = [seconds, *(entry["seconds"] for entry in position.history)]
        return EpochScores(
            epoch=position.epoch + 1,
            loss=position.loss / position.seen,
            lr=self._rate(),
            train_accuracy=position.correct / position.seen,
            seconds=seconds,
            seconds_left=(self.recipe.epochs - position.epoch - 1) * sum(every) / len(every),
            pictures_per_s=position.seen / position.seconds,
            **judged,
        )

    def _update(self, parts: Iterator[Item], size: int) -> None:
        """Make one update from the next batch, computed in as many parts as the recipe says."""
        position = self.position
        updates = position.epoch * self.updates_per_epoch + position.step
        self.schedule.step_update(updates)
        process = self.accelerator.process_index
        seed = step_seed(seed=self.seed, epoch=position.epoch, step=position.step, process=process)
        torch.manual_seed(seed)
        own: list[Item] = []
        scores: list[Tensor] = []  # on the device: to read one is to wait for it
        for _ in range(self.recipe.accumulation):
            part = next(parts)
            own.append(part)
            with self.accelerator.accumulate(self.model):
                scores.append(self._backward(part, size, seed))
                if self.accelerator.sync_gradients and self.recipe.clip_norm is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.classifier, step=updates + 1)
        found = torch.stack(scores).double().cpu().numpy()  # (accumulation, 2)
        sums = summed(np.array([*found.sum(0), float(self._signalled.is_set())]), self.accelerator)
        if not math.isfinite(sums[0]):  # all processes know it, and none waits for one that has given up
            lost = next((number for number, (loss, _) in enumerate(found) if not math.isfinite(loss)), None)
            raise self._diverged(float(sums[0]), None if lost is None else own[lost])
        self._any_signalled = sums[2] > 0
        position.loss += float(sums[0])
        position.correct += round(float(sums[1]))
        position.seen += size
        position.step += 1

    def _backward(self, part: Item, size: int, seed: int) -> Tensor:
        """Compute gradients of one part of a batch of `size`; return the sum of its losses and how many are right."""
        own, pictures = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in part)
        targets = self.targets[own]
        x, targets = mix(self._to_input(pictures), targets, self.recipe, seed=seed)
        with self.accelerator.autocast():
            logits = self.model(x)
        loss = loss_sum(logits, self.classifier.shares, targets, self.prior, self.recipe.focal)
        if self.recipe.locality:
            soft = None if self.material.train.soft is None else targets
            loss = loss + locality_sum(logits[UNITS], self.y[own], soft, self.recipe)
        # Processes average their gradients and accelerate divides by the parts: this makes it the mean of the batch.
        self.accelerator.backward(loss * (self.accelerator.num_processes * self.recipe.accumulation / size))
        right = (self.classifier.mixed(logits).argmax(1) == self.y[own]).sum()
        return torch.stack([loss.detach(), right.to(loss.dtype)])

    @torch.inference_mode()
    def _valid_logits(self, progress: Progress) -> NDArray[np.float32]:
        """Return what the weights that would be kept say of the validation part, (n, k)."""
        n, accelerator = len(self.material.valid), self.accelerator
        model = self.judged().eval()
        logits = torch.zeros(n, len(self.material.classes), device=accelerator.device)
        own = np.arange(n)[accelerator.process_index :: accelerator.num_processes]
        jobs = np.array_split(own, max(1, -(-len(own) // self.recipe.batch_size)))
        done = 0
        with memory_errors(self.recipe), float32_as(self.backbone.precision):
            for part in self.feed([Place("valid", int(at)) for at in job] for job in jobs if len(job)):
                at, pictures = (tensor.to(accelerator.device, non_blocking=True) for tensor in part)
                with accelerator.autocast():
                    logits[at] = model.mixed(model(self._to_input(pictures))).float()
                done += len(at)
                progress("validation", done, len(own))
        found: Tensor = accelerator.reduce(logits, "sum") if accelerator.num_processes > 1 else logits
        return found.cpu().numpy()

    def _to_input(self, pictures: Tensor) -> Tensor:
        return self.backbone.transform.to_tensor(pictures, channels_last=True)

    def _rate(self) -> float:
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def _own_parts(self, step: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Cut a batch's places in the epoch into parts, and return this process's."""
        each = self.recipe.accumulation
        first = self.accelerator.process_index * each
        return list(np.array_split(step, self.accelerator.num_processes * each)[first : first + each])

    def _check_parts(self) -> None:
        """Refuse parts without a picture, or with one alone, of which a batch norm cannot take a variance."""
        smallest = len(self.material.train) // self.updates_per_epoch
        parts = self.accelerator.num_processes * self.recipe.accumulation
        if smallest < 2 * parts:
            raise RecipeError(
                f"{len(self.material.train)} examples in {self.updates_per_epoch} batches of {smallest} cannot be cut "
                f"into {parts} parts of at least 2 ({self.accelerator.num_processes} processes, "
                f"accumulation={self.recipe.accumulation})\n  choose a larger batch_size, or fewer parts"
            )

    def _diverged(self, value: float, part: Item | None) -> DivergedError:
        position = self.position
        ids = [] if part is None else [self.material.train.ids[i] for i in part.example.tolist()]
        samples = f"samples of the batch: {listing(ids, limit=len(ids))}" if ids else "in another process's part"
        return DivergedError(
            f"the loss is {value} in epoch {position.epoch + 1}, step {position.step + 1} of {self.updates_per_epoch}, "
            f"at learning rate {self._rate():.3g}\n  {samples}\n"
            f"  take a lower lr, a longer warmup_epochs or a smaller clip_norm, or precision float32"
        )


def _optimizer_of(classifier: Classifier, backbone: TorchBackbone, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the recipe's optimizer; layers learn at their own rates where the network says which layers it has."""
    groups = _parameter_groups(classifier, backbone, recipe)
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            groups, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
        )
    except (ValueError, AssertionError) as error:
        raise RecipeError(f"timm cannot make the optimizer {recipe.optimizer!r}: {error}") from None
    return made


def _parameter_groups(classifier: Classifier, backbone: TorchBackbone, recipe: Recipe) -> list[dict[str, Any]]:
    """Sort parameters by how far and how fast they may move."""
    trunk: Any = backbone.encoder.trunk
    # what the network wants no weight decay on: position embeddings, class tokens
    spared = set(trunk.no_weight_decay()) if hasattr(trunk, "no_weight_decay") else set()
    if recipe.layer_decay is not None and hasattr(trunk, "group_matcher"):
        groups: list[dict[str, Any]] = param_groups_layer_decay(
            trunk,
            weight_decay=recipe.weight_decay,
            no_weight_decay_list=spared,
            weight_decay_exclude_1d=not recipe.decay_norms,
            layer_decay=recipe.layer_decay,
        )
        inside = {id(parameter) for parameter in trunk.parameters()}
        outside = [parameter for parameter in classifier.parameters() if id(parameter) not in inside]
        return [*(group for group in groups if group["params"]), *_by_decay(outside, set(), recipe)]
    if recipe.layer_decay is not None:
        logger.info("%s does not say which layers it has: all learn at one rate, without layer_decay", backbone.name)
    left = {id(parameter) for name, parameter in trunk.named_parameters() if name in spared}
    return _by_decay(list(classifier.parameters()), left, recipe)


def _by_decay(parameters: Sequence[torch.nn.Parameter], spared: set[int], recipe: Recipe) -> list[dict[str, Any]]:
    parameters = [p for p in parameters if p.requires_grad]
    free = [p for p in parameters if (p.ndim <= 1 or id(p) in spared) and not recipe.decay_norms]
    taken = {id(p) for p in free}
    pulled = [p for p in parameters if id(p) not in taken]
    groups = [{"params": free, "weight_decay": 0.0}, {"params": pulled, "weight_decay": recipe.weight_decay}]
    return [group for group in groups if group["params"]]


def _schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe, *, updates_per_epoch: int) -> Scheduler:
    """Make the recipe's schedule; its rates are a function of the number of updates alone: no state to keep.

    A constant rate is steps of factor one: older timm has no schedule of that name, and gives none at all for a name
    that it does not know.
    """
    constant = recipe.schedule == "constant"
    made, _ = create_scheduler_v2(
        optimizer,
        sched="step" if constant else recipe.schedule,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.step_epochs,
        decay_rate=1.0 if constant else recipe.step_factor,
        warmup_lr=recipe.lr / 100,
        warmup_epochs=min(recipe.warmup_epochs, recipe.epochs),  # type: ignore[arg-type]
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    assert isinstance(made, Scheduler)
    return made


def _judge(logits: NDArray[np.float32], y: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Score logits (n, k) against labels (n,); keys as in `EpochScores`."""
    from scipy.special import softmax
    from sklearn.metrics import f1_score, log_loss, recall_score

    guessed = logits.argmax(1)
    there = np.unique(y)
    shares = softmax(logits.astype(np.float64), axis=1)
    recall = recall_score(y, guessed, labels=there, average=None, zero_division=0)
    return {
        "valid_loss": float(log_loss(y, shares, labels=np.arange(len(classes)))),
        "valid_accuracy": float((guessed == y).mean()),
        "valid_macro_f1": float(f1_score(y, guessed, labels=there, average="macro", zero_division=0)),
        "valid_recall": {classes[c]: float(share) for c, share in zip(there, recall, strict=True)},
    }
