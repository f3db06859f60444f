from __future__ import annotations

import json

import pytest

from backbones import CardError, create, read_card


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


def test_a_card_that_was_changed_is_refused(tune):
    path = tune().output / "card.json"
    content = json.loads(path.read_text())
    content["best"]["valid_macro_f1"] = 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(CardError, match="was changed or damaged"):
        read_card(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json"])
def test_other_files_are_no_cards(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(CardError):
        read_card(tmp_path / "card.json")
    with pytest.raises(CardError, match="not a readable card"):
        read_card(tmp_path / "none.json")
