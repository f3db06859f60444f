"""Recipes as files, the columns that they make, and on made data what each one's idea brings and when it cannot."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.challenge import over_time
from cer_fusion.fusion import (
    Report,
    Rows,
    choose_recipes,
    compare,
    cross_compare,
    make_head,
    recipe_columns,
    recipes_in,
)
from cer_fusion.fusion.errors import RecipeError, ReportError
from cer_fusion.fusion.judging.entries import Entry
from cer_fusion.fusion.judging.zero_shot import ZeroShotColumns, components
from cer_fusion.fusion.recipes import Recipe, read_recipe, shipped_recipes

BASIC = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
SEVEN = (
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Surprised",
    "Disgustedly_Surprised",
    "Angrily_Surprised",
    "Sadly_Fearful",
    "Sadly_Angry",
)
PAIRS = np.array([[[one.lower() for one in BASIC].index(part) for part in components(name)] for name in SEVEN])
OWN = """
about = "Mine"
system = "mine"
source = ["nowhere"]
theirs = []
[head]
name = "ridge"
"""


def column(name: str, rows: Rows, **options: object) -> Entry | ZeroShotColumns:
    (made,) = recipe_columns(choose_recipes(recipes_in(None), [name]), rows, **options)
    return made


def judged(
    train: Rows, test: Rows, *columns: Entry | ZeroShotColumns, heads: dict[str, object] | None = None
) -> Report:
    return compare(heads or {}, train, test, singles=False, resamples=30, more=columns)


def runnable() -> list[Recipe]:
    return [recipe for recipe in shipped_recipes().values() if recipe.fault is None]


def accuracy(report: Report, name: str) -> float:
    return report.column(name).scores.accuracy


# files


NAMED = {"c-expr-net", "mml", "dlp-cnn", "dbm-cnn", "netease", "hsemotion", "avcer", "ustc-ac", "paper"}
"""The systems that the paper names, its own with them."""


def test_every_system_that_the_paper_names_is_a_recipe_with_its_source_that_runs_here_or_says_what_it_waits_for():
    found = shipped_recipes()
    assert set(found) >= {*NAMED, "paper-branches", "hsemotion-pictures"}
    for recipe in found.values():
        assert recipe.source
        assert recipe.theirs
        if recipe.waits_for is not None:
            with pytest.raises(RecipeError, match="cannot run here: it waits for"):
                choose_recipes(found, [recipe.name])
            continue
        assert recipe.fault is None, recipe.name
        assert recipe.ours
        if recipe.smooth is not None:
            over_time(recipe.smooth)


def test_recipes_of_ones_own_stand_beside_the_shipped_ones(tmp_path):
    (tmp_path / "mine.toml").write_text(OWN)
    found = recipes_in(tmp_path)
    assert found["mine"].head.name == "ridge"
    assert "paper" in found
    assert choose_recipes(found, ["mine", "paper"])[0].name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("about", "abuot"), r"unknown keys: 'abuot' \(did you mean 'about'"),
        (OWN.replace('about = "Mine"', ""), "lacks the keys: 'about'"),
        (OWN.replace('name = "ridge"', 'nmae = "ridge"'), "mine.toml.head has unknown keys: 'nmae'"),
        (OWN.replace('["nowhere"]', '"nowhere"'), "mine.toml.source"),
        (OWN.replace('["nowhere"]', "[]"), "has no source"),
        (OWN.replace('system = "mine"', 'system = "mine"\nrule = "produkt"'), "did you mean 'product'"),
        (
            OWN.replace('system = "mine"', 'system = "mine"\nsoft_labels = "maybe"'),
            "one of 'never', 'if there', 'needed'",
        ),
        (OWN + "settings = {}\n" + "preset = 1\n", "mine.toml.head.preset"),
        (OWN.replace('system = "mine"', 'system = "mine"\nwaits_for = "x"'), "and not both"),
        (OWN.partition("[head]")[0], r"needs a \[head\], or waits_for"),
        ('name = "other"' + OWN, "leave the key out"),
        (OWN.replace("about =", "about"), r"mine.toml is no TOML: .*line 2"),
        ("[head\n", "is no TOML"),
        (OWN + "settings = { C = 2026-11-28 }", "mine.toml.head.settings.C cannot be kept as JSON"),
        ("\xff", "is not UTF-8"),
        ("#" * 200_000, "no recipe is that long"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_and_says_where(text, message, tmp_path):
    (tmp_path / "mine.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=message):
        recipes_in(tmp_path)


@pytest.mark.parametrize("name", ["all", "a,b"])
def test_a_name_that_no_option_could_mean_is_refused(name, tmp_path):
    (tmp_path / f"{name}.toml").write_text(OWN)
    with pytest.raises(RecipeError, match="rename the file"):
        recipes_in(tmp_path)


def test_files_of_windows_editors_are_read(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + OWN.replace("\n", "\r\n").encode())
    assert recipes_in(tmp_path)["mine"].about == "Mine"


def test_neither_of_two_recipes_of_one_name_replaces_the_other(tmp_path):
    (tmp_path / "paper.toml").write_text(OWN)
    with pytest.raises(RecipeError, match=r"paper\.toml has the name of a recipe that is there already"):
        recipes_in(tmp_path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('name = "rigde"', "did you mean 'ridge'"),
        ('name = "ridge"\npreset = "paper"', "preset"),
        ('name = "ridge"\nsettings = { penalti = 1 }', "did you mean 'penalty'"),
        ('name = "linear"\nsettings = { C = "much" }', "C must be a number"),
        ('name = "mlp"\nsettings = { preset = "paper" }', "no setting 'preset'"),
        ('name = "linear"\nsettings = { blocks = { vit = 768 } }', "no setting 'blocks'"),
        ('name = "sklearn:sklearn.svm.SVD"', "sklearn.svm"),
        ('name = "late"\nsettings = { member = "late" }', "a member of 'late' cannot be 'late' itself"),
        ('name = "stacking"\nsettings = { member = { vit = "late" } }', "a member of 'stacking' cannot be 'late'"),
        ('name = "mine"', "there is no head 'mine'"),
        ('name = "mlp"\nsettings = { locality = -1 }', "locality must be finite and not negative"),
        ('name = "mlp"\nsettings = { epochs = 0 }', "epochs must be a whole number"),
        ('name = "late"\nsettings = { mix = "geometrical" }', "did you mean 'geometric'"),
    ],
)
def test_what_cannot_run_here_says_why_when_it_is_asked_for_and_stands_in_the_list(head, message, tmp_path):
    (tmp_path / "mine.toml").write_text(OWN.replace('name = "ridge"', head))
    found = recipes_in(tmp_path)
    with pytest.raises(RecipeError, match=f"(?s)recipe 'mine' cannot run here: .*{message}"):
        choose_recipes(found, ["mine"])


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(RecipeError, match="no recipe 'papre'; did you mean 'paper'"):
        choose_recipes(shipped_recipes(), ["papre"])
    with pytest.raises(RecipeError, match="named twice"):
        choose_recipes(shipped_recipes(), ["paper", "paper"])


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="is no folder of recipes"):
        recipes_in(tmp_path / folder)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(Path(tmp_path))


# rows


def made_rows(
    blocks: dict[str, np.ndarray], y: np.ndarray, classes: tuple[str, ...], prefix: str, **more: object
) -> Rows:
    arrays = {name: block.astype(np.float32) for name, block in blocks.items()}
    return Rows(blocks=arrays, y=y, classes=classes, **{"ids": tuple(f"{prefix}{i}" for i in range(len(y))), **more})


def faces(n: int, seed: int, *, noise: float = 0.5) -> tuple[Rows, Rows]:
    """Rows with basic expressions, an axis each, and rows with compounds, half way between two."""
    random = np.random.default_rng(seed)
    basic, compound = random.integers(6, size=n), random.integers(7, size=n)
    alone = 3 * np.eye(6, 12)[basic] + random.normal(size=(n, 12))
    between = 1.5 * np.eye(6, 12)[PAIRS[compound]].sum(axis=1) + noise * random.normal(size=(n, 12))
    return made_rows({"hse": alone}, basic, BASIC, f"b{seed}/"), made_rows(
        {"hse": between}, compound, SEVEN, f"c{seed}/"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("paper-branches", {}, r"needs manet\.local, manet\.multi_scale, and the rows have hse\n.*--backbone manet"),
        ("hsemotion-pictures", {}, "no rows of those\n.*--zero-shot DATASET"),
    ],
)
def test_what_the_rows_lack_is_an_error_that_says_how_it_is_made(name, options, message):
    _, rows = faces(20, 0)
    with pytest.raises(RecipeError, match=message):
        column(name, rows, **options)


def test_votes_that_are_needed_and_smoothing_of_pictures_are_refused():
    basic, rows = faces(20, 0)
    voting = replace(shipped_recipes()["paper"], soft_labels="needed")
    with pytest.raises(RecipeError, match=r"learns from votes, and there are none\n.*--soft-labels"):
        recipe_columns([voting], rows)
    with pytest.raises(RecipeError, match=r"recipe 'hsemotion' smooths over time, and cannot: .*names no frame"):
        column("hsemotion", rows, basic=basic, smoother=over_time)
    with pytest.raises(RecipeError, match="give a smoother"):
        column("hsemotion", rows, basic=basic)


def test_what_is_smoothed_are_the_rows_that_are_answered_whatever_was_learned_from():
    basic, pictures = faces(40, 0)
    frames = videos(4, 5, 1, noise=0.5)
    made = column("hsemotion", pictures, test=frames, basic=basic, smoother=over_time)
    assert accuracy(judged(pictures, frames, made), "hsemotion") > 0.5
    with pytest.raises(RecipeError, match="names no frame"):
        column("hsemotion", frames, test=pictures, basic=basic, smoother=over_time)


def test_basic_rows_without_a_component_are_refused_or_left_out_by_name():
    basic, rows = faces(60, 0)
    calm = basic.take(np.flatnonzero(basic.y != 5))
    with pytest.raises(RecipeError, match=r"recipe 'avcer' cannot answer these rows: .*needs surprise"):
        column("avcer", rows, basic=calm)
    told: list[str] = []
    recipes = choose_recipes(recipes_in(None), ["avcer", "paper"])
    made = recipe_columns(recipes, rows, basic=calm, leave_out=lambda recipe, reason: told.append(recipe.name))
    assert [one.title for one in made] == ["paper"]
    assert told == ["avcer"]


def test_what_cannot_run_is_left_out_aloud_where_that_is_asked_for():
    basic, rows = faces(60, 0)
    told: dict[str, str] = {}
    made = recipe_columns(
        runnable(), rows, basic=basic, smoother=over_time,
        leave_out=lambda recipe, reason: told.update({recipe.name: reason}),
    )  # fmt: skip
    titles = [one.title for one in made]
    assert {"paper", "hsemotion-pictures", "avcer"} <= set(titles)
    assert not set(titles) & set(told)
    assert set(titles) | set(told) == {recipe.name for recipe in runnable()}
    assert "needs manet.local" in told["paper-branches"]


def test_columns_of_recipes_stand_beside_heads_are_tested_against_a_baseline_and_told():
    basic, train = faces(70, 0)
    _, test = faces(40, 1)
    columns = (*recipe_columns([quick_paper()], train), column("hsemotion-pictures", train, basic=basic))
    found = compare(
        {"ridge": make_head("ridge")}, train, test, singles=False, resamples=30, baseline="paper", more=columns
    )
    assert [one.name for one in found.columns] == ["ridge", "paper", "hsemotion-pictures"]
    assert found.column("hsemotion-pictures").versus is not None
    told = " ".join(found.notes)
    assert "Recipe 'paper' (this paper, 0.2240 at ABAW-6;" in told
    assert "The source has manet, vit, resnet50, the rows hse." in told
    assert "from no compound label" in told
    with pytest.raises(ReportError, match="two columns"):
        compare({"paper": make_head("ridge")}, train, test, singles=False, more=columns)


def test_a_cross_validation_has_recipes_alone_too_and_what_is_sent_to_other_processes_comes_through():
    _, rows = faces(60, 0)
    entry = column("paper", rows)
    entry = pickle.loads(pickle.dumps(replace(entry, head=make_head("ridge", blocks=rows.widths))))
    found = cross_compare({}, rows, folds=3, resamples=30, more=[entry])
    assert [one.name for one in found.columns] == ["paper"]


def test_a_recipe_learns_from_votes_only_where_it_says_so():
    _, rows = faces(80, 0)
    turned = np.eye(7)[(rows.y + 1) % 7]  # votes that say another class than the label
    rows = replace(rows, soft=turned)
    recipe = Recipe(
        name="mine", about="", system="", source=("x",), theirs=(), head=replace(shipped_recipes()["hsemotion"].head)
    )
    plain, voting = (recipe_columns([replace(recipe, soft_labels=word)], rows)[0] for word in ("never", "if there"))
    test = replace(faces(60, 1)[1], soft=None)
    right = [accuracy(judged(rows, test, one), "mine") for one in (plain, voting)]
    assert right[0] > 0.7
    assert right[1] < 0.2


# what the ideas bring


def quick_paper() -> Recipe:
    """The recipe of the paper with fewer and longer steps."""
    paper = shipped_recipes()["paper"]
    return replace(paper, head=replace(paper.head, settings={"epochs": 25, "lr": 3e-3, "hidden": [32], "threads": 1}))


def complementary(n: int, seed: int, *, copies: bool = False) -> Rows:
    """Four classes told by two signs, of which each encoder sees one; or both encoders see both."""
    random = np.random.default_rng(seed)
    y = random.integers(4, size=n)
    signs = 2 * np.stack([y // 2, y % 2], axis=1) - 1
    seen = (signs, signs) if copies else (signs[:, :1], signs[:, 1:])
    blocks = {
        name: np.hstack([1.5 * part + 0.6 * random.normal(size=part.shape), random.normal(size=(n, 4))])
        for name, part in zip(("vit", "manet"), seen, strict=True)
    }
    return made_rows(blocks, y, SEVEN[:4], f"{seed}/")


def test_joined_encoders_help_where_each_sees_a_part_of_the_truth_and_not_where_one_sees_all_of_it():
    paper = quick_paper()
    alone = replace(paper, name="alone", blocks=("vit",))
    gains = {}
    for copies in (False, True):
        train, test = complementary(160, 0, copies=copies), complementary(400, 1, copies=copies)
        found = judged(train, test, *recipe_columns([paper, alone], train))
        gains[copies] = accuracy(found, "paper") - accuracy(found, "alone")
    assert gains[False] > 0.3
    assert abs(gains[True]) < 0.05


def branches(n: int, seed: int, *, same: bool = False) -> Rows:
    """The two branches of MA-Net, with errors of their own or the same rows twice."""
    random = np.random.default_rng(seed)
    y = random.integers(7, size=n)
    local, other = (2 * np.eye(7)[y] + random.normal(size=(n, 7)) for _ in range(2))
    blocks = {"manet.local": local, "manet.multi_scale": local if same else other}
    return made_rows(blocks, y, SEVEN, f"{seed}/")


def test_two_branches_mixed_help_where_their_errors_differ_and_cannot_matter_where_they_are_one():
    train, test = branches(300, 0), branches(600, 1)
    local = make_head("late", weights={"manet.local": 1.0, "manet.multi_scale": 0.0})
    found = judged(train, test, column("paper-branches", train), heads={"local": local})
    assert accuracy(found, "paper-branches") > accuracy(found, "local") + 0.05
    train, test = branches(100, 0, same=True), branches(100, 1, same=True)
    found = judged(train, test, column("paper-branches", train), heads={"local": local})
    np.testing.assert_allclose(found.column("paper-branches").proba, found.column("local").proba, atol=1e-9)


def videos(count: int, frames: int, seed: int, *, noise: float) -> Rows:
    """Videos that show one compound each, with noise a frame."""
    random = np.random.default_rng(seed)
    shown = np.repeat(random.integers(7, size=count), frames)
    rows = 1.5 * np.eye(6, 12)[PAIRS[shown]].sum(axis=1) + noise * random.normal(size=(len(shown), 12))
    ids = tuple(f"{video:02}/{frame:05}.jpg" for video in range(count) for frame in range(1, frames + 1))
    groups = tuple(one.partition("/")[0] for one in ids)
    return made_rows({"hse": rows}, shown, SEVEN, "", ids=ids, groups=groups)


def test_smoothed_pairs_help_on_noisy_videos_and_cannot_matter_where_a_video_is_a_frame():
    basic, train = faces(300, 0)
    gains = {}
    for frames in (40, 1):
        test = videos(800 // frames, frames, 3, noise=1.5)
        names = ("hsemotion", "hsemotion-pictures")
        columns = [column(name, test, basic=basic, smoother=over_time) for name in names]
        smooth, plain = judged(train, test, *columns).columns
        gains[frames] = smooth.scores.accuracy - plain.scores.accuracy
        assert plain.scores.accuracy > 0.3  # of seven, and no compound was learned
    assert gains[40] > 0.2
    np.testing.assert_allclose(smooth.proba, plain.proba, atol=1e-12)


def specialists(n: int, seed: int, *, copies: bool = False) -> tuple[Rows, Rows]:
    """Two models that each know three basic expressions and take the others for one; or one model twice."""
    random = np.random.default_rng(seed)
    basic, compound = random.integers(6, size=n), random.integers(7, size=n)
    made = []
    for parts, y, classes in ((np.stack([basic] * 2, axis=1), basic, BASIC), (PAIRS[compound], compound, SEVEN)):
        blocks = {}
        for name, knows in (("face", (0, 1, 2)), ("sound", (3, 4, 5))):
            axes = np.where(np.isin(parts, knows), parts % 3 + 1, 0)
            blocks[name] = random.normal(size=(n, 40)) + 1.5 * np.eye(4, 40)[axes].sum(axis=1)
        blocks["sound"] = blocks["face"] if copies else blocks["sound"]
        made.append(made_rows(blocks, y, classes, f"{len(made)}/{seed}/"))
    return made[0], made[1]


def test_weights_a_model_and_expression_help_where_models_know_others_and_cannot_where_models_are_one():
    avcer = shipped_recipes()["avcer"]
    quick = replace(avcer, head=replace(avcer.head, settings={**avcer.head.settings, "draws": 200}))
    settings = {"mix": "arithmetic", "calibrate": True, "weights": {"face": 1.0, "sound": 1.0}}
    even = replace(quick, name="even", head=replace(quick.head, settings=settings))
    for copies in (False, True):
        basic, train = specialists(400, 0, copies=copies)
        _, test = specialists(400, 1, copies=copies)
        found = judged(train, test, *recipe_columns([quick, even], train, basic=basic))
        if copies:
            np.testing.assert_allclose(found.column("avcer").proba, found.column("even").proba, atol=1e-9)
        else:
            assert accuracy(found, "avcer") > accuracy(found, "even") + 0.03


def spread(head: Any, rows: Rows) -> float:
    """Variance of the hidden units within classes over that between them."""
    import torch

    network = head.networks_[0]
    units = network.network.units(torch.from_numpy(network.scaler.transform(rows.x())), lambda z: z)[0].detach().numpy()
    of_class = [units[rows.y == k] for k in np.unique(rows.y)]
    within = np.mean([one.var(axis=0).sum() for one in of_class])
    return float(within / np.stack([one.mean(axis=0) for one in of_class]).var(axis=0).sum())


@pytest.mark.parametrize("name", ["dlp-cnn", "dbm-cnn"])
def test_rows_of_a_class_lie_closer_by_locality_which_cannot_matter_where_a_row_has_no_neighbour(name):
    paper, known = quick_paper(), shipped_recipes()[name]
    longer = {**paper.head.settings, "epochs": 60}
    plain = replace(paper, soft_labels=known.soft_labels, head=replace(paper.head, settings=longer))
    mine = replace(known, head=replace(known.head, settings={**longer, **known.head.settings, "locality": 1.0}))
    _, train = faces(240, 0, noise=0.7)
    _, test = faces(240, 1, noise=0.7)
    train = replace(train, soft=0.9 * np.eye(7)[train.y] + 0.1 / 7)
    found = judged(train, test, *recipe_columns([plain, mine], train))
    assert spread(found.column(name).fitted, test) < 0.85 * spread(found.column("paper").fitted, test)
    assert accuracy(found, name) > accuracy(found, "paper") - 0.05
    alone = [replace(one, head=replace(one.head, settings={**one.head.settings, "batch_size": 1, "epochs": 1}))
             for one in (plain, mine)]  # fmt: skip
    found = judged(train, test, *recipe_columns(alone, train))
    np.testing.assert_allclose(found.column(name).proba, found.column("paper").proba, atol=1e-6)


def told_by_neighbours(count: int, seed: int, *, shown: int = 1) -> Rows:
    """Videos in which a frame's compound is to be seen `shown` frames later."""
    random = np.random.default_rng(seed)
    n, frames = 10 * count, 10
    y, numbers = random.integers(7, size=n), np.tile(np.arange(1, frames + 1), count)
    rows, place = random.normal(size=(n, 12)), np.arange(n) + shown
    inside = (numbers + shown >= 1) & (numbers + shown <= frames)
    rows[place[inside]] += 2.5 * np.eye(6, 12)[PAIRS[y[inside]]].sum(axis=1)
    ids = tuple(f"s{seed}v{i // frames:03}/{number:05}.jpg" for i, number in enumerate(numbers))
    groups = tuple(one.partition("/")[0] for one in ids)
    return made_rows({"vit": rows}, y, SEVEN, "", ids=ids, groups=groups)


