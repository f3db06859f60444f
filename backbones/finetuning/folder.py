"""The output folder of a training: its state, the best weights so far, the log and the card.

The state is everything that the next step depends on, in one safetensors file with its JSON in the header.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...kit.errors import listing
from ...kit.files import whole_file, write_whole
from ...kit.plain import flat
from ..errors import CardError, ResumeError
from ..torch_backbone import TorchBackbone
from ..weights.fit import CARD_FILE, digest, read_card, write_card
from .classifier import state_for_loader
from .material import Material
from .recipe import Recipe
from .training import EpochScores, Position, Training

logger = logging.getLogger(__name__)

STATE_FILE, WEIGHTS_FILE, LOG_FILE = "state.safetensors", "weights.safetensors", "log.jsonl"
PICTURES_FILE = "pictures.txt"
"""sha256 of every picture file that the weights, and those they started from, were trained or chosen on; one a line."""
FILES = (STATE_FILE, WEIGHTS_FILE, CARD_FILE, LOG_FILE, PICTURES_FILE)
"""What a training leaves, and one that starts anew removes first."""
_FORMAT = "cer-fusion finetune state 1"
_START_ANEW = "  start anew without resuming (--no-resume --overwrite)"


class OutputFolder:
    """What stays of a training. Only the first process writes.

    Parameters
    ----------
    training : Training
    output : Path
    identity : dict
        See `identity_of`.
    state_every : int
        Write the state after so many updates; 0: after epochs alone.
    state_minutes : float
        Write it after an epoch where the last one is as old as this.
    seen : Seen
        What the weights know of pictures.
    """

    def __init__(
        self,
        training: Training,
        output: Path,
        identity: dict[str, Any],
        *,
        state_every: int,
        state_minutes: float,
        seen: Seen,
    ) -> None:
        self.training, self.output, self.identity = training, output, identity
        self.state_every, self.state_minutes, self.seen = state_every, state_minutes, seen
        self._saved = time.monotonic()
        self._overwritten = False
        self.writes = training.accelerator.is_main_process

    def begin(self, *, resume: bool) -> bool:
        """Take up an earlier state, or clear the folder of what an earlier one left; tell whether it was taken up."""
        path = self.output / STATE_FILE
        resumed = resume and path.exists()
        if resumed:
            _restore(self.training, path, self.identity)
            position = self.training.position
            logger.info("going on after epoch %d, step %d", position.epoch, position.step)
            self._overwritten = self._weights_are_newer()
        elif self.writes:
            self._clear(resume=resume)
            self.save()  # from here on the folder is known to be this training's
        self.training.accelerator.wait_for_everyone()
        return resumed

    def after_step(self) -> None:
        """Write the state if it is time to, and end here if a signal came to any process."""
        if self.training.interrupted or (self.state_every and self.training.position.step % self.state_every == 0):
            self.save()
        self._end_if_interrupted()

    def keep(self, scores: EpochScores) -> None:
        """Note an epoch's scores, and write its weights if they are the best so far."""
        training, position = self.training, self.training.position
        best = max((entry["valid_macro_f1"] for entry in position.history), default=-1.0)
        if self._overwritten:  # the best weights that the state knew of are gone: this epoch's are the first to keep
            best, self._overwritten = -1.0, False
        position.history.append(asdict(scores))
        if scores.valid_macro_f1 > best:
            state = state_for_loader(training.backbone, training.judged())
            encoder = training.backbone.encoder
            position.best, position.best_digest = scores.epoch, digest(state)
            position.best_identity = digest(state, leave_out=(*encoder.heads, *encoder.foreign_heads))
            if self.writes:
                with whole_file(self.output / WEIGHTS_FILE, overwrite=True) as temporary:
                    save_file(state, temporary)
        patience = training.recipe.patience
        position.stopped = bool(patience) and scores.epoch - position.best >= patience

    def after_epoch(self) -> None:
        """Write log and card of an epoch that is complete, and the state if it is time to."""
        position = self.training.position
        position.begin_epoch()
        goes_on = position.epoch < self.training.recipe.epochs and not position.stopped
        is_time = time.monotonic() - self._saved >= 60 * self.state_minutes
        if self.training.interrupted or (goes_on and is_time):
            self.save()
        if self.writes:
            lines = "".join(json.dumps(entry) + "\n" for entry in self.training.position.history)
            write_whole(self.output / LOG_FILE, lines.encode())
            write_card(self.output / CARD_FILE, self._card(finished=False))
        self._end_if_interrupted()

    def _end_if_interrupted(self) -> None:
        """End all processes together, once the first one has written: a launcher ends those that are left."""
        if self.training.interrupted:
            self.training.accelerator.wait_for_everyone()
            raise KeyboardInterrupt

    def save(self) -> None:
        """Write the state, in one step."""
        if not self.writes:
            return
        training = self.training
        parts = {"model": training.classifier.state_dict()}
        if training.average is not None:
            parts["ema"] = training.average.module.state_dict()
        tensors = {f"{part}.{name}": _plain(value) for part, state in parts.items() for name, value in state.items()}
        numbers: dict[str, dict[str, Any]] = {}
        for index, values in training.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = _plain(value)
                else:
                    numbers.setdefault(str(index), {})[name] = value
        scaler = training.accelerator.scaler
        content = {
            "optimizer": numbers, "scaler": None if scaler is None else scaler.state_dict() or None,
            "position": asdict(training.position), "identity": self.identity, "tensors": digest(tensors),
        }  # fmt: skip
        metadata = {"format": _FORMAT, "run": json.dumps(content, allow_nan=False)}
        with whole_file(self.output / STATE_FILE, overwrite=True) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        self._saved = time.monotonic()

    def _weights_are_newer(self) -> bool:
        """Tell whether an epoch after the state replaced the weights that the state knows as the best.

        Where the same epochs come out the same again, as on a CPU, they are replaced again by the same.
        """
        path, position = self.output / WEIGHTS_FILE, self.training.position
        if not position.best or (path.exists() and digest(load_file(path)) == position.best_digest):
            return False
        logger.info("the weights of epoch %d were replaced after that: choosing anew from here on", position.best)
        return True

    def finish(self) -> dict[str, Any]:
        """Seal the card, and put away the state, which nothing needs any more."""
        card = self._card(finished=True)
        if self.writes:
            write_card(self.output / CARD_FILE, card)
            (self.output / STATE_FILE).unlink(missing_ok=True)
        self.training.accelerator.wait_for_everyone()
        return card

    def _clear(self, *, resume: bool) -> None:
        """Make an empty folder of the output; weights that nobody trained there are removed only when asked to."""
        weights = self.output / WEIGHTS_FILE
        if resume and weights.exists():
            raise ResumeError(
                f"the output folder holds weights, and no state of a run that they could be from: {weights}\n"
                f"  write to another folder, or have them replaced by starting anew (--no-resume --overwrite)"
            )
        self.output.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.output / name).unlink(missing_ok=True)
        write_whole(self.output / PICTURES_FILE, self.seen.text)

    def _card(self, *, finished: bool) -> dict[str, Any]:
        training, position = self.training, self.training.position
        described = training.backbone.describe()
        return {
            **self.identity,
            "finished": finished,
            "stopped_early": position.stopped,
            "transform": training.backbone.transform.identity(),
            "examples": {"train": len(training.material.train), "valid": len(training.material.valid)},
            "left_out": training.material.left_out,
            "pictures": self.seen.to_json(),
            "started_from": described["weights_source"],
            "versions": {**described["versions"], "torchvision": torchvision.__version__},
            "device": described["device"],
            "weights": {
                "file": WEIGHTS_FILE,
                "epoch": position.best,
                "digest": position.best_digest,
                "feature_digest": position.best_identity,
            },
            "best": position.history[position.best - 1],
            "epochs": position.history,
        }


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Pictures that the weights were trained or chosen on, by content, and which of them were to be held out."""

    digests: frozenset[str]
    """sha256 of every one, of this training and of those before."""
    held_out: int
    """How many pictures nothing was to be learnt from."""
    now: tuple[str, ...]
    """Ids of those that this training has."""
    before: tuple[str, ...]
    """Ids of those that only the weights to start from were trained on."""
    start: str
    """The file with those weights; empty where they came from none that says."""

    @classmethod
    def by(cls, material: Material, start: Path | None, held_out: Mapping[str, str]) -> Seen:
        """Compare the pictures of a training, and those behind the weights it starts from, with held-out ones.

        Raises
        ------
        CardError
            If the list beside the weights to start from is not the one that its card speaks of.
        """
        here = {digest for part in material.picture_digests.values() for digest in part}
        earlier = pictures_behind(start)
        return cls(
            digests=frozenset(here | (earlier or set())),
            held_out=len(held_out),
            now=tuple(name for name, found in held_out.items() if found in here),
            before=tuple(name for name, found in held_out.items() if found in (earlier or ()) and found not in here),
            start="" if earlier is None or start is None else start.name,
        )

    @property
    def text(self) -> bytes:
        """The list as it is kept."""
        return "".join(f"{digest}\n" for digest in sorted(self.digests)).encode()

    def to_json(self) -> dict[str, Any]:
        """What the card says."""
        return {
            "file": PICTURES_FILE,
            "count": len(self.digests),
            "sha256": hashlib.sha256(self.text).hexdigest(),
            "held_out": {"pictures": self.held_out, "seen_now": len(self.now), "seen_before": len(self.before)},
        }

    def tell(self) -> None:
        """Say which held-out pictures were seen."""
        if self.now:
            logger.warning(
                "%d of %d held-out pictures are in the training or validation part too: %s; scores on them flatter",
                len(self.now), self.held_out, listing(self.now),
            )  # fmt: skip
        if self.before:
            logger.warning(
                "%d of %d held-out pictures were learnt from in an earlier stage, by the weights in %s: %s; "
                "scores on them flatter",
                len(self.before), self.held_out, self.start, listing(self.before),
            )  # fmt: skip


def pictures_behind(start: Path | None) -> set[str] | None:
    """Digests of the pictures that a weights file was trained on; None where nothing beside it says so."""
    if start is None or not (start.parent / PICTURES_FILE).exists() or not (start.parent / CARD_FILE).exists():
        return None
    card = read_card(start.parent / CARD_FILE)
    if card.get("weights", {}).get("file") != start.name:
        return None
    path = start.parent / PICTURES_FILE
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.get("pictures", {}).get("sha256"):
        raise CardError(
            f"the list of pictures is not the one that the card beside it speaks of: {path}\n"
            f"  take the folder as fine-tuning left it, or remove the list, and nothing is compared"
        )
    return set(data.decode().split())


def finished_card(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the card of a training that is finished and was this one; refuse another one's."""
    path = output / CARD_FILE
    if not path.exists() or not (card := read_card(path))["finished"]:
        return None
    _check_same({key: card.get(key) for key in identity}, identity, path)
    return card


