from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones import (
    DivergedError,
    ExamplesError,
    MissingExtraError,
    OptionError,
    RecipeError,
    ResumeError,
    TooManyErrors,
    load_state,
)  # fmt: skip
from cer_fusion.backbones.backbone import DeviceMemoryError
from cer_fusion.backbones.finetuning import training as training_module
from tests.backbones.finetuning.conftest import CLASSES, TINY, examples, face, network


def test_a_network_learns_and_the_weights_that_are_kept_load_by_name(tune, tmp_path):
    used = network("timm:test_resnet")
    report = tune(used, examples(60), recipe=TINY.changed({"epochs": 6, "ema": 0.0, "lr": 5e-3}))
    assert report.best.valid_accuracy > 0.6
    assert report.epochs[-1].loss < report.epochs[0].loss
    fresh = backbones.create("timm:test_resnet", weights=report.weights, img_size=32)
    assert fresh.weights_digest() == report.weights_digest == used.weights_digest()
    pictures = np.stack([fresh.decode(face(0, 7))])
    np.testing.assert_array_equal(fresh.embed(pictures)["pooled"], used.embed(pictures)["pooled"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in report.output.iterdir()) == [
        "card.json", "log.jsonl", "pictures.txt", "weights.safetensors",
    ]  # fmt: skip
    assert lines[-1]["seconds_left"] == 0 < lines[0]["seconds_left"]


def test_the_head_is_in_the_file_under_the_name_that_timm_gives_it(tune):
    import timm

    report = tune()
    state = load_state(report.weights)
    whole = timm.create_model("test_vit", num_classes=3, img_size=48)
    whole.load_state_dict(state)
    assert state["head.weight"].shape == (3, 64)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tune):
    digests = [tune(output=name, seed=seed).weights_digest for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert digests[0] == digests[1] != digests[2]


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been(tune):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(1), np.random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    tune(recipe=TINY.changed({"mixup": 0.4, "cutmix": 1.0}))
    assert (torch.rand(1), np.random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "momentum", "schedule": "step", "step_epochs": 1, "decay_norms": True},
        {"layer_decay": 0.7, "clip_norm": None, "schedule": "constant", "ema": 0.0},
        {"sampling": "balanced", "mixup": 0.2, "batch_size": 5},
        {"logit_adjustment": 1.0, "accumulation": 2, "cutmix": 1.0, "randaugment": 2},
    ],
)
def test_every_switch_of_a_recipe_trains(tune, changes):
    report = tune(recipe=TINY.changed(changes))
    assert len(report.epochs) == 2
    assert np.isfinite(report.best.loss)


def test_accumulated_parts_give_the_gradients_of_the_whole_batch(tune):
    recipe = TINY.changed({"epochs": 1, "batch_size": 12, "optimizer": "sgd", "lr": 0.1, "ema": 0.0})
    whole = load_state(tune(recipe=recipe, output="whole").weights)
    parts = load_state(tune(recipe=recipe.changed({"accumulation": 3}), output="parts").weights)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_step_schedule_drops_the_rate_and_layers_learn_at_their_own(tune):
    recipe = TINY.changed({"epochs": 3, "schedule": "step", "step_epochs": 1, "warmup_epochs": 0, "lr": 0.01})
    assert [epoch.lr for epoch in tune(recipe=recipe).epochs] == pytest.approx([0.01, 0.001, 0.0001])


def test_patience_ends_a_run(tune):
    report = tune(recipe=TINY.changed({"epochs": 9, "lr": 1e-9, "patience": 2}))
    assert report.stopped_early
    assert len(report.epochs) == report.best.epoch + 2


def test_soft_labels_are_learnt_instead_of_the_hard_ones(tune):
    wrong = np.eye(3, dtype=np.float32)[(np.arange(60) + 1) % 3]
    recipe = TINY.changed({"epochs": 5, "ema": 0.0, "lr": 5e-3})
    report = tune(network("timm:test_resnet"), examples(60, soft=wrong), recipe=recipe)
    assert report.best.train_accuracy < 0.3


def test_pixels_that_do_not_fit_into_memory_are_decoded_again_to_the_same_result(tune):
    kept = tune(output="kept")
    assert tune(output="read", memory=48 * 48 * 3 * 12).weights_digest == kept.weights_digest


def test_unusable_pictures_are_left_out_aloud_or_stop_the_run(tune, caplog):
    bad = {3: b"no picture", 5: face(2, 5)[:200]}
    report = tune(train=examples(25, contents=bad))
    assert set(report.left_out) == {"s0003", "s0005"}
    assert "2 of 34 pictures cannot be used and are left out" in caplog.text
    with pytest.raises(TooManyErrors, match="s0003: not a JPEG"):
        tune(train=examples(25, contents=bad), max_errors=0, output="other")


