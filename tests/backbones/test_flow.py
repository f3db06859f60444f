"""The flow of MA-Net's weights is read off a card beside them, and guessed from nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cer_fusion.backbones import CardError, CheckpointError, OptionError
from cer_fusion.backbones.weights.fit import card_beside, digest, write_card
from cer_fusion.backbones.zoo.manet import flow_beside

STATE = {"fc_1.weight": torch.ones(7, 512)}
DIGEST = digest(STATE)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "rafdb.pth.tar"


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return tmp_path / "card.json"


def test_without_a_card_there_is_no_answer_but_how_to_decide(weights: Path) -> None:
    assert card_beside(weights, STATE) is None
    with pytest.raises(OptionError, match="names and shapes are the same in both") as caught:
        flow_beside(weights, STATE)
    for text in ("April 2023", "more accurate", "rafdb.pth.tar", "flow='legacy'"):
        assert text in str(caught.value)


@pytest.mark.parametrize("flow", ["bidirectional", "legacy"])
def test_the_card_that_fine_tuning_leaves_says_it(flow: str, weights: Path, card: Path) -> None:
    write_card(card, {"options": {"flow": flow}, "weights": {"digest": DIGEST}})
    assert flow_beside(weights, STATE) == flow


def test_a_card_may_be_written_by_hand(weights: Path, card: Path) -> None:
    card.write_text('{"options": {"flow": "legacy"}}')
    assert flow_beside(weights, STATE) == "legacy"


@pytest.mark.parametrize("text", ["{}", '{"options": 3}', '{"options": {}}', '{"options": {"flow": null}}'])
def test_a_card_that_does_not_say_it_is_no_answer(text: str, weights: Path, card: Path) -> None:
    card.write_text(text)
    with pytest.raises(OptionError, match="no answer"):
        flow_beside(weights, STATE)


def test_a_card_of_other_weights_is_refused(weights: Path, card: Path) -> None:
    write_card(card, {"options": {"flow": "legacy"}, "weights": {"digest": "0" * 64}})
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        flow_beside(weights, STATE)


def test_a_card_that_was_changed_after_it_was_sealed_is_refused(weights: Path, card: Path) -> None:
    write_card(card, {"options": {"flow": "legacy"}, "weights": {"digest": DIGEST}})
    card.write_text(card.read_text().replace("legacy", "bidirectional"))
    with pytest.raises(CardError, match="was changed or damaged after it was written"):
        flow_beside(weights, STATE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "no JSON object"),
        ('{"options": {"flow": "both"}}', "the card says flow='both'"),
        ('{"options": {"flow": ["legacy"]}}', "the card says flow="),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(text: str, said: str, weights: Path, card: Path) -> None:
    card.write_text(text)
    with pytest.raises(CheckpointError, match=said):
        flow_beside(weights, STATE)
