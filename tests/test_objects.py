"""What the objects of the package show of themselves, and the tables that other libraries take from them."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import cer_fusion as cer
from cer_fusion.featstore import ClassSet, FeatstoreError, Sample, import_rows
from cer_fusion.fusion import (
    HeadDataError,
    JoinedRows,
    Predictions,
    ReportError,
    Run,
    SavedHeadError,
    SweepError,
    diagnose,
    installed_heads,
    parse_simplex,
    sweep,
)
from cer_fusion.kit import MissingExtraError
from cer_fusion.kit.table import Cell, Table, to_html
from tests.fusion.kept import config_of
from tests.typed import fuse

CLASSES = ("<b>Happily</b>", "Sadly & Angry", "Fearful")
N, LEARN = 120, 80


class Balanced(HTMLParser):
    """Refuses tags that do not close, and collects the names of tags and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> cer.Store:
    folder = tmp_path_factory.mktemp("a <i>place")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N)
    samples = tuple(
        Sample(f"{i}", f"{i}.png", CLASSES[y[i]] if i else "", "train" if i < LEARN else "test", "") for i in range(N)
    )
    manifest = cer.Manifest(samples=samples, classes=ClassSet(name="<u>", labels=CLASSES), root=folder)
    store = cer.Store.create(folder / "store")
    for name, width in (("vit", 40), ("manet", 5)):
        rows = (rng.normal(size=(N, width)) + y[:, None]).astype(np.float32)
        import_rows(rows, manifest.ids, manifest, store, dataset="faces", name=name)
    return store


@pytest.fixture(scope="module", params=[False, True], ids=["loaded", "mapped"])
def view(store: cer.Store, request: pytest.FixtureRequest) -> cer.View:
    return store.view(["vit", "manet"], mapped=request.param)


def halves(store: cer.Store) -> tuple[cer.Rows, cer.Rows]:
    view = store.view(["vit", "manet"])
    return cer.Rows.of(view, where=np.arange(1, LEARN)), cer.Rows.of(view, where=np.arange(LEARN, N))


@pytest.fixture(scope="module")
def report(store: cer.Store) -> cer.Report:
    heads = {"<script>": LogisticRegression(), "bayes": GaussianNB()}
    return cer.compare(heads, *halves(store), baseline="bayes", resamples=50, metrics=("uar",))


def head_of(rows: tuple[cer.Rows, cer.Rows]):
    return cer.make_head("late", member="ridge", blocks=rows[0].widths).fit(rows[0].x(), rows[0].y)


def kept_run(report: cer.Report, train: cer.Rows) -> Run:
    column = report.columns[0]
    names = tuple(report.classes[i] for i in report.y_true)
    answers = Predictions(ids=report.ids, classes=report.classes, proba=column.proba, labels=names)
    config = config_of(report, train, classes=CLASSES)
    return Run(config=config, predictions=answers, groups=None, fit_s=1, predict_s=1, environment={}, digest="d")


@pytest.fixture(scope="module")
def shown(store: cer.Store, report: cer.Report) -> dict[str, object]:
    head, rows = cer.make_head("late", member="ridge"), halves(store)
    grid = parse_simplex("vit,manet:0.1", rows[0].by_feature())
    answers = Predictions(ids=rows[1].ids, classes=CLASSES, proba=head_of(rows).predict_proba(rows[1].x()))
    return {
        "Predictions": answers,
        "Run": kept_run(report, rows[0]),
        "Diagnosis": diagnose(*rows, resamples=20),
        "Feature": store.feature("vit"),
        "Scores": report.columns[0].scores,
        "JoinedRows": JoinedRows(rows[0].blocks),
        "Store": store,
        "Manifest": store.manifest(),
        "View": store.view(["vit", "manet"]),
        "Rows": rows[0],
        "Report": report,
        "Sweep": sweep(head, grid, *rows, resamples=50, folds=2),
    }


PAGES = ("Store", "Manifest", "View", "Rows", "Report", "Sweep", "Predictions", "Run", "Diagnosis")
KINDS = (*PAGES, "Feature", "Scores", "JoinedRows")


@pytest.mark.parametrize("kind", KINDS)
def test_a_repr_is_short_and_names_the_kind(shown, kind):
    assert repr(shown[kind]).startswith(f"<{kind}")
    assert len(repr(shown[kind])) < 400


