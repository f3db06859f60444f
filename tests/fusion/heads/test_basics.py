"""Basic expressions beside compounds: mixed and in a curriculum, where they must help and where not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.fusion import Rows, compare, load_head, make_head, save_head
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError, ReportError
from cer_fusion.fusion.heads.base import fit_part
from cer_fusion.fusion.heads.basics import BasicRows, parse_curriculum, pool_of
from cer_fusion.fusion.judging.entries import taught
from cer_fusion.fusion.judging.zero_shot import with_basic

BASIC = ("Anger", "Fear", "Sadness", "Surprise")
COMPOUNDS = ("Fearfully_Surprised", "Sadly_Surprised", "Angrily_Surprised", "Sadly_Fearful")
PAIRS = {0: (1, 3), 1: (2, 3), 2: (0, 3), 3: (2, 1)}
QUICK = {
    "mlp": {"hidden": [24], "fusion": "concat"},
    "sequence": {"width": 24, "window": 3, "attention_heads": 2},
}
SHAPE = {"members": 1, "lr": 1e-2, "dropout": 0.2, "batch_size": 64, "epochs": 15, "threads": 1}
CENTRES = np.random.default_rng(9).normal(size=(4, 40))
NAMES = pytest.mark.parametrize("name", ["mlp", "sequence"])


def singles(n, seed, *, noise=1.2, centres=CENTRES):
    random = np.random.default_rng(seed)
    y = random.integers(4, size=n)
    return (centres[y] + noise * random.normal(size=(n, 40))).astype(np.float32), y


def compounds(n, seed, *, noise=1.2):
    random = np.random.default_rng(seed)
    y = random.integers(4, size=n)
    between = CENTRES[[PAIRS[one] for one in y]].mean(axis=1)
    return (between + noise * random.normal(size=(n, 40))).astype(np.float32), y


def basic_rows(n=400, seed=7, **more):
    X, y = singles(n, seed, **more)
    return BasicRows(X=X, y=y, pairs=PAIRS)


def fitted(name, X, y, basic=None, **settings):
    return make_head(name, random_state=0, **{**SHAPE, **QUICK[name], **settings}).fit(X, y, basic=basic)


def gain(name, few, basic, **settings):
    """What the basic rows bring on new compounds, in accuracy, the mean of two draws of the training rows."""
    test, truth = compounds(600, 1)
    found = []
    for seed in (2, 3):
        X, y = compounds(few, seed)
        alone = (fitted(name, X, y).predict(test) == truth).mean()
        found.append((fitted(name, X, y, basic, **settings).predict(test) == truth).mean() - alone)
    return float(np.mean(found))


@NAMES
def test_compounds_mixed_of_basic_rows_help_where_few_are_labelled_and_do_no_harm_where_many_are(name):
    assert gain(name, 24, basic_rows(), mixed_compounds=8.0) > 0.1
    assert gain(name, 800, basic_rows(), mixed_compounds=0.5) > -0.03


@NAMES
def test_a_curriculum_helps_where_few_compounds_are_labelled_and_does_no_harm_where_many_are(name):
    stages = ((15, 0.0), (40, 1.0))
    assert gain(name, 24, basic_rows(), curriculum=stages) > 0.03
    assert gain(name, 800, basic_rows(), curriculum=((5, 0.0), (15, 1.0))) > -0.03


def test_basic_rows_of_another_world_do_no_harm_after_a_curriculum():
    elsewhere = np.random.default_rng(11).normal(size=(4, 40))
    assert gain("mlp", 400, basic_rows(centres=elsewhere), curriculum=((5, 0.0), (15, 1.0))) > -0.04


def test_the_stages_of_netease_show_growing_shares_and_only_the_answers_to_compounds_are_left():
    X, y = compounds(100, 2)
    stages = parse_curriculum("5:0,5:0.2,3:0.4,3:1")
    pool = pool_of(
        X, np.eye(4)[y], None, np.arange(4), basic_rows(500).checked(40, keeps_aside=False), stages=stages, mixed=1.0,
        spread=0.3, seed=0,
    )  # fmt: skip
    kinds = np.repeat(["compound", "basic", "mixed"], [100, 500, 100])
    shares = [(shown & (kinds != "basic")).sum() / shown.sum() for _, shown in pool.stages]
    np.testing.assert_allclose(shares, [0, 0.2, 0.4, 1], atol=0.01)
    assert [epochs for epochs, _ in pool.stages] == [5, 5, 3, 3]
    head = fitted("mlp", X, y, basic_rows(), curriculum=stages, mixed_compounds=1.0)
    assert head.predict_proba(X).shape == (100, 4)
    assert head.networks_[0].course.epochs == 16
    assert head.n_iter_ == 16


@NAMES
def test_a_curriculum_of_a_whole_number_is_so_many_epochs_of_basic_expressions_and_then_the_heads_own(name):
    X, y = compounds(60, 2)
    short, long = (fitted(name, X, y, basic_rows(), curriculum=one) for one in (4, ((4, 0), (15, 1))))
    np.testing.assert_array_equal(short.predict_proba(X), long.predict_proba(X))
    assert short.networks_[0].course.epochs == 4 + SHAPE["epochs"]
    np.testing.assert_array_equal(
        fitted(name, X, y, curriculum=0).predict_proba(X), fitted(name, X, y).predict_proba(X)
    )
    assert parse_curriculum("4") == 4


@pytest.mark.parametrize("soft", [False, True])
def test_locality_draws_rows_of_a_class_together_beside_a_curriculum_and_mixed_rows_too(soft):
    (X, y), (T, t) = compounds(200, 2), compounds(300, 1)
    given = {"curriculum": [[5, 0], [30, 1]], "mixed_compounds": 0.5}
    labels = {"y": 0.9 * np.eye(4)[y] + 0.025, "classes": np.arange(4)} if soft else {"y": y}
    found, right = [], []
    for weight in (0.0, 1.0):
        head = make_head("mlp", **SHAPE, **QUICK["mlp"], random_state=0, locality=weight, **given)
        head.fit(X, basic=basic_rows(), **labels)
        (network,) = head.networks_
        rows = torch.from_numpy(network.scaler.transform(T).astype(np.float64))
        units = network.network.units(rows, lambda z: z)[0].numpy()
        of_class = [units[t == code] for code in range(4)]
        within = np.mean([one.var(axis=0).sum() for one in of_class])
        found.append(within / np.stack([one.mean(axis=0) for one in of_class]).var(axis=0).sum())
        right.append((head.predict(T) == t).mean())
    assert found[1] < 0.9 * found[0]
    assert right[1] > right[0] - 0.05


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_a_mixed_row_lies_between_rows_of_its_two_components_and_has_their_share(spread):
    X, y = compounds(50, 2)
    basic = BasicRows(X=10 * np.eye(4, 40, dtype=np.float32), y=np.arange(4), pairs=PAIRS)
    pool = pool_of(
        X, np.eye(4)[y], None, np.arange(4), basic, stages=[(1, 1.0)], mixed=2.0, spread=spread, seed=0
    )  # fmt: skip
    mixed, soft = pool.X[54:, :4] / 10, pool.soft[54:]
    assert len(mixed) == 100
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    for row, share in zip(mixed, soft, strict=True):
        code = int(share[:4].argmax())
        assert set(np.flatnonzero(row)) == set(PAIRS[code])
        np.testing.assert_allclose(row.sum(), 1, atol=1e-6)
        low, high = sorted(row[list(PAIRS[code])])
        assert low >= 0.5 - spread / 2 - 1e-6
        np.testing.assert_allclose(share[code], 2 * low, atol=1e-6)
        np.testing.assert_allclose(share[4:].sum(), high - low, atol=1e-6)


@NAMES
def test_without_a_curriculum_nothing_has_changed_and_the_same_seed_gives_the_same_head(name, tmp_path):
    X, y = compounds(60, 2)
    first, again = (fitted(name, X, y, basic_rows(), mixed_compounds=1.0, curriculum=((2, 0), (2, 1))) for _ in "12")
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    save_head(first, tmp_path / "head", fingerprints={"x": "0" * 12})
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(X), first.predict_proba(X))


@pytest.mark.parametrize("name", ["mlp", "sequence", "tokens", "gated", "bilinear", "tabm"])
def test_every_head_of_networks_goes_to_school_in_pools_and_with_rows_kept_aside(name):
    X, y = compounds(90, 2)
    extra = {"hidden": []} if name == "mlp" else {}
    head = make_head(
        name, blocks={"a": 25, "b": 15}, random_state=0, members=2, early_stop=0.2, threads=1,
        curriculum=[[1, 0], [1, 0.5], [2, 1]], mixed_compounds=0.5, **extra,
    )  # fmt: skip
    groups, soft = np.arange(90) // 2, 0.9 * np.eye(4)[y] + 0.025
    basic = BasicRows(X=basic_rows().X, y=basic_rows().y, pairs=PAIRS, groups=np.arange(400) + 1000)
    head.fit(X, soft, groups, 1.0 + y, classes=np.arange(4), basic=basic)
    proba = head.predict_proba(X, groups) if name == "sequence" else head.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert proba.shape == (90, 4)


def test_basic_rows_of_groups_that_have_compounds_are_left_out_where_groups_are_kept_aside(caplog):
    X, y = compounds(80, 2)
    groups = np.arange(80) // 2
    rows = basic_rows(60)
    basic = BasicRows(X=rows.X, y=rows.y, pairs=PAIRS, groups=np.arange(60))
    with caplog.at_level("INFO"):
        make_head("mlp", epochs=1, mixed_compounds=1.0, early_stop=0.2).fit(X, y, groups, basic=basic)
    assert "40 rows of basic expressions are of groups that have compounds too: left out" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        make_head("mlp", epochs=1, mixed_compounds=1.0).fit(X, y, groups, basic=basic)  # nothing is kept aside
    assert "left out" not in caplog.text
    everywhere = BasicRows(X=rows.X, y=rows.y, pairs=PAIRS, groups=np.arange(60) % 40)
    with pytest.raises(HeadDataError, match="give rows of other videos or persons"):
        make_head("mlp", epochs=1, mixed_compounds=1.0, early_stop=0.2).fit(X, y, groups, basic=everywhere)


# rows of a comparison


def as_rows(X, y, classes, prefix, **more):
    return Rows(blocks={"x": X}, y=y, classes=classes, ids=tuple(f"{prefix}{i}" for i in range(len(y))), **more)


def test_a_comparison_hands_basic_rows_to_heads_with_a_use_for_them_and_finds_the_pairs_by_name():
    train = with_basic(as_rows(*compounds(24, 2), COMPOUNDS, "c"), as_rows(*singles(400, 7), BASIC, "b"))
    assert train.pairs == PAIRS
    test = as_rows(*compounds(300, 1), COMPOUNDS, "t")
    heads = {
        "mixed": make_head("mlp", mixed_compounds=8.0, **SHAPE, **QUICK["mlp"]),
        "alone": make_head("mlp", **SHAPE, **QUICK["mlp"]),
        "ridge": make_head("ridge"),
    }
    found = compare(heads, train, test, singles=False, resamples=30)
    assert found.column("mixed").scores.accuracy > found.column("alone").scores.accuracy + 0.05


def test_basic_rows_that_are_asked_about_or_of_such_a_video_are_not_learned_from():
    basic = as_rows(*singles(40, 7), BASIC, "b", groups=tuple(f"v{i // 4}" for i in range(40)))
    rows = with_basic(as_rows(*compounds(24, 2), COMPOUNDS, "c"), basic)
    head = make_head("mlp", mixed_compounds=1.0)
    asked = as_rows(*compounds(3, 2), COMPOUNDS, "b", groups=("", "", "v5"))
    assert len(taught(head, rows)["basic"].X) == 40
    assert len(taught(head, rows, asked)["basic"].X) == 40 - 3 - 4
    everywhere = as_rows(*compounds(40, 2), COMPOUNDS, "b")
    with pytest.raises(HeadDataError, match="give other ones"):
        taught(head, rows, everywhere)


def test_compounds_without_known_components_are_refused_by_name_where_they_would_be_mixed():
    X, y = compounds(40, 2)
    basic = as_rows(*singles(40, 7), BASIC, "b")
    odd = with_basic(as_rows(X, y, ("Bored", *COMPOUNDS[1:]), "c"), basic)
    mixing, schooled = make_head("mlp", mixed_compounds=1.0, epochs=1), make_head("mlp", curriculum=[[1, 0], [1, 1]])
    with pytest.raises(HeadDataError, match="'Bored' is none that is known"):
        taught(mixing, odd)
    fit_part(schooled, odd.x(), odd.y, **taught(schooled, odd))  # a curriculum alone mixes none
    calm = as_rows(basic.blocks["x"], np.where(basic.y == 3, 0, basic.y), BASIC, "b")
    with pytest.raises(HeadDataError, match="'Fearfully_Surprised' is mixed of rows of 'Surprise'"):
        taught(mixing, with_basic(as_rows(X, y, COMPOUNDS, "c"), calm))
    with pytest.raises(ReportError, match="same blocks"):
        with_basic(as_rows(X, y, COMPOUNDS, "c"), as_rows(singles(40, 7)[0][:, :9], basic.y, BASIC, "b"))


# refusals


def test_rows_that_are_lacking_or_have_no_use_are_refused_and_say_what_to_do():
    X, y = compounds(40, 2)
    with pytest.raises(HeadDataError, match=r"was given none\n.*--basic DATASET"):
        fitted("mlp", X, y, mixed_compounds=1.0)
    with pytest.raises(HeadDataError, match="has no use for rows of basic expressions"):
        fitted("mlp", X, y, basic_rows())
    with pytest.raises(HeadDataError, match="has no use"):
        make_head("ridge").fit(X, y, basic=basic_rows())
    with pytest.raises(HeadDataError, match="those of 0 are not known"):
        fitted("mlp", X, y, BasicRows(X=basic_rows().X, y=basic_rows().y), mixed_compounds=1.0)
    pairs = {**PAIRS, 2: (9, 3)}
    with pytest.raises(HeadDataError, match="no row of basic expressions is of 9"):
        fitted("mlp", X, y, BasicRows(X=basic_rows().X, y=basic_rows().y, pairs=pairs), mixed_compounds=1.0)
    with pytest.raises(HeadDataError, match=r"must have shape \(m, 40\)"):
        fitted("mlp", X, y, BasicRows(X=X[:, :5], y=y, pairs=PAIRS), mixed_compounds=1.0)
    with pytest.raises(HeadDataError, match="NaN or infinity"):
        fitted("mlp", X, y, BasicRows(X=np.where(X > 3, np.nan, X), y=y, pairs=PAIRS), mixed_compounds=1.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"curriculum": [[5, 0]]}, "the last stage of a curriculum shows no compound"),
        ({"curriculum": [[0, 1]]}, "epochs of a stage"),
        ({"curriculum": [[2, 1.5]]}, "share of compounds in"),
        ({"curriculum": [5, 1]}, "a stage of a curriculum is its epochs"),
        ({"curriculum": "5:0"}, "curriculum must be a list"),
        ({"curriculum": True}, "curriculum must be a list"),
        ({"curriculum": -1}, "epochs of basic expressions"),
        ({"mixed_compounds": -1.0}, "mixed_compounds must be finite"),
        ({"mixed_compounds": 1.0, "mix_spread": 2.0}, "mix_spread must lie"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(HeadConfigError, match=said):
        fitted("mlp", *compounds(40, 2), basic_rows(), **settings)


def test_multitask_and_words_that_are_no_stages_are_refused():
    with pytest.raises(HeadConfigError, match="leave curriculum"):
        make_head("multitask", curriculum=[[1, 1]]).fit(*compounds(40, 2))
    for text in ("5.5", "-5", "x:1", "5:0,", "5:0"):
        with pytest.raises(HeadConfigError):
            parse_curriculum(text)
