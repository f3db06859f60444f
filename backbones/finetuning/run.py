"""One run: the networks and their optimizer, one update after another, and the validation after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from cer_fusion.backbones.device_memory import DeviceMemoryError, is_short_of_memory
from cer_fusion.backbones.errors import DivergedError, RecipeError, listed
from cer_fusion.backbones.finetuning.augmentation import DRAWS, augment
from cer_fusion.backbones.finetuning.classifier import Classifier, classifier_of
from cer_fusion.backbones.finetuning.material import Material, Progress
from cer_fusion.backbones.finetuning.optimization import average_of, optimizer_of, schedule_of
from cer_fusion.backbones.finetuning.prefetching import loaded_ahead
from cer_fusion.backbones.finetuning.randaugment import DRAWS_EACH, randaugment
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.finetuning.sampling import batches, draws, epoch_order, step_seed
from cer_fusion.backbones.finetuning.scores import EpochScores, judge
from cer_fusion.backbones.finetuning.state import Position, State
from cer_fusion.backbones.finetuning.targets import log_prior, loss_sum, mix, targets_of
from cer_fusion.backbones.torch_backbone import TorchBackbone
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one forward and backward pass needs."""

    examples: NDArray[np.intp]
    """Which examples, shape (b,)."""
    pictures: NDArray[np.uint8]
    """Their pictures, shape (b, h, w, 3)."""
    numbers: NDArray[np.float32]
    """Their random numbers for `augment`, shape (b, 15)."""