@pytest.mark.parametrize("kind", PAGES)
def test_the_html_of_an_object_is_whole_and_every_text_in_it_is_escaped(shown, kind):
    page = Balanced(shown[kind]._repr_html_())
    assert page.tags <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "small"}
    assert len(page.text) > 20


def test_the_blocks_of_a_head_and_of_a_selector_stand_in_the_order_of_the_columns():
    blocks = {"vit": 40, "manet": 5}
    head = cer.make_head("mlp", blocks=blocks, epochs=3)
    assert repr(head) == "MLPHead(blocks={'vit': 40, 'manet': 5}, epochs=3)"
    assert repr(cer.Blocks("manet", blocks=blocks)) == "Blocks(blocks={'vit': 40, 'manet': 5}, chosen=('manet',))"
    many = repr(cer.make_head("mlp", blocks={f"block{i}": i for i in range(1, 200)}))
    assert len(many) == 700
    assert many.endswith("…)")
    assert all(repr(cer.make_head(name)).endswith("Head()") for name in installed_heads())


def test_texts_of_other_people_are_shown_as_they_are_written(shown):
    assert "<b>Happily</b>" in Balanced(shown["Manifest"]._repr_html_()).text
    assert "a <i>place" in Balanced(shown["Store"]._repr_html_()).text
    assert "<script>" in Balanced(shown["Report"]._repr_html_()).text


def test_a_column_of_a_report_has_a_short_repr_too(report):
    assert repr(report.columns[1]).startswith("<Column bayes: GaussianNB on vit, manet; accuracy ")


def test_the_html_of_a_table_has_its_cells_rules_and_notes():
    rows = ((Cell("a"), Cell("1", 1.0, best=True)), (Cell("b"), Cell('"2"', 2.0)))
    page = to_html(Table(title="T", header=("", "x"), rows=rows, notes=("n = 2.",), rules=(1,)))
    assert '<tr><th>a</th><td><strong>1</strong></td></tr><tr style="border-top:1px solid"><th>b</th>' in page
    assert "&quot;2&quot;" in page
    assert Balanced(page).text == 'Txa1b"2"n = 2.'


def test_a_damaged_dataset_is_told_in_a_stores_html(tmp_path, store):
    other = cer.Store.create(tmp_path / "s")
    manifest = store.manifest()
    import_rows(np.eye(N, dtype=np.float32), manifest.ids, manifest, other, dataset="d", name="f")
    (tmp_path / "s/d/manifest.json").write_text("{}")
    assert repr(other) == f"<Store {tmp_path / 's'}: d>"
    assert "<td>?</td>" in other._repr_html_()


def test_a_view_becomes_a_frame_whose_numbers_and_labels_are_its_own(view):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = view.to_pandas()
    assert frame.index.tolist() == list(view.ids)
    assert frame.columns[:3].tolist() == ["label", "split", "group"]
    assert frame["label"].cat.categories.tolist() == list(CLASSES)
    assert frame["label"].cat.codes.tolist() == view.y.tolist()
    assert pandas.isna(frame["label"].iloc[0])
    numbers = frame.filter(regex=r"_\d+$")
    assert numbers.columns[[0, 40]].tolist() == ["vit_0", "manet_0"]
    assert (numbers.dtypes == np.float32).all()
    np.testing.assert_array_equal(numbers.to_numpy(), view.join())


def test_a_view_becomes_a_polars_frame(view):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = view.to_polars()
    assert frame.columns == ["sample_id", "label", "split", "group", "vit", "manet"]
    assert frame["label"].null_count() == 1
    np.testing.assert_array_equal(frame["manet"].to_numpy(), np.asarray(view.blocks["manet"]))
    assert polars.DataFrame(view).equals(frame)  # by Arrow's C stream