def identity_of(
    backbone: TorchBackbone, material: Material, recipe: Recipe, *, seed: int, processes: int
) -> dict[str, Any]:
    """Return everything that fixes a training's result, ready for JSON; taken before the first step."""
    return {
        "backbone": backbone.name,
        "architecture": backbone.architecture,
        "options": dict(backbone.options),
        "notes": dict(backbone.encoder.notes),
        "initial_weights": backbone.weights_digest(),
        "transform_probe": backbone.transform.probe(),
        "classes": list(material.classes),
        "recipe": recipe.to_json(),
        "data": {"digest": material.digest},
        "precision": backbone.precision,
        "processes": processes,
        "seed": seed,
    }


def _restore(training: Training, path: Path, identity: Mapping[str, Any]) -> None:
    """Go to where an earlier process was.

    Raises
    ------
    ResumeError
        If the file is damaged, or belongs to a training with another recipe, other data or anything else in `identity`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(metadata["run"]) if metadata.get("format") == _FORMAT else None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ResumeError(f"the state cannot be read: {error}\n  in file: {path}\n{_START_ANEW}") from None
    if content is None or content["tensors"] != digest(tensors):
        raise ResumeError(f"the state is damaged, or none of this release's\n  in file: {path}\n{_START_ANEW}")
    _check_same(content["identity"], identity, path)

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}

    training.classifier.load_state_dict(part("model"))
    if training.average is not None:
        training.average.module.load_state_dict(part("ema"))
    moments: dict[int, dict[str, Any]] = {}
    for key, tensor in part("optimizer").items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = tensor
    for index, values in content["optimizer"].items():
        moments.setdefault(int(index), {}).update(values)
    training.optimizer.load_state_dict({**training.optimizer.state_dict(), "state": moments})
    if training.accelerator.scaler is not None and content["scaler"] is not None:
        training.accelerator.scaler.load_state_dict(content["scaler"])
    training.position = Position(**content["position"])


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with, or to take for finished, a training that was another one, with every field that differs."""
    ours, theirs = flat(json.loads(json.dumps(wanted))), flat(found)
    lines = [
        f"  {name}: {theirs.get(name, 'nothing')!r} there, {ours.get(name, 'nothing')!r} now"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    if lines:
        raise ResumeError(
            "the output folder holds another run; they differ in\n" + "\n".join(lines) + f"\n  in file: {path}\n"
            "  write to another folder, or start anew here without resuming (--no-resume --overwrite)"
        )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