class Run:
    """The networks and their optimizer at one position of a run; see `Position`."""

    def __init__(
        self, backbone: TorchBackbone, material: Material, recipe: Recipe, accelerator: Accelerator, *, seed: int
    ) -> None:
        self.backbone, self.material, self.recipe, self.accelerator = backbone, material, recipe, accelerator
        self.seed = seed
        self.position = Position()
        k = len(material.classes)
        self.updates_per_epoch = len(batches(np.arange(len(material.train)), recipe.batch_size))
        self._check_parts()
        device = accelerator.device
        self.classifier: Classifier = classifier_of(backbone, k, seed=seed).to(device)
        self.average = average_of(self.classifier, recipe)
        optimizer = optimizer_of(self.classifier, backbone, recipe)
        self.schedule = schedule_of(optimizer, recipe, updates_per_epoch=self.updates_per_epoch)
        self.model, self.optimizer = accelerator.prepare(self.classifier, optimizer)
        self.targets = torch.from_numpy(targets_of(material.train, k, recipe)).to(device)
        self.prior = torch.from_numpy(log_prior(material.train.y, k, recipe)).to(device)

    def restore(self, state: State) -> None:
        """Go to where an earlier process was."""
        self.classifier.load_state_dict(state.part("model"))
        if self.average is not None:
            self.average.module.load_state_dict(state.part("ema"))
        self.optimizer.load_state_dict(state.optimizer(self.optimizer.state_dict()))
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.position = state.position

    def judged(self) -> Classifier:
        """Return the weights that are judged and kept: the averaged ones, where there are any."""
        return self.classifier if self.average is None else self.average.module

    def train_epoch(self, after_step: Callable[[], None], progress: Progress) -> None:
        """Train from the position to the end of its epoch."""
        recipe, position = self.recipe, self.position
        order = epoch_order(self.material.train.y, seed=self.seed, epoch=position.epoch, sampling=recipe.sampling)
        steps = batches(np.arange(len(order)), recipe.batch_size)[position.step :]
        jobs = [(part, order[part]) for step in steps for part in self._own_parts(step)]
        parts = loaded_ahead(jobs, lambda job: self._load(*job))
        self.model.train()
        start = time.perf_counter() - position.seconds
        for step in steps:
            with _memory_errors(recipe):
                self._update(parts, len(step))
            position.seconds = time.perf_counter() - start
            progress(f"epoch {position.epoch + 1}", position.seen, len(order))
            after_step()

    def _update(self, parts: Iterator[Part], size: int) -> None:
        """Make one update from the next batch, computed in as many parts as the recipe says."""
        position = self.position
        updates = position.epoch * self.updates_per_epoch + position.step
        self.schedule.step_update(updates)
        process = self.accelerator.process_index
        seed = step_seed(seed=self.seed, epoch=position.epoch, step=position.step, process=process)
        torch.manual_seed(seed)
        sums = np.zeros(2)
        for _ in range(self.recipe.accumulation):
            part = next(parts)
            with self.accelerator.accumulate(self.model):
                sums += self._backward(part, size, seed)
                if self.accelerator.sync_gradients and self.recipe.clip_norm is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.classifier, step=updates + 1)
        if self.accelerator.num_processes > 1:
            both = torch.tensor(sums, dtype=torch.float32, device=self.accelerator.device)
            sums = self.accelerator.reduce(both, "sum").cpu().numpy()
        position.loss += float(sums[0])
        position.correct += round(float(sums[1]))
        position.seen += size
        position.step += 1

    def _backward(self, part: Part, size: int, seed: int) -> tuple[float, int]:
        """Compute gradients of one part of a batch of `size`; return its sum of losses and how many were right."""
        device = self.accelerator.device
        pictures = augment(
            torch.from_numpy(part.pictures).to(device), torch.from_numpy(part.numbers).to(device), self.recipe
        )
        targets = self.targets[torch.from_numpy(part.examples).to(device)]
        x, targets = mix(self._to_input(pictures), targets, self.recipe, seed=seed)
        with self.accelerator.autocast():
            logits = self.model(x)
        loss = loss_sum(logits, self.classifier.shares, targets, self.prior)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(value, part)
        # Processes average their gradients and accelerate divides by the parts: this makes it the mean of the batch.
        self.accelerator.backward(loss * (self.accelerator.num_processes * self.recipe.accumulation / size))
        y = torch.from_numpy(self.material.train.y[part.examples]).to(device)
        return value, int((self.classifier.mixed(logits).argmax(1) == y).sum())

    @torch.inference_mode()
    def evaluate(self, progress: Progress) -> dict[str, Any]:
        """Score the weights that would be kept on the validation part; every process has the answer."""
        valid = self.material.valid
        model = self.judged().eval()
        device, every = self.accelerator.device, np.arange(len(valid))
        logits = torch.zeros(len(valid), len(self.material.classes), device=device)
        own = every[self.accelerator.process_index :: self.accelerator.num_processes]
        jobs = np.array_split(own, max(1, -(-len(own) // self.recipe.batch_size)))
        done = 0
        with _memory_errors(self.recipe):
            for part, pictures in loaded_ahead(jobs, lambda part: (part, self.material.valid_pictures(part))):
                x = self._to_input(torch.from_numpy(pictures).to(device))
                with self.accelerator.autocast():
                    logits[torch.from_numpy(part).to(device)] = model.mixed(model(x)).float()
                done += len(part)
                progress("validation", done, len(own))
        found = self.accelerator.reduce(logits, "sum") if self.accelerator.num_processes > 1 else logits
        return judge(found.cpu().numpy(), valid.y, self.material.classes)

    def scores(self, judged: dict[str, Any], started: float) -> EpochScores:
        """Put an epoch's numbers together; `started` is when its validation began (`time.perf_counter`)."""
        position = self.position
        # A run that was taken up after the epoch's last update has made none: ask for the rate of that one.
        self.schedule.step_update((position.epoch + 1) * self.updates_per_epoch - 1)
        return EpochScores(
            epoch=position.epoch + 1,
            loss=position.loss / position.seen,
            lr=max(float(group["lr"]) for group in self.optimizer.param_groups),
            train_accuracy=position.correct / position.seen,
            seconds=position.seconds + time.perf_counter() - started,
            pictures_per_s=position.seen / position.seconds,
            **judged,
        )

    def _to_input(self, pictures: Tensor) -> Tensor:
        return self.backbone.transform.to_tensor(pictures, channels_last=True)

    def _load(self, places: NDArray[np.intp], examples: NDArray[np.intp]) -> Part:
        operations = self.recipe.randaugment
        numbers = draws(places.tolist(), DRAWS + DRAWS_EACH * operations, seed=self.seed, epoch=self.position.epoch)
        pictures = randaugment(
            self.material.train_pictures(examples), numbers[:, DRAWS:],
            operations=operations, magnitude=self.recipe.randaugment_magnitude,
        )  # fmt: skip
        return Part(examples=examples, pictures=pictures, numbers=numbers[:, :DRAWS])

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

    def _diverged(self, value: float, part: Part) -> DivergedError:
        position = self.position
        ids = [self.material.train.ids[i] for i in part.examples]
        rate = max(float(group["lr"]) for group in self.optimizer.param_groups)
        return DivergedError(
            f"the loss is {value} in epoch {position.epoch + 1}, step {position.step + 1} of {self.updates_per_epoch}, "
            f"at learning rate {rate:.3g}\n  samples of the batch: {listed(ids, count=len(ids))}\n"
            f"  take a lower lr, a longer warmup_epochs or a smaller clip_norm, or precision float32"
        )


@contextmanager
def _memory_errors(recipe: Recipe) -> Iterator[None]:
    """Say what to do when a device's memory is short."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"out of memory with batch_size={recipe.batch_size} in {recipe.accumulation} parts: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
            f"  compute each batch in more parts, which changes little: accumulation={recipe.accumulation * 2}\n"
            f"  or take a smaller batch_size, a smaller input, or precision bfloat16"
        ) from error