def test_a_class_whose_pictures_are_all_unusable_is_named(tune):
    y = np.array([0, 1] * 12 + [2], dtype=np.int64)
    with pytest.raises(ExamplesError, match="no training example: blue"):
        tune(train=examples(25, y=y, contents={24: b""}))


def test_validation_pictures_that_are_in_the_training_part_are_told(tune, caplog):
    tune(valid=examples(3, first=100, contents={0: face(0, 0)}))
    assert "1 validation pictures are in the training part too: s0100 = s0000" in caplog.text


def test_a_loss_that_is_no_number_names_samples_step_and_rate(tune):
    with pytest.raises(DivergedError, match=r"(?s)loss is (nan|inf).*epoch 1, step.*learning rate.*s00\d\d.*lower lr"):
        tune(recipe=TINY.changed({"optimizer": "sgd", "lr": 100.0, "clip_norm": None, "warmup_epochs": 0, "epochs": 9}))


def test_too_little_memory_says_what_to_change(tune, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(training_module, "loss_sum", full)
    with pytest.raises(DeviceMemoryError, match=r"(?s)batch_size=8.*accumulation=2"):
        tune()


def test_what_cannot_be_trained_is_refused(tune, tiny_onnx, tmp_path):
    from tests.backbones.conftest import RECIPE

    with pytest.raises(OptionError, match="cannot be trained"):
        tune(backbones.create(f"onnx:{tiny_onnx}", **RECIPE))
    flipped = network()
    flipped.take_views("flip")
    with pytest.raises(OptionError, match="takes the views 'flip'"):
        tune(flipped)
    with pytest.raises(OptionError, match="needs a CUDA device"):
        tune(network(precision="float16"))
    with pytest.raises(RecipeError, match="optimizer 'adamm'"):
        tune(recipe=TINY.changed({"optimizer": "adamm"}))
    with pytest.raises(RecipeError, match="cannot be cut into 8 parts"):
        tune(recipe=TINY.changed({"accumulation": 8}))
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_training_in_bfloat16_keeps_float32_weights(tune):
    report = tune(network(precision="bfloat16"))
    assert {tensor.dtype for tensor in load_state(report.weights).values()} == {torch.float32}


def test_tensorboard_is_asked_for_only_where_it_is_installed(tune, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        tune(tensorboard=True)


def test_another_run_in_the_folder_is_refused_by_the_field_that_differs(tune):
    tune()
    with pytest.raises(ResumeError, match=r"recipe\.lr: 0\.002 there, 0\.01 now"):
        tune(recipe=TINY.changed({"lr": 0.01}))
    with pytest.raises(ResumeError, match=r"data\.digest"):
        tune(train=examples(26))
    with pytest.raises(ResumeError, match="classes"):
        tune(classes=("r", "g", "b"))
    assert not tune(recipe=TINY.changed({"lr": 0.01}), resume=False).resumed


def test_classes_are_in_the_card_in_order(tune):
    card = backbones.read_card(tune().output / "card.json")
    assert card["classes"] == list(CLASSES)


def test_trackers_are_told_the_recipe_and_every_epoch(tune, monkeypatch, tmp_path):
    from tests.kit.test_tracking import Fake

    library = Fake("wandb")
    monkeypatch.setitem(__import__("sys").modules, "wandb", library)
    report = tune(track=("wandb",))
    assert [kind for kind, _ in library.calls] == ["init", "config", "log", "log", "finish"]
    assert library.calls[0][1] == {"project": "cer-fusion", "name": "out"}
    assert (library.calls[1][1]["recipe.epochs"], library.calls[1][1]["classes"]) == (2, 3)
    assert str(tmp_path) not in repr(library.calls)
    told = [values for kind, (values, *_) in library.calls[2:4] for _ in [kind]]
    assert [one["valid_macro_f1"] for one in told] == [epoch.valid_macro_f1 for epoch in report.epochs]
    library.calls.clear()
    tune(track=("wandb",))  # finished already: nothing to tell
    assert library.calls == []


def test_a_tracker_that_fails_meanwhile_costs_no_training(tune, monkeypatch, caplog):
    from tests.kit.test_tracking import Fake

    monkeypatch.setitem(__import__("sys").modules, "wandb", Fake("wandb", "log"))
    assert len(tune(track=("wandb",)).epochs) == 2
    assert "the tracker wandb is left out from here on" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_s_curves_are_beside_the_weights(tune, tmp_path):
    from tests.kit.test_tracking import has, scalars

    if not has("tensorboard"):
        pytest.skip("tensorboard is not installed")
    report = tune(tensorboard=True)
    found = scalars(tmp_path / "out" / "tensorboard")
    assert found["valid_loss"] == [(one.epoch, pytest.approx(one.valid_loss, abs=1e-5)) for one in report.epochs]
    assert set(found) == {"loss", "lr", "train_accuracy", "valid_loss", "valid_accuracy", "valid_macro_f1"}
