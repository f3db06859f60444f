"""A head on every subset of the blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from cer_fusion.fusion import Diagnosis, Rows, cross_compare, diagnose, make_head
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis import answer_subsets, left_out, shapley
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.page.diagnosis import diagnosis_tables, draw_diagnosis
from cer_fusion.fusion.page.figures import save_figure
from cer_fusion.kit.table import render
from tests.fusion.judging.test_comparison import CLASSES, rows
from tests.fusion.page.test_figures import is_drawn


def with_noise(given: Rows, seed: int) -> Rows:
    noise = np.random.default_rng(seed).normal(size=(given.n, 2)).astype(np.float32)
    return replace(given, blocks={**given.blocks, "noise": noise})


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    train, test = with_noise(rows(90, 0), 0), with_noise(rows(60, 1), 1)
    return diagnose(train, test, head=GaussianNB(), resamples=200, most=5)


def test_every_subset_is_worth_what_fitting_it_by_hand_gives(found):
    train, test = with_noise(rows(90, 0), 0), with_noise(rows(60, 1), 1)
    assert len(found.subsets) == 16
    for subset in found.subsets[1:]:
        head = GaussianNB().fit(train.only(subset.members).x(), train.y)
        by_hand = scores(test.y, head.predict(test.only(subset.members).x()), CLASSES)
        assert (subset.macro_f1, subset.accuracy) == (by_hand.macro_f1, by_hand.accuracy)
    assert found.subsets[0].members == ()
    assert found.subsets[0].accuracy == np.mean(test.y == np.bincount(train.y).argmax())


def test_contributions_sum_to_what_all_blocks_bring_and_noise_brings_little(found):
    gain = found.whole.macro_f1 - found.subsets[0].macro_f1
    assert sum(one.shapley_macro_f1 for one in found.contributions) == pytest.approx(gain)
    fall = found.subsets[0].log_loss - found.whole.log_loss
    assert sum(one.shapley_log_loss for one in found.contributions) == pytest.approx(fall)
    by_name = {one.name: one for one in found.contributions}
    assert max(by_name.values(), key=lambda one: one.shapley_macro_f1).name != "noise"
    assert abs(by_name["noise"].shapley_macro_f1) < 0.1
    for one in found.contributions:
        assert one.shapley_interval.low < one.shapley_interval.high
        assert one.shapley_macro_f1 in one.shapley_interval


def test_backbones_are_compared_by_what_they_answer_alone(found):
    assert found.agreement.names == ("vit", "manet", "noise")
    manet = next(one for one in found.subsets if one.members == ("manet.local", "manet.multi_scale"))
    assert found.agreement.accuracy[1] == pytest.approx(manet.accuracy)
    assert found.agreement.oracle >= max(found.agreement.accuracy)


def test_out_of_fold_answers_are_those_of_cross_validation():
    given = rows(60, 0)
    cross = cross_compare({"head": GaussianNB()}, given, folds=3, singles=False, resamples=20, seed=7)
    found = diagnose(given, head=GaussianNB(), folds=3, resamples=20, seed=7)
    assert found.folds == 3
    assert found.whole.macro_f1 == pytest.approx(cross.columns[0].scores.macro_f1)
    assert any("each by a head of 3 folds" in note for note in found.notes)


def test_whole_features_can_be_the_players():
    found = diagnose(rows(60, 0), rows(40, 1), head=GaussianNB(), players="features", resamples=20)
    assert found.players == {"vit": ("vit",), "manet": ("manet.local", "manet.multi_scale")}
    assert [one.name for one in found.contributions] == ["vit", "manet"]
    assert found.similarity.names == ("vit", "manet.local", "manet.multi_scale")


def test_one_backbone_has_no_one_to_agree_with_and_heads_are_told_their_blocks():
    train, test = (given.only(["manet.local", "manet.multi_scale"]) for given in (rows(60, 0), rows(40, 1)))
    found = diagnose(train, test, head=make_head("late", member="linear"), resamples=20)
    assert found.agreement is None
    assert found.head == "LateHead"
    assert not any("Single backbones" in table.title for table in diagnosis_tables(found))


def test_near_duplicates_of_training_rows_are_taken_out_of_the_score():
    train, test = rows(60, 0), rows(40, 1)
    blocks = {name: block.copy() for name, block in test.blocks.items()}
    for name in blocks:
        blocks[name][:8] = train.blocks[name][:8]
    found = diagnose(train, replace(test, blocks=blocks), head=GaussianNB(), threshold=0.999, resamples=20)
    assert (found.near.samples, found.near.found) == (8, 8)
    by_hand = GaussianNB().fit(train.x(), train.y).predict(test.x()[8:])
    assert found.clean_accuracy == pytest.approx(np.mean(by_hand == test.y[8:]))
    everything = diagnose(train, test, head=GaussianNB(), threshold=-1, resamples=20)
    assert everything.clean_accuracy is None


def test_a_diagnosis_survives_its_file_and_a_changed_one_is_refused(found, tmp_path):
    path = found.save(tmp_path / "diagnosis.json")
    assert Diagnosis.load(path) == found
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ReportError, match="was changed or damaged after it was written"):
        Diagnosis.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "unknown keys: 'extra'"),
        ({"n": "60"}, r"the diagnosis\.n must be of type int, however: '60'"),
        ({"seed": True}, r"the diagnosis\.seed must be of type int"),
        ({"subsets": [{}]}, r"the diagnosis\.subsets\[0\] lacks the keys: 'accuracy'"),
        ({"players": {"vit": "vit"}}, r"the diagnosis\.players\.vit must be of type list"),
        ({"level": float("inf")}, r"the diagnosis\.level must be a finite number, however: inf"),
        ({"agreement": 3}, r"the diagnosis\.agreement must be of type dict"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_and_named(found, change, message):
    with pytest.raises(ReportError, match=message):
        Diagnosis.from_dict(found.to_dict() | change)


@pytest.mark.parametrize("format", ["markdown", "latex", "csv", "json"])
def test_every_question_has_a_table_in_every_format(found, format):
    tables = diagnosis_tables(found)
    titles = " ".join(table.title for table in tables)
    for word in (
        "What each block brings",
        "Subsets",
        "two by two",
        "CKA",
        "Calibration",
        "confused",
        "Hardest",
        "Near",
    ):
        assert word in titles
    for table in tables:
        assert all(len(row) == len(table.header) for row in table.rows)
        text = render(table, format)
        if format == "json":
            assert json.loads(text)["title"] == table.title


def test_a_diagnosis_is_drawn(found, tmp_path):
    figure = draw_diagnosis(found)
    path = save_figure(figure, tmp_path / "diagnosis.png", dpi=80)
    assert is_drawn(path, tuple(int(80 * inches) for inches in figure.get_size_inches()))
    assert {text.get_text() for text in figure.axes[0].get_yticklabels()} == set(found.players)


def test_subsets_are_found_by_name():
    found = answer_subsets(GaussianNB(), {"a": ("vit",), "b": ("manet.local",)}, rows(30, 0), rows(9, 1))
    assert found.number(["b"]) == 2
    assert found.members(3) == ("a", "b")
    with pytest.raises(ReportError, match="no block or feature 'c'"):
        found.number(["c"])


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        (9, {}, "of 1 to 8 blocks can all be tried, however: 9"),
        (2, {"players": "rows"}, "players must be 'blocks' or 'features'"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(blocks, options, message):
    given = {f"f.b{i}": np.random.default_rng(i).normal(size=(30, 2)).astype(np.float32) for i in range(blocks)}
    many = Rows(blocks=given, y=np.arange(30) % 3, classes=CLASSES)
    with pytest.raises(ReportError, match=message):
        diagnose(many, head=GaussianNB(), folds=2, **options)


def test_a_failing_head_names_its_subset():
    with pytest.raises(ValueError, match="must be a float") as caught:
        diagnose(rows(60, 0), rows(30, 1), head=LogisticRegression(C=-1))
    assert caught.value.__notes__ == ["in column: vit"]


games = st.integers(1, 5).flatmap(lambda p: arrays(np.float64, 1 << p, elements=st.floats(-1, 1, width=32)))


def players(values: np.ndarray) -> int:
    return len(values).bit_length() - 1


@settings(deadline=None)
@given(games)
def test_the_values_sum_to_what_all_players_bring(values):
    assert shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@settings(deadline=None)
@given(games)
def test_they_are_the_mean_gain_over_all_orders(values):
    p = players(values)
    gains = np.zeros(p)
    orders = list(permutations(range(p)))
    for order in orders:
        there = 0
        for i in order:
            gains[i] += values[there | 1 << i] - values[there]
            there |= 1 << i
    np.testing.assert_allclose(shapley(values), gains / len(orders), atol=1e-9)


@settings(deadline=None)
@given(games)
def test_a_player_that_changes_nothing_gets_nothing(values):
    p = players(values)
    longer = np.concatenate([values, values])  # the new player is the highest bit, and is never missed
    found = shapley(longer)
    assert found[p] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found[:p], shapley(values), atol=1e-9)
    assert left_out(longer)[p] == 0


@settings(deadline=None)
@given(games.filter(lambda values: len(values) >= 4))
def test_players_that_could_be_exchanged_get_the_same(values):
    numbers = np.arange(len(values))
    swapped = numbers & ~3 | (numbers & 1) << 1 | (numbers & 2) >> 1
    found = shapley((values + values[swapped]) / 2)
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_resamples_are_taken_line_by_line():
    values = np.random.default_rng(0).random((7, 8))
    np.testing.assert_allclose(shapley(values), [shapley(line) for line in values])
    np.testing.assert_allclose(left_out(values), [[v[7] - v[6], v[7] - v[5], v[7] - v[3]] for v in values])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_other_numbers_of_subsets_are_refused(count):
    with pytest.raises(ReportError, match=f"however: {count} values"):
        shapley(np.zeros(count))


def test_a_page_names_no_sample_unless_asked(tmp_path, found):
    from cer_fusion.fusion.page import write_page
    from cer_fusion.fusion.page.sections import diagnosis_section

    named = {one.sample_id for one in found.hardest} | {pair.sample_id for pair in found.near.pairs}
    assert named
    plain, full = (
        write_page(tmp_path / f"{asked}.html", "t", [diagnosis_section(found, with_ids=asked)]).read_text()
        for asked in (False, True)
    )
    assert not [name for name in named if f">{name}<" in plain]
    assert all(f">{one.sample_id}<" in full for one in found.hardest)


def test_a_diagnosis_calls_the_judged_rows_by_their_split():
    found = diagnose(rows(60, 0), rows(40, 1, split="valid"), head=GaussianNB(), players="features", resamples=20)
    assert diagnosis_tables(found)[0].title.endswith("(40 valid rows)")
    assert Diagnosis.from_dict(found.to_dict()).split == "valid"