def test_arrow_libraries_take_a_view_as_it_is(view):
    arrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    table = arrow.table(view)
    assert table.column_names == ["sample_id", "label", "split", "group", "vit", "manet"]
    assert table.schema.field("vit").type == arrow.list_(arrow.float32(), 40)
    assert table["sample_id"].to_pylist() == list(view.ids)
    flat = table["vit"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(flat.reshape(N, 40), np.asarray(view.blocks["vit"]))


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("pandas", cer.View.to_pandas),
        ("polars", cer.View.to_polars),
        ("pyarrow", cer.View.to_arrow),
        ("pyarrow", cer.View.__arrow_c_stream__),
    ],
)
def test_a_library_that_is_not_there_is_named_with_the_way_to_have_it(store, monkeypatch, library, call):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"needs {library}.*\n  pip install") as caught:
        call(store.view(["vit"]))
    assert isinstance(caught.value, ImportError)


def test_a_block_that_is_called_like_a_column_is_refused(store):
    view = cer.View(
        ids=("a",), y=np.zeros(1, np.int64), class_set=ClassSet(name="", labels=("x", "y")), splits=("",), groups=("",),
        blocks={"label": np.ones((1, 2), np.float32)}, fingerprints={},
    )  # fmt: skip
    for call in (view.to_pandas, view.to_polars, view.to_arrow):
        with pytest.raises((FeatstoreError, MissingExtraError), match=r"'label'|not installed"):
            call()


@pytest.mark.parametrize("mask", [[0, 2], [True] * 7, np.arange(N), np.ones((N, 1), bool)], ids=repr)
def test_a_mask_is_one_truth_value_for_each_sample(view, store, mask):
    for call in (view.take, store.manifest().keep):
        with pytest.raises(FeatstoreError, match=rf"a mask must be one truth value for each of {N} samples"):
            call(mask)


def test_masks_choose_the_samples_that_they_are_true_of(view, store):
    mask = [i % 3 == 0 for i in range(N)]
    assert view.take(mask).ids == store.manifest().keep(iter(mask)).ids == tuple(f"{i}" for i in range(0, N, 3))
    rows = cer.Rows.of(view, where=np.arange(1, N))
    at = np.flatnonzero(np.array(mask[1:]))
    for where in (np.array(mask[1:]), mask[1:], at, at.tolist()):
        assert rows.take(where).ids == rows.take(at).ids == view.take(mask).ids[1:]


def test_a_block_that_a_view_does_not_have_is_told_with_those_it_has(view):
    with pytest.raises(KeyError, match=r"no block 'manett' in this view; did you mean 'manet'\?"):
        view.blocks["manett"]


def test_rows_and_manifests_have_a_length_and_a_manifest_its_samples(store):
    train, _ = halves(store)
    assert len(train) == train.n == LEARN - 1
    assert [sample.sample_id for sample in store.manifest()] == list(store.manifest().ids)


def test_rows_without_a_label_are_told_with_how_to_take_the_others(view):
    with pytest.raises(ReportError, match=r"1 of 120 rows of the view have no label.*\n.*where=view.y >= 0"):
        cer.Rows.of(view)
    assert len(cer.Rows.of(view, where=view.y >= 0)) == N - 1


@pytest.mark.parametrize("given", [3, np.eye(3), {"vit": np.eye(3)}], ids=["number", "array", "blocks"])
def test_rows_are_taken_of_a_view_alone(given):
    with pytest.raises(ReportError, match=r"rows are taken of a view, however: \w+\n  open one: .*of arrays: "):
        cer.Rows.of(given)


@pytest.mark.parametrize("grid", ["vit,manet:0.1", {"vit": [0, 1]}, None])
def test_a_sweep_wants_a_grid_and_says_what_makes_one(store, grid):
    head = cer.make_head("late", member="ridge")
    with pytest.raises(
        SweepError, match=r"grid must be a Grid, or Axes of settings, however: \w+\n.*parse_simplex.*parse_grid.*Axes"
    ):
        cer.sweep(head, grid, *halves(store))


def test_what_cannot_be_swept_is_told_as_in_a_comparison(store):
    grid = parse_simplex("vit,manet:0.5", halves(store)[0].by_feature())
    with pytest.raises(ReportError, match=r"cer_fusion.make_head\('late'\)"):
        cer.sweep("late", grid, *halves(store))
    with pytest.raises(ReportError, match="train must be Rows"):
        cer.sweep(cer.make_head("late"), grid, store.view(["vit"]), halves(store)[1])


