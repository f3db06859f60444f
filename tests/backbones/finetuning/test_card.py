from __future__ import annotations

import json

import pytest
import safetensors.torch

from cer_fusion.backbones import CardError, CheckpointError, create, inspect_checkpoint, load_state, read_card
from cer_fusion.backbones.weights.fit import card_beside


def test_the_card_says_what_was_trained_from_what_and_how_well(tune):
    report = tune()
    card = read_card(report.output / "card.json")
    assert card["finished"]
    assert card["architecture"] == "timm:test_vit"
    assert card["recipe"]["epochs"] == len(card["epochs"]) == 2
    assert card["weights"]["feature_digest"] == report.weights_digest
    loaded = create("timm:test_vit", weights=report.weights, img_size=48)
    assert card["weights"]["feature_digest"] == loaded.spec()["weights"]["digest"]
    assert card["best"]["valid_macro_f1"] == report.best.valid_macro_f1
    assert card["examples"] == {"train": 25, "valid": 9}


def test_the_card_belongs_to_the_weights_that_it_was_written_for(tune):
    report = tune()
    state = load_state(report.weights)
    card = card_beside(report.weights, state)
    assert card is not None
    assert card["best"]["epoch"] == report.best.epoch
    others = {name: tensor + 1 for name, tensor in state.items()}
    safetensors.torch.save_file(others, report.weights)
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        card_beside(report.weights, others)
    assert inspect_checkpoint(report.weights).trained is None


def test_inspecting_fine_tuned_weights_tells_what_the_card_says(tune):
    report = tune()
    info = inspect_checkpoint(report.weights)
    assert info.fits == "timm:test_vit"  # a network that names and shapes alone would not have told
    assert info.trained is not None
    assert (info.trained["recipe"], info.trained["classes"]) == ("default", ["red", "green", "blue"])
    assert info.trained["best"]["valid_macro_f1"] == report.best.valid_macro_f1
    assert info.commands[0].endswith("-O img_size=48")
    assert "img_size=48" in info.advice


def test_a_card_that_was_changed_is_refused(tune):
    path = tune().output / "card.json"
    content = json.loads(path.read_text())
    content["best"]["valid_macro_f1"] = 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(CardError, match="was changed or damaged after it was written"):
        read_card(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json"])
def test_other_files_are_no_cards(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(CardError):
        read_card(tmp_path / "card.json")
    with pytest.raises(CardError, match=r"none\.json is missing"):
        read_card(tmp_path / "none.json")
