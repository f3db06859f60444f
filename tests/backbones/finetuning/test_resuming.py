from __future__ import annotations

import logging
import os
import signal

import pytest
import safetensors.torch
import torch

from cer_fusion.backbones import ResumeError, load_state, read_card
from cer_fusion.backbones.finetuning.folder import STATE_FILE, OutputFolder
from cer_fusion.backbones.weights.fit import digest
from cer_fusion.kit.plain import flat
from tests.backbones.finetuning.conftest import TINY, network

HARD = TINY.changed({"mixup": 0.3, "cutmix": 0.5, "randaugment": 1, "epochs": 2})


class Killed(BaseException):
    """Stands for a kill: nothing in the package handles it."""


def kill_at(stage: str, done: int):
    def progress(now: str, count: int, total: int) -> None:
        if now == stage and count >= done:
            raise Killed

    return progress


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage", "done", "every"),
    [
        ("timm:test_vit", "epoch 1", 13, 1),
        ("timm:test_vit", "epoch 2", 7, 0),
        ("timm:test_vit", "validation", 1, 1),
        ("timm:test_resnet", "epoch 2", 19, 2),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(tune, kind, stage, done, every):
    whole = tune(network(kind), recipe=HARD, output="whole")
    with pytest.raises(Killed):
        tune(network(kind), recipe=HARD, state_every=every, progress=kill_at(stage, done))
    report = tune(network(kind), recipe=HARD, state_every=every)
    assert report.weights_digest == whole.weights_digest
    expected, found = load_state(whole.weights), load_state(report.weights)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    timeless = [(e.loss, e.train_accuracy, e.valid_loss, e.valid_macro_f1, e.lr) for e in report.epochs]
    assert timeless == [(e.loss, e.train_accuracy, e.valid_loss, e.valid_macro_f1, e.lr) for e in whole.epochs]


@pytest.mark.slow
def test_dropout_is_the_same_after_a_kill(tune):
    def with_dropout():
        made = network()
        for module in made.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        return made

    whole = tune(with_dropout(), recipe=HARD, output="whole")
    assert tune(network(), recipe=HARD, output="plain").weights_digest != whole.weights_digest
    with pytest.raises(Killed):
        tune(with_dropout(), recipe=HARD, state_every=1, progress=kill_at("epoch 2", 10))
    assert tune(with_dropout(), recipe=HARD, state_every=1).weights_digest == whole.weights_digest


@pytest.mark.slow
def test_a_signal_keeps_the_state_of_the_step_it_came_in(tune, tmp_path, caplog):
    def signalled(stage: str, done: int, total: int) -> None:
        if stage == "epoch 1" and done >= 7:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = tune(recipe=HARD, output="whole")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe=HARD, progress=signalled)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "out" / STATE_FILE).exists()
    with caplog.at_level(logging.INFO):
        report = tune(recipe=HARD)
    assert "going on after epoch 0, step 1" in caplog.text
    assert report.resumed
    assert report.weights_digest == whole.weights_digest


def test_a_finished_run_is_not_run_again(tune):
    first = tune()
    again = tune(progress=kill_at("epoch 1", 0))
    assert again.resumed
    assert (again.weights_digest, again.epochs) == (first.weights_digest, first.epochs)


def test_a_state_of_another_run_is_refused_naming_the_field(tune):
    with pytest.raises(Killed):
        tune(recipe=HARD, progress=kill_at("epoch 2", 8))
    with pytest.raises(ResumeError, match=r"seed: 0 there, 1 now"):
        tune(recipe=HARD, seed=1)
    with pytest.raises(ResumeError, match=r"initial_weights"):
        tune(network(seed=3), recipe=HARD)
    assert not tune(recipe=HARD, resume=False).resumed


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_state_is_refused(tune, tmp_path, damage):
    with pytest.raises(Killed):
        tune(recipe=HARD, progress=kill_at("epoch 2", 8))
    path = tmp_path / "out" / STATE_FILE
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data[:-100] if damage == "cut" else data)
    with pytest.raises(ResumeError, match="--no-resume"):
        tune(recipe=HARD)


def test_weights_that_no_run_left_there_are_not_replaced_unasked(tune, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights.safetensors").write_bytes(b"precious")
    with pytest.raises(ResumeError, match="holds weights"):
        tune()
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == b"precious"
    assert tune(resume=False).best.epoch


def test_a_run_killed_before_its_first_state_begins_again(tune):
    with pytest.raises(Killed):
        tune(recipe=HARD, progress=kill_at("validation", 1))
    assert len(tune(recipe=HARD).epochs) == 2


def test_nested_fields_are_named_with_dots():
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}


@pytest.mark.parametrize(("minutes", "written"), [(10.0, 1), (0.0, 3)])
def test_the_state_is_written_as_often_as_asked_and_not_after_the_last_epoch(tune, monkeypatch, minutes, written):
    saved = []
    save = OutputFolder.save
    monkeypatch.setattr(
        OutputFolder, "save", lambda folder: (saved.append(folder.training.position.epoch), save(folder))
    )
    tune(recipe=TINY.changed({"epochs": 3}), state_minutes=minutes)
    assert saved == [0, 1, 2][:written]


def test_weights_of_a_later_epoch_than_the_states_are_come_to_again(tune, tmp_path, caplog):
    recipe = TINY.changed({"epochs": 5, "lr": 5e-3})
    whole = tune(network("timm:test_resnet"), recipe=recipe, output="whole")
    assert whole.best.epoch > 1
    with pytest.raises(Killed):  # with the state of epoch 0, and weights of whichever were the best by then
        tune(network("timm:test_resnet"), recipe=recipe, progress=kill_at("epoch 5", 1))
    assert tune(network("timm:test_resnet"), recipe=recipe).weights_digest == whole.weights_digest


def test_best_weights_that_were_replaced_since_the_state_are_not_what_the_card_names(tune, tmp_path, caplog):
    recipe = TINY.changed({"epochs": 3, "lr": 1e-9})  # the first epoch stays the best
    with pytest.raises(Killed):
        tune(recipe=recipe, state_minutes=0, progress=kill_at("epoch 3", 1))
    weights = tmp_path / "out" / "weights.safetensors"
    others = {name: tensor + 1 for name, tensor in load_state(weights).items()}
    safetensors.torch.save_file(others, weights)
    with caplog.at_level(logging.INFO):
        report = tune(recipe=recipe)
    assert "the weights of epoch 1 were replaced after that" in caplog.text
    assert report.best.epoch == 3
    card = read_card(tmp_path / "out" / "card.json")
    assert card["weights"]["digest"] == digest(load_state(weights))