def test_a_classifier_of_scikit_learn_is_kept_by_its_path_and_told_so(store, tmp_path):
    with pytest.raises(SavedHeadError, match=r"however: GaussianNB\n.*make_head\('sklearn:MODULE.CLASS'\)"):
        cer.save_head(GaussianNB(), tmp_path / "head", fingerprints={})


@pytest.mark.parametrize("progress", ["aut", True, 3])
def test_progress_is_a_word_or_a_function_and_nothing_is_begun_without(store, tmp_path, progress):
    encoder = SimpleNamespace(name="e", blocks={"e": 2}, decode=len, embed=len, spec=dict, describe=dict)
    other = cer.Store.create(tmp_path / "s")
    with pytest.raises(FeatstoreError, match="progress must be 'auto', a callable"):
        cer.extract(encoder, store.manifest(), other, dataset="d", progress=progress)
    assert other.datasets() == []


def test_predictions_become_a_frame_of_labels_and_probabilities(shown):
    pytest.importorskip("pandas", reason="pandas is not installed")
    answers = shown["Run"].predictions
    frame = answers.to_frame()
    assert frame.columns.tolist() == ["label", "predicted", *CLASSES]
    assert frame.index.tolist() == list(answers.ids)
    assert frame["predicted"].tolist() == [CLASSES[i] for i in answers.y_pred]
    np.testing.assert_array_equal(frame[list(CLASSES)].to_numpy(), answers.proba)


def test_a_sweep_becomes_a_frame_of_its_vectors_and_scores(shown):
    pytest.importorskip("pandas", reason="pandas is not installed")
    swept = shown["Sweep"]
    frame = swept.to_frame()
    assert frame[["vit", "manet"]].to_numpy().tolist() == swept.weights.tolist()
    assert np.flatnonzero(frame["chosen"]).tolist() == [swept.chosen]
    assert frame["macro_f1"].tolist() == swept.test.macro_f1.value.tolist()
    assert frame["inner_macro_f1"].tolist() == swept.inner.macro_f1.value.tolist()


def test_a_row_of_a_view_without_a_label_is_no_class_of_a_head(view):
    with pytest.raises(
        HeadDataError, match=r"1 of 120 rows have none \(first: row 0, -1\)\n.*view.take\(view.y >= 0\)"
    ):
        cer.make_head("lda").fit(view.join(), view.y)
    labelled = view.take(view.y >= 0)
    assert cer.make_head("lda").fit(labelled.join(), labelled.y).classes_.tolist() == [0, 1, 2]


def test_a_report_becomes_a_frame_of_unrounded_figures(report):
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = report.to_frame()
    assert frame.index.tolist() == ["<script>", "bayes", "vit", "manet"]
    for column in report.columns:
        row = frame.loc[column.name]
        assert row["accuracy"] == column.scores.accuracy
        assert row["macro_f1_low"] == column.macro_f1.low
        assert [row[f"recall.{name}"] for name in CLASSES] == column.recall.tolist()
        assert row["uar"] == column.figures[0].value
    assert frame["p_macro_f1"].isna().tolist() == [False, True, False, False]


def test_a_report_writes_its_own_latex(report):
    text = report.to_latex()
    assert r"\begin{tabular}{lrrrr}" in text
    assert "[" in report.to_latex(class_intervals=True).split("Happily")[1].splitlines()[0]


def test_results_are_kept_and_read_by_paths_of_text(report, tmp_path):
    report.save(str(tmp_path / "report.json"))
    assert repr(cer.Report.load(str(tmp_path / "report.json"))) == repr(report)


def test_a_manifests_root_may_be_a_text():
    manifest = cer.Manifest(samples=(Sample("a", "a.png"),), classes=ClassSet(name="", labels=()), root="faces")  # type: ignore[arg-type]
    assert manifest.root == Path("faces")


def test_the_script_that_is_checked_for_its_types_runs(store, tmp_path):
    view, labelled = store.view(["vit", "manet"]), cer.Store.create(tmp_path / "s")
    manifest = store.manifest().keep(view.y >= 0)
    for name, rows in view.take(view.y >= 0).blocks.items():
        import_rows(np.asarray(rows), manifest.ids, manifest, labelled, dataset="d", name=name)
    assert fuse(labelled).columns[0].name == "lda"
