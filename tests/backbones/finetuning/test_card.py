from __future__ import annotations

import hashlib
import json

import pytest
import safetensors.torch

from cer_fusion.backbones import CardError, CheckpointError, create, inspect_checkpoint, load_state, read_card
from cer_fusion.backbones.weights.fit import card_beside
from tests.backbones.finetuning.conftest import examples, face


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


def test_held_out_pictures_that_are_learnt_from_now_or_were_in_an_earlier_stage_are_told(tune, caplog):
    def sha(label, number):
        return hashlib.sha256(face(label, number)).hexdigest()

    first = tune(output="first", held_out={"kept": sha(0, 999)})
    assert "held-out" not in caplog.text
    started = create("timm:test_vit", weights=first.weights, img_size=48)
    held_out = {"t1": sha(0, 0), "t2": sha(1, 301), "t3": sha(2, 502)}
    second = tune(started, examples(25, first=300), examples(9, first=400), output="second", held_out=held_out)
    assert "1 of 3 held-out pictures are in the training or validation part too: t2" in caplog.text
    assert "1 of 3 held-out pictures were learnt from in an earlier stage" in caplog.text
    assert "weights.safetensors: t1" in caplog.text
    card = read_card(second.output / "card.json")
    assert card["pictures"]["held_out"] == {"pictures": 3, "seen_now": 1, "seen_before": 1}
    assert card["pictures"]["count"] == 68  # of both stages, so that a third one knows them all
    assert len((second.output / "pictures.txt").read_text().split()) == 68
    assert second.resumed is False
    (first.output / "pictures.txt").write_text("0" * 64 + "\n")
    with pytest.raises(CardError, match="not the one that the card beside it speaks of"):
        tune(create("timm:test_vit", weights=first.weights, img_size=48), output="third", held_out=held_out)