def sounding(count: int, seed: int, *, tells: bool) -> Rows:
    """Videos of which a face tells one of two halves of four classes, and the sound the rest; or the face all of it."""
    random, frames = np.random.default_rng(seed), 8
    y = np.repeat(random.integers(4, size=count), frames)
    face, sound = random.normal(size=(len(y), 10)), random.normal(size=(len(y), 6))
    face += 3 * (np.eye(2, 10)[y // 2] if tells else np.eye(4, 10)[y])
    sound += 3 * np.eye(2, 6)[y % 2] * tells
    ids = tuple(f"s{seed}v{i // frames:03}/{i % frames + 1:05}.jpg" for i in range(len(y)))
    groups = tuple(one.partition("/")[0] for one in ids)
    return made_rows({"vit": face, "egemaps": sound}, y, SEVEN[:4], "", ids=ids, groups=groups)


def test_netease_hears_what_faces_do_not_show_and_sound_of_noise_hardly_matters():
    settings = {"width": 16, "attention_heads": 2, "window": 3, "members": 1, "lr": 1e-2, "batch_size": 64,
                "threads": 1, "epochs": 10}  # fmt: skip
    known = shipped_recipes()["netease"]
    whole = replace(known, basic="never", head=replace(known.head, settings=settings))
    gains = {}
    for tells in (True, False):
        gains[tells] = []
        for seed in (2, 3, 4):
            train, test = sounding(60, seed, tells=tells), sounding(60, seed + 50, tells=tells)
            found = judged(train, test, *recipe_columns([whole, replace(whole, name="deaf", blocks=("vit",))], train))
            gains[tells].append(accuracy(found, "netease") - accuracy(found, "deaf"))
    assert np.mean(gains[True]) > 0.2
    assert abs(np.mean(gains[False])) < 0.05


def test_netease_finds_what_neighbours_show_and_is_a_perceptron_on_pictures_which_is_said():
    netease = shipped_recipes()["netease"]
    quick = {"width": 32, "window": 5, "members": 1, "lr": 1e-2, "batch_size": 64, "threads": 1, "scenes": 1}
    quick |= {"curriculum": [[2, 0.0], [14, 1.0]], "mixed_compounds": 0.2}
    netease = replace(netease, head=replace(netease.head, settings={**netease.head.settings, **quick}))
    alone = {**quick, "window": 1}
    still = replace(netease, name="still", head=replace(netease.head, settings={**netease.head.settings, **alone}))
    gains = []
    for seed in (0, 10):
        seen = [replace(one, blocks={"vit": one.blocks["hse"]}) for one in (*faces(200, seed), faces(300, seed + 1)[1])]
        basic, pictures, more = seen
        train, test = told_by_neighbours(60, seed + 2), told_by_neighbours(30, seed + 3)
        for learn, ask in ((train, test), (pictures, more)):
            found = judged(learn, ask, *recipe_columns([netease, still], learn, basic=basic))
            gains.append(accuracy(found, "netease") - accuracy(found, "still"))
    assert np.mean(gains[::2]) > 0.2
    assert abs(np.mean(gains[1::2])) < 0.05
    told = " ".join(found.notes)
    assert "each is a window of one row" in told
    assert "The rows have no egemaps, which it would use." in told
    with pytest.raises(RecipeError, match="no rows of those"):
        recipe_columns([netease], train)
    wrong = replace(netease, basic="never")
    assert "rows of basic expressions (basic) are for" in str(wrong.fault)
