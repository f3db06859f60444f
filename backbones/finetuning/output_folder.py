"""The output folder of a run: its state, the best weights so far, the log and the card."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cer_fusion.backbones.errors import ResumeError
from cer_fusion.backbones.finetuning.atomic import make_whole, write_whole
from cer_fusion.backbones.finetuning.card import CARD_FILE, write_card
from cer_fusion.backbones.finetuning.classifier import state_for_loader
from cer_fusion.backbones.finetuning.run import Run
from cer_fusion.backbones.finetuning.scores import EpochScores
from cer_fusion.backbones.finetuning.signals import Held
from cer_fusion.backbones.finetuning.state import STATE_FILE, load_state, save_state
from cer_fusion.backbones.weights import digest
from safetensors.torch import save_file

logger = logging.getLogger(__name__)

WEIGHTS_FILE, LOG_FILE = "weights.safetensors", "log.jsonl"
FILES = (STATE_FILE, WEIGHTS_FILE, CARD_FILE, LOG_FILE)
"""What a run leaves, and one that starts anew removes first."""


class OutputFolder:
    """What stays of a run: its state, the best weights, the log and the card. Only the first process writes."""

    def __init__(self, run: Run, output: Path, identity: dict[str, Any], *, state_every: int, held: Held) -> None:
        self.run, self.output, self.identity = run, output, identity
        self.state_every, self.held = state_every, held
        self.writes = run.accelerator.is_main_process

    def begin(self, *, resume: bool) -> bool:
        """Take up an earlier state, or clear the folder of what an earlier run left; tell whether it was taken up."""
        path = self.output / STATE_FILE
        state = load_state(path, self.identity) if resume else None
        if state is not None:
            self.run.restore(state)
            logger.info("going on after epoch %d, step %d", state.position.epoch, state.position.step)
        elif self.writes:
            self._clear(resume=resume)
            self.save()  # from here on the folder is known to be this run's
        self.run.accelerator.wait_for_everyone()
        return state is not None

    def _clear(self, *, resume: bool) -> None:
        """Make an empty folder of the output; weights that no run left there are removed only when asked to."""
        weights = self.output / WEIGHTS_FILE
        if resume and weights.exists():
            raise ResumeError(
                f"the output folder holds weights, and no state of a run that they could be from: {weights}\n"
                f"  write to another folder, or have them replaced by starting anew (--no-resume --overwrite)"
            )
        self.output.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.output / name).unlink(missing_ok=True)

    def after_step(self) -> None:
        """Write the state if it is time to, and end here if a signal came."""
        if self.held.came or (self.state_every and self.run.position.step % self.state_every == 0):
            self.save()
        if self.held.came:
            raise KeyboardInterrupt

    def keep(self, scores: EpochScores) -> None:
        """Note an epoch's scores, and write its weights if they are the best so far."""
        position = self.run.position
        best = max((entry["valid_macro_f1"] for entry in position.history), default=-1.0)
        position.history.append(asdict(scores))
        if scores.valid_macro_f1 > best:
            state = state_for_loader(self.run.backbone, self.run.judged())
            encoder = self.run.backbone.encoder
            position.best, position.best_digest = scores.epoch, digest(state)
            position.best_identity = digest(state, leave_out=(*encoder.heads, *encoder.foreign_heads))
            if self.writes:
                make_whole(self.output / WEIGHTS_FILE, lambda temporary: save_file(state, temporary))
        patience = self.run.recipe.patience
        position.stopped = bool(patience) and scores.epoch - position.best >= patience

    def after_epoch(self) -> None:
        """Write state, log and card of an epoch that is complete."""
        self.run.position.begin_epoch()
        self.save()
        if self.writes:
            lines = "".join(json.dumps(entry) + "\n" for entry in self.run.position.history)
            write_whole(self.output / LOG_FILE, lines.encode())
            write_card(self.output / CARD_FILE, self.card(finished=False))
        if self.held.came:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Write the state."""
        run = self.run
        if not self.writes:
            return
        parts = {"model": run.classifier.state_dict()}
        if run.average is not None:
            parts["ema"] = run.average.module.state_dict()
        scaler = run.accelerator.scaler.state_dict() if run.accelerator.scaler is not None else None
        save_state(
            self.output / STATE_FILE, parts, run.optimizer.state_dict(),
            scaler=scaler, position=run.position, identity=self.identity,
        )  # fmt: skip

    def finish(self) -> dict[str, Any]:
        """Seal the card, and put away the state, which nothing needs any more."""
        card = self.card(finished=True)
        if self.writes:
            write_card(self.output / CARD_FILE, card)
            (self.output / STATE_FILE).unlink(missing_ok=True)
        self.run.accelerator.wait_for_everyone()
        return card

    def card(self, *, finished: bool) -> dict[str, Any]:
        """Return what the card says."""
        run, position = self.run, self.run.position
        described = run.backbone.describe()
        return {
            **self.identity,
            "finished": finished,
            "stopped_early": position.stopped,
            "transform": run.backbone.transform.identity(),
            "examples": {"train": len(run.material.train), "valid": len(run.material.valid)},
            "left_out": run.material.left_out,
            "started_from": described["weights_source"],
            "versions": described["versions"],
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
