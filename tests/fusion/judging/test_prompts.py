"""Classes by prompts: on made spaces they work exactly, permuted they must not, and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from cer_fusion.fusion import (
    PromptColumns,
    Report,
    Rows,
    TextVectors,
    compare,
    cross_compare,
    make_head,
    prompted,
    read_text_vectors,
)
from cer_fusion.fusion.errors import ExpressionError, ReportError
from cer_fusion.fusion.judging.prompts import (
    PromptClassifier,
    PromptSet,
    read_prompts,
    shipped_prompts,
    write_text_vectors,
)
from cer_fusion.fusion.judging.zero_shot import components, compound_names, compound_proba, emotion

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
AXES = dict(zip((emotion(name) for name in BASIC), np.eye(6), strict=True))


def direction(name: str) -> np.ndarray:
    """An expression has an axis of the made space, a compound lies between those of its two."""
    parts = (emotion(name),) if emotion(name) else components(name)
    return sum(AXES[part] for part in parts)


def texts(names=SEVEN, *, prompts: int = 3, seed: int = 0, order=None, **more) -> TextVectors:
    """Vectors of several prompts a class, around its direction; `order` gives each the meaning of another."""
    random = np.random.default_rng(seed)
    meant = names if order is None else [names[i] for i in order]
    return TextVectors(
        vectors={
            name: (7 * direction(own) + 0.3 * random.normal(size=(prompts, 6))).astype(np.float32)
            for name, own in zip(names, meant, strict=True)
        },
        **more,
    )


def rows(n: int = 70, *, classes=SEVEN, noise: float = 0.1, seed: int = 1, **more) -> Rows:
    random = np.random.default_rng(seed)
    y = np.arange(n) % len(classes)
    x = 3 * np.stack([direction(classes[i]) for i in y]) + noise * random.normal(size=(n, 6))
    blocks = {"other": random.normal(size=(n, 4)).astype(np.float32), "clip": x.astype(np.float32)}
    return Rows(blocks=blocks, y=y, classes=classes, ids=tuple(f"{seed}-{i}" for i in range(n)), **more)


def judged(columns: PromptColumns, test: Rows | None = None) -> Report:
    return compare({}, rows(seed=5), test or rows(), singles=False, resamples=30, more=[columns])


@pytest.mark.parametrize("names", [SEVEN, tuple(reversed(compound_names())), BASIC])
def test_prompts_answer_exactly_where_texts_and_pictures_share_a_space_and_not_where_they_are_permuted(names):
    (column,) = judged(PromptColumns(vectors=texts(names))).columns
    assert column.scores.accuracy == 1
    # not a class is left at its place, and of the basic ones no pair
    order = [*range(1, len(names)), 0]
    (moved,) = judged(PromptColumns(vectors=texts(names, order=order))).columns
    assert moved.scores.accuracy < 0.5


def test_a_probability_is_the_softmax_of_cosines_to_the_mean_direction_of_a_classs_prompts_over_the_temperature():
    vectors = texts(temperature=0.2)
    x = rows().blocks["clip"].astype(np.float64)
    found = [one.astype(np.float64) for one in vectors.vectors.values()]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in found]
    mean = np.stack([one.mean(0) / np.linalg.norm(one.mean(0)) for one in unit])
    shares = np.exp(x / np.linalg.norm(x, axis=1, keepdims=True) @ mean.T / 0.2)
    wanted = shares / shares.sum(1, keepdims=True)
    np.testing.assert_allclose(prompted(vectors, SEVEN).predict_proba(x), wanted, atol=1e-12)
    np.testing.assert_allclose(
        prompted(vectors, SEVEN).predict_proba(1000 * x), wanted, atol=1e-12
    )  # length is nothing
    sharp = prompted(vectors, SEVEN, temperature=0.01).predict_proba(x)
    assert sharp.max(1).mean() > wanted.max(1).mean()
    assert (sharp.argmax(1) == wanted.argmax(1)).all()
    assert PromptClassifier(replace(vectors, temperature=None)).temperature_ == 0.01


def test_prompts_for_basic_expressions_make_compounds_by_the_rules_of_pairs():
    vectors = texts(BASIC)
    x = rows().blocks["clip"]
    basic = PromptClassifier(vectors).predict_proba(x)
    for rule in ("sum", "product"):
        np.testing.assert_allclose(
            prompted(vectors, SEVEN, rule=rule).predict_proba(x), compound_proba(basic, BASIC, SEVEN, rule=rule)
        )
    report = judged(PromptColumns(vectors=vectors, rules=("sum", "harmonic")))
    assert [column.name for column in report.columns] == ["prompts sum", "prompts harmonic"]
    with pytest.raises(ExpressionError, match=r"there are prompts for .* themselves"):
        prompted(texts(), SEVEN, rule="sum")


def test_a_column_of_prompts_stands_beside_heads_with_intervals_tests_and_a_note_and_in_folds(tmp_path):
    column = PromptColumns(vectors=texts(encoder="clip:tiny", weights="ab" * 32), weights="ab" * 32, source="t.npz")
    heads = {"linear": make_head("linear")}
    report = compare(heads, rows(seed=5), rows(), baseline="linear", singles=False, resamples=30, zero_shot=column)
    assert [one.name for one in report.columns] == ["linear", "prompts"]
    assert report.column("prompts").params["encoder"] == "clip:tiny"
    note = next(one for one in report.notes if one.startswith("Prompts"))
    assert "'t.npz' (clip:tiny) for 7 classes" in note
    assert "Nothing says" not in note
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json").column("prompts").scores.macro_f1 == 1
    folds = cross_compare(heads, rows(), folds=2, singles=False, resamples=30, zero_shot=column)
    np.testing.assert_array_equal(folds.column("prompts").proba, report.column("prompts").proba)
    unnamed = judged(PromptColumns(vectors=texts()))
    assert any("Nothing says that they are of the encoder" in one for one in unnamed.notes)


def without(names, *lost):
    return texts(tuple(name for name in names if name not in lost))


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (PromptColumns(vectors=without(SEVEN, "Sadly_Angry")), ExpressionError, "no prompts for Sadly_Angry, of 7"),
        (PromptColumns(vectors=without(BASIC, "Fear")), ExpressionError, "of another class set: .* needs fear"),
        (
            PromptColumns(vectors=TextVectors(vectors={"cat": np.ones((1, 6)), "dog": -np.ones((1, 6))})),
            ExpressionError, r"of another class set: none of Fearfully_Surprised[\s\S]*there are prompts for: cat, dog",
        ),
        (
            PromptColumns(vectors=texts(weights="ab" * 32, encoder="clip:a"), weights="cd" * 32), ExpressionError,
            r"of two encoders: the vectors of clip:a, image weights ababababab.*'clip' of weights cdcdcd",
        ),
        (PromptColumns(vectors=texts(), block="other"), ExpressionError, "have 6 columns .*'other': 4"),
        (PromptColumns(vectors=texts(), block="clop"), ReportError, "nearest.*clip|did you mean 'clip'"),
        (
            PromptColumns(vectors=TextVectors(vectors={name: np.ones((1, 5)) for name in SEVEN})),
            ReportError, "have 5 columns, and 0 blocks have that width, expected one: other 4, clip 6",
        ),
    ],
)  # fmt: skip
def test_prompts_of_other_classes_or_of_another_encoder_are_refused_before_anything_is_fitted(column, error, message):
    with pytest.raises(error, match=message):
        judged(column)


def test_two_blocks_of_the_vectors_width_are_refused_until_one_is_named():
    test = rows()
    test = replace(test, blocks={**test.blocks, "again": test.blocks["clip"]})
    train = replace(rows(seed=5), blocks={**rows(seed=5).blocks, "again": rows(seed=5).blocks["clip"]})
    ask = {"singles": False, "resamples": 30}
    with pytest.raises(ReportError, match="2 blocks have that width"):
        compare({}, train, test, more=[PromptColumns(vectors=texts())], **ask)
    assert compare({}, train, test, more=[PromptColumns(vectors=texts(), block="clip")], **ask).columns


def test_rows_without_a_direction_are_an_error_that_names_them():
    x = rows().blocks["clip"].copy()
    x[3] = 0
    with pytest.raises(ExpressionError, match="row 3 has no direction"):
        prompted(texts(), SEVEN).predict_proba(x)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"Fear": np.ones((1, 3))}, "two classes or more"),
        ({"Fear": np.ones((1, 3)), "Anger": np.ones((1, 4))}, r"of one width .*Fear \(1, 3\), Anger \(1, 4\)"),
        ({"Fear": np.ones((0, 3)), "Anger": np.ones((1, 3))}, r"Fear \(0, 3\)"),
        ({"Fear": np.ones((1, 3)), "Anger": np.full((1, 3), np.nan)}, "one of 'Anger' is not"),
        ({"Fear": np.ones((1, 3)), "Anger": np.zeros((1, 3))}, "one of 'Anger' is not"),
        ({"Fear": np.ones((1, 3)), "fearful": np.ones((1, 3))}, "'Fear' and 'fearful' mean the same"),
    ],
)
def test_vectors_that_can_stand_for_no_classes_are_refused(vectors, message):
    with pytest.raises(ExpressionError, match=message):
        TextVectors(vectors={name: one.astype(np.float32) for name, one in vectors.items()})


# files


def test_the_shipped_prompts_cover_every_compound_and_every_basic_expression_and_say_whose_they_are():
    found = shipped_prompts()
    assert set(found["compounds"].classes) == set(compound_names())
    assert {emotion(name) for name in found["basic"].classes} == {*AXES, "neutral"}
    assert all("own wording" in one.source for one in found.values())
    for one in found.values():
        every = [text for listed in one.classes.values() for text in listed]
        assert len(set(every)) == len(every)  # no text stands for two classes


def test_prompts_are_read_from_toml_and_json_alike(tmp_path):
    content = {"source": "me", "classes": {"Fear": ["a", "b"], "Ärger": ["c"]}}
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "p.toml").write_text('source = "me"\n[classes]\nFear = ["a", "b"]\n"Ärger" = ["c"]\n', encoding="utf-8")
    found = [read_prompts(tmp_path / name) for name in ("p.json", "p.toml")]
    assert found[0] == found[1] == PromptSet(source="me", classes={"Fear": ("a", "b"), "Ärger": ("c",)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[classes", "is no TOML"),
        ('[clases]\nFear = ["a"]', "unknown keys: 'clases'|lacks the keys: 'classes'"),
        ("[classes]\nFear = 'a'", "p.toml.classes"),
        ("[classes]\nFear = []", "p.toml: class 'Fear' needs prompts .* however: none"),
        ("[classes]\nFear = ['a', ' ']", "without a word"),
        ("[classes]\nFear = ['a', 'a']", "the same one twice"),
        ("[classes]\nFear = ['a']\nafraid = ['b']", "mean the same"),
        ("[classes]\nFear = ['a']\nFear = ['b']", "is no TOML"),
        ("[classes]", "two classes or more, however: none"),
        ("[classes]\nFear = ['a']", "two classes or more, however: Fear"),
        ("[classes]\nFear = [1]\nJoy = ['b']", r"Fear\[0\] must be of type str"),
        ("[classes]\nFear = ['a face', 'a  face ']", "the same one twice"),
        ("[classes]\nFear = ['\u200b']", "without a word"),
        ("[classes]\n' ' = ['a']", "a class needs a name, however: ' '"),
        ("[classes]\nFear = ['a', 'b']\nJoy = ['b', 'a ']", "'Fear' and 'Joy' have the same prompts"),
        ("[classes]\nFear = ['a {} face']\nJoy = ['b']", r"a placeholder that nothing fills: 'a \{\} face'"),
        ("templates = ['a face']\n[classes]\nFear = ['a']\nJoy = ['b']", r"needs \{\} and .*however: 'a face'"),
        ("templates = ['{}, {label}']\n[classes]\nFear = ['a']\nJoy = ['b']", r"no other placeholder.*\{label\}"),
        ("templates = ['{0} face']\n[classes]\nFear = ['a']\nJoy = ['b']", "no other placeholder"),
        ("templates = '{}'\n[classes]\nFear = ['a']\nJoy = ['b']", r"templates must be of type list"),
        ("[classes]\n'\u00c4rger' = ['a']\n'A\u0308rger' = ['b']", "mean the same"),  # one letter, or two
    ],
)
def test_a_file_that_is_no_prompt_set_is_refused_and_says_where(text, message, tmp_path):
    (tmp_path / "p.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ExpressionError, match=message):
        read_prompts(tmp_path / "p.toml")


def test_a_class_that_stands_twice_in_json_is_refused(tmp_path):
    (tmp_path / "p.json").write_text('{"classes": {"Fear": ["a"], "Fear": ["b"], "Joy": ["c"]}}')
    with pytest.raises(ExpressionError, match="a key stands twice"):
        read_prompts(tmp_path / "p.json")


def test_every_text_of_a_class_fills_every_placeholder_of_every_template(tmp_path):
    templates = 'templates = ["a photo of a {} face", "{}: who looks {}?"]\n'
    (tmp_path / "p.toml").write_text(
        templates + '[classes]\nFear = ["fearful", "ängstliches"]\n"悲しみ" = ["悲しい"]\n', encoding="utf-8"
    )
    found = read_prompts(tmp_path / "p.toml")
    assert found.prompts == {
        "Fear": (
            "a photo of a fearful face", "fearful: who looks fearful?",
            "a photo of a ängstliches face", "ängstliches: who looks ängstliches?",
        ),
        "悲しみ": ("a photo of a 悲しい face", "悲しい: who looks 悲しい?"),
    }  # fmt: skip
    plain = PromptSet(classes={"Fear": ("a", "b"), "Joy": ("c",)})
    assert plain.prompts == plain.classes


def test_a_long_vector_of_a_prompt_counts_no_more_than_a_short_one_in_its_classs_direction():
    vectors = {"Fear": np.float32([[3, 0], [0, 5000]]), "Joy": np.float32([[-1, 0.5]])}
    np.testing.assert_allclose(TextVectors(vectors=vectors).direction("Fear"), [0.5**0.5, 0.5**0.5])


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_vectors_are_kept_with_their_encoder_and_prompts_and_read_back(suffix, tmp_path):
    made = replace(
        texts(), prompts=dict.fromkeys(SEVEN, ("a", "b", "ç")), encoder="clip:x", weights="ab" * 32,
        temperature=0.05, source="me",
    )  # fmt: skip
    path = write_text_vectors(tmp_path / f"v.{suffix}", made)
    found = read_text_vectors(path)
    assert found.classes == SEVEN
    for name in SEVEN:
        np.testing.assert_array_equal(found.vectors[name], made.vectors[name])
    kept = ("prompts", "encoder", "weights", "temperature", "source")
    assert [getattr(found, name) for name in kept] == [getattr(made, name) for name in kept]


def test_vectors_of_other_tools_are_read_from_three_forms(tmp_path):
    wanted = texts()
    np.savez(tmp_path / "each.npz", **wanted.vectors)
    listed = np.repeat(np.array(SEVEN), 3)
    np.savez(tmp_path / "listed.npz", vectors=np.concatenate([*wanted.vectors.values()]), classes=listed)
    save_file(dict(wanted.vectors), tmp_path / "v.safetensors")
    lines = [
        ",".join([name, f"text {i}", *(repr(float(one)) for one in row)])
        for name in SEVEN
        for i, row in enumerate(wanted.vectors[name])
    ]
    title = ",".join(["class", "prompt", *(f"d{i}" for i in range(6))])
    (tmp_path / "v.csv").write_text("\n".join([title, *lines]) + "\n")
    for name in ("each.npz", "listed.npz", "v.safetensors", "v.csv"):
        found = read_text_vectors(tmp_path / name)
        assert set(found.classes) == set(SEVEN), name
        for label in SEVEN:
            np.testing.assert_array_equal(found.vectors[label], wanted.vectors[label])
    assert read_text_vectors(tmp_path / "v.csv").prompts[SEVEN[0]] == ("text 0", "text 1", "text 2")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("v.pt", b"", r"is no file of text vectors[\s\S]*cer-feat prompts"),
        ("v.toml", b"", r"--prompts v.toml"),
        ("v.npz", b"PK", "is no .npz"),
        ("v.safetensors", b"\xff" * 40, "is no safetensors"),
        ("v.csv", b"label,a\nFear,1\n", "expected a column class"),
        ("v.csv", b"class,a\nFear,1\nAnger,x\n", r"v.csv:3: could not convert"),
        ("v.csv", b"class,a,b\nFear,1,2\nAnger,1\n", r"v.csv:3: expected 3 fields"),
        ("v.csv", b"class,a,b\nFear,1,2\n", "two classes or more"),
    ],
)
def test_a_file_that_holds_no_text_vectors_is_refused(name, data, message, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ExpressionError, match=message):
        read_text_vectors(tmp_path / name)
    with pytest.raises(ExpressionError, match=r"v2\.npz cannot be read"):
        read_text_vectors(tmp_path / "v2.npz")


def test_a_pickled_array_is_refused_unopened(tmp_path):
    np.savez(tmp_path / "v.npz", vectors=np.array([{"a": 1}, {}], dtype=object), classes=np.array(["a", "b"]))
    with pytest.raises(ExpressionError, match=r"is no \.npz file of plain arrays"):
        read_text_vectors(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", vectors=np.ones((2, 3)), classes=np.arange(2))
    with pytest.raises(ExpressionError, match="need the text of a class each"):
        read_text_vectors(tmp_path / "v.npz")
