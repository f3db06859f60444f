"""`cer-fuse compare`: heads and single backbones side by side, in the paper's layout."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..answering import encoder_rows
from ..console import escape, out_json, progress_bar, say
from ..data import Task, basic_rows, load_folds_task, load_task, schooled
from ..heads import (
    Heads,
    build_head,
    compute,
    datasets_of,
    fault_of,
    named_heads,
    read_runs,
    refuse_unused_targets,
    refuse_unused_votes,
    settings_of,
    targeted,
)
from ..outputs import check_outputs, figure_output, keep_and_show, print_table, track_report
from ..runners import fitted

if TYPE_CHECKING:
    from ...fusion import PromptColumns, Recipe, Rows
    from ...fusion.judging.comparison import Comparison

RESULT = Path("runs") / "compare"
"""Stands for what is written unasked, whose name is known later."""
TITLE = "zero-shot"
"""What `--set` calls the head: `--set zero-shot.C=0.1`."""


@opt.forms(
    trained=opt.Form(
        opt.AS_KEPT,
        (
            "heads", "features", "data", "store", "setting", "singles", "cv", "near", "zero_shot", "train_split",
            "missing", "memory", "soft_labels", "targets", "basic", "runner", "recipes", "prompts",
        ),
    ),
    divided=replace(opt.DIVIDED, within="trained"),
    here=replace(opt.HERE, within="trained"),
    slurm=replace(opt.ON_SLURM, within="trained"),
    ray=replace(opt.ON_RAY, within="trained"),
    judging=opt.Form(
        "a kept comparison is printed as it was judged: name its runs, or heads, to judge anew",
        ("baseline", "metrics", "seed"),
    ),
    alone=opt.Form(
        "is for the columns of single backbones, which --no-singles leaves out, and --recipes without --heads too",
        ("single_head",),
        within="trained",
    ),
    named=opt.Form("says where recipes are: name some with --recipes", ("recipe_folder",), within="trained"),
    split=opt.Form("--cv judges on the rows it learns from, fold by fold", ("test_split",), within="trained"),
    seeded=opt.Form("with --cv every repeat has seeds of its own: use --repeats", ("seeds",), within="trained"),
    repeated=opt.Form("repeats are of a cross-validation: give --cv 5 as well", ("repeats",), within="trained"),
    elsewhere=opt.Form(
        "says how --zero-shot DATASET answers: name the dataset", ("zero_shot_head",), within="trained"
    ),
    paired=opt.Form(
        "says how two expressions make a compound: name the dataset that they are learned from, --zero-shot DATASET, "
        "or --prompts for them",
        ("rules",),
        within="trained",
    ),
    computing=replace(opt.COMPUTING, within="trained"),
    table=opt.TABLE,
    noted=replace(opt.NOTED, within="table"),
    written=opt.WRITTEN,
)  # fmt: skip
def compare(
    ctx: typer.Context,
    runs: opt.RunsOrKept = None,
    heads: Heads = None,
    features: opt.Features = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    setting: opt.Setting = None,
    singles: opt.Singles = True,
    single_head: Annotated[
        str | None,
        typer.Option(
            "--single-head",
            help="The head that learns from a single backbone.",
            show_default="as --baseline, or the first of --heads, with its settings",
        ),
    ] = None,
    baseline: opt.Baseline = None,
    cv: Annotated[
        int | None,
        typer.Option("--cv", min=2, help="Folds to cross-validate in, instead of a test split.", show_default=False),
    ] = None,
    near: opt.Near = None,
    soft_labels: opt.SoftLabels = None,
    targets: opt.Targets = None,
    basic: opt.Basic = None,
    repeats: Annotated[int, typer.Option(min=1, help="With --cv: cut the rows into folds so often.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Without --cv: fit each head with so many seeds.")] = 1,
    zero_shot: Annotated[
        str | None,
        typer.Option(
            "--zero-shot",
            help="A dataset in the store with basic expressions and the same features: a head that learned only from "
            "it answers the compounds.",
            show_default=False,
        ),
    ] = None,
    zero_shot_head: Annotated[
        str | None, typer.Option("--zero-shot-head", help="With --zero-shot: the head.", show_default="linear")
    ] = None,
    rules: Annotated[
        list[str] | None,
        opt.several(
            "--rules",
            help="With --zero-shot, or --prompts for basic expressions: how two make a compound, a column each: "
            "sum,likely_sum,product,harmonic,minimum.",
            show_default="product",
        ),
    ] = None,
    prompts: opt.Prompts = None,
    recipes: Annotated[
        list[str] | None,
        opt.several(
            "--recipes",
            help="Other systems as columns, of cer-fuse recipes; or all that can run. Without --heads nothing else is "
            "compared.",
            show_default=False,
        ),
    ] = None,
    recipe_folder: opt.RecipeFolder = None,
    metrics: opt.MoreMetrics = None,
    track: opt.TrackedBy = None,
    class_intervals: Annotated[
        bool, typer.Option("--class-intervals", help="Write the intervals of every class into the table.")
    ] = False,
    train_split: opt.TrainSplit = "train",
    test_split: opt.TestSplit = None,
    missing: opt.Missing = "error",
    memory: opt.Memory = None,
    runner: opt.Runner = None,
    parts: opt.FitParts = None,
    workers: opt.Workers = None,
    slurm: opt.Slurm = None,
    ray_address: opt.RayAddress = None,
    num_gpus: opt.NumGpus = None,
    format: opt.TableFormat = "table",
    explain: opt.Explain = False,
    as_json: opt.Json = False,
    figure: opt.FigurePath = None,
    output: opt.KeptPath = None,
    overwrite: opt.Overwrite = False,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
) -> None:
    """Compare heads: a column a head and a single backbone, a row a class, accuracy and F1 with intervals, seconds.

    Settings of one of several heads: --set mlp.hidden=[512],linear.C=0.1; zero-shot is a HEAD too.

    Given run folders of cer-fuse train, it fits nothing: the same table from the predictions they keep.

    Every comparison is kept, and printed again from its file: in another format, with notes in full, as a figure.

    Example: cer-fuse compare --heads mlp,linear,late --figure confusion.png

    Example: cer-fuse compare runs/rafdb-compare.json --format latex

    Example: cer-fuse compare --heads linear,late --baseline linear --cv 5 --repeats 2

    Example: cer-fuse compare --data compound --heads linear --zero-shot basic --rules sum,product

    Example: cer-fuse compare --recipes paper,hsemotion,avcer --zero-shot basic --baseline paper

    Example: cer-fuse compare --heads linear --features clip --prompts prompts.safetensors
    """
    from ...fusion import Report
    from ...fusion.keeping.comparison import compare_runs
    from ...fusion.page.figures import draw_confusions

    named = recipes or []
    chosen = [] if named and heads is None else named_heads(heads)
    singles = singles and bool(chosen)
    kept = runs[0] if runs and len(runs) == 1 and runs[0].suffix == ".json" else None
    if kept is not None:
        output, figure = output or opt.NOTHING, figure or opt.NOTHING
    opt.only(
        ctx, trained=not runs, judging=kept is None, alone=singles, split=cv is None, seeded=cv is None,
        repeated=cv is not None, elsewhere=zero_shot is not None, paired=zero_shot is not None or prompts is not None,
        named=named, computing=not runs
        and (bool(named) or compute([*chosen, *([zero_shot_head] if zero_shot and zero_shot_head else [])])),
        table=not as_json, noted=format == "table",
        written=output != opt.NOTHING or figure != opt.NOTHING, **opt.runs(runner, workers),
    )  # fmt: skip
    asked, trackers = opt.metrics_of(metrics), opt.trackers_of(track, say)
    check_outputs(
        {"--output": None if output == opt.NOTHING else output, "--figure": figure_output(figure)}, overwrite=overwrite,
        apart_from=(kept,), unasked={"--output": RESULT} if None in (output, figure) else {},
    )  # fmt: skip
    if kept is not None:
        name, report = kept.stem, Report.load(kept)
    elif runs:
        found = read_runs(runs)
        name, report = datasets_of(found), compare_runs(found, baseline=baseline, seed=seed, metrics=asked)
    else:
        plan = CompareOptions(
            heads=chosen, settings=settings_of(setting, chosen if zero_shot is None else [*chosen, TITLE]),
            features=features, data=data, store=store, missing=missing, splits=(train_split, test_split), near=near,
            soft_labels=soft_labels, targets=targets, basic=basic, budget=opt.memory_budget(memory), cv=cv,
            repeats=repeats, seeds=seeds,
            device=device, seed=seed,
            zero_shot=zero_shot, zero_shot_head=zero_shot_head, rules=rules, prompts=prompts, recipes=named,
            recipe_folder=opt.recipe_folder(recipe_folder),
            options={"singles": singles, "single_head": single_head, "baseline": baseline, "seed": seed,
                     "metrics": asked},
        )  # fmt: skip
        with progress_bar() as step:
            report = fitted(
                plan, runner=runner, parts=parts, workers=workers, slurm=slurm, ray_address=ray_address,
                num_gpus=num_gpus, progress=step, name="compare",
            )  # fmt: skip
        name = plan.dataset
    place = keep_and_show(
        report,
        lambda: (
            out_json(report.to_dict())
            if as_json
            else print_table(report, format, class_intervals=class_intervals, explain=explain)
        ),
        lambda: draw_confusions([(c.name, c.scores) for c in report.columns]),
        output=output,
        figure=figure,
        default=Path("runs") / f"{name}-compare.png",
        keep=Path("runs") / f"{name}-compare.json",
        overwrite=overwrite,
    )
    given = {"dataset": name, "seed": report.seed, "folds": report.folds, "split": report.split,
             "fingerprints": report.fingerprints}  # fmt: skip
    told = track_report(
        report, trackers, run=name if kept is not None else f"{name}-compare", config=given, kept=kept or place
    )
    if trackers and not told and kept is not None:  # nothing else was to be done
        raise typer.Exit(1)


@dataclass(kw_only=True)
class CompareOptions:
    """What `cer-fuse compare` was asked for; any process makes the same fits of it."""

    heads: list[str]
    settings: dict[str, dict[str, Any]]
    features: list[str] | None
    data: str | None
    store: Path
    missing: opt.Missing
    splits: tuple[str, str | None]
    near: float | None
    soft_labels: Path | None
    targets: Path | None
    basic: str | None
    budget: float
    cv: int | None
    repeats: int
    seeds: int
    device: str
    seed: int
    zero_shot: str | None
    zero_shot_head: str | None
    rules: list[str] | None
    prompts: Path | None
    recipes: list[str]
    recipe_folder: Path | None
    options: dict[str, Any]
    """Of `fusion.compare`."""
    dataset: str = field(default="", repr=False)
    """The dataset's name, once it is known."""

    def planned(self, pieces: int) -> Comparison:
        """Open the rows and plan the fits."""
        from ...fusion.judging.comparison import comparison, cross_comparison
        from ...fusion.judging.zero_shot import ZeroShotColumns

        recipes = self._recipes()  # before rows are read: a name may be wrong
        self._refuse_unused_votes(recipes)
        if not any(one.targets != "never" for one in recipes):
            refuse_unused_targets(self.targets, self.heads)
        found = (self.store, self.data, self.features, self.missing)
        more: Any = {"near": self.near, "soft_labels": self.soft_labels}
        if self.cv is None:
            task = load_task(*found, *self.splits, self.budget, **more)
        else:
            task = load_folds_task(*found, self.splits[0], self.budget, **more)
        task = targeted(task, self.heads, self.targets, wanted=any(one.targets != "never" for one in recipes))
        self.dataset = task.dataset
        built = {
            name: build_head(name, task, self.settings[name], device=self.device, seed=self.seed) for name in self.heads
        }
        task = schooled(
            task, self.basic, list(built.values()), self.store, self.splits[0], self.missing, self.budget,
            wanted=any(one.basic != "never" for one in recipes),
        )  # fmt: skip
        options = dict(self.options)
        basic = None
        if self.zero_shot is not None:
            basic = basic_rows(
                self.store, self.zero_shot, task=task, train_split=self.splits[0], missing=self.missing,
                budget=self.budget,
            )  # fmt: skip
            if self.rules or self.zero_shot_head or not any(one.rule for one in recipes):
                name, rules = self.zero_shot_head or "linear", tuple(self.rules or ()) or ("product",)
                head = build_head(name, task, self.settings[TITLE], device=self.device, seed=self.seed)
                options["zero_shot"] = ZeroShotColumns(head=head, rows=basic[0], rules=rules, source=basic[1])  # type: ignore[arg-type]
            elif self.settings[TITLE]:
                raise typer.BadParameter(
                    "recipes have their own settings: name --zero-shot-head too for a column beside them",
                    param_hint="--set",
                )
        texts = None if self.prompts is None else self._texts(task)
        options["more"] = self._columns(recipes, task, basic, texts)
        if texts is not None and not any(one.prompts for one in recipes):
            options["more"].append(texts)
        if not built and not options["more"] and "zero_shot" not in options:
            raise typer.BadParameter("no recipe can run on these rows: see above", param_hint="--recipes")
        if self.cv is None:
            return comparison(built, task.train, task.test, seeds=self.seeds, **options)
        return cross_comparison(built, task.train, folds=self.cv, repeats=self.repeats, **options)

    def _recipes(self) -> list[Recipe]:
        from ...fusion import choose_recipes, recipes_in

        known = recipes_in(self.recipe_folder) if self.recipes else {}
        if self.recipes != ["all"]:
            chosen = choose_recipes(known, self.recipes)
            for one in chosen:
                if fault := fault_of(one):
                    raise typer.BadParameter(f"recipe {one.name!r} cannot run here: {fault}", param_hint="--recipes")
            return chosen
        for one in known.values():
            if one.fault:
                say(f"[yellow]recipe {escape(one.name)} is left out:[/] {escape(one.fault)}")
        return [one for one in known.values() if not one.fault]

    def _refuse_unused_votes(self, recipes: list[Recipe]) -> None:
        if any(one.soft_labels != "never" for one in recipes):
            return
        if self.heads:
            refuse_unused_votes(self.soft_labels, self.heads)
        elif self.soft_labels is not None:
            raise typer.BadParameter(
                f"{', '.join(one.name for one in recipes)} learn from labels: no recipe uses the votes",
                param_hint="--soft-labels",
            )

    def _texts(self, task: Task) -> PromptColumns:
        """Text vectors, and the rows among the task's that they may be held against; it is said which."""
        from ...featstore import Store
        from ...fusion import PromptColumns, read_text_vectors

        assert self.prompts is not None
        vectors = read_text_vectors(self.prompts)
        opened = Store(self.store)
        prints = dict(task.test.fingerprints or {})
        specs = {
            name: opened.feature(f"{name.partition('@')[0]}@{fingerprint}", task.dataset).spec
            for name, fingerprint in prints.items()
        }
        block, weights = encoder_rows(vectors, specs)
        by_pairs = self.zero_shot is None or vectors.standing_for(task.test.classes) is None
        rules: Any = tuple(self.rules or ()) if by_pairs else ()
        say(f"prompts: {len(vectors.classes)} classes of [bold]{escape(self.prompts)}[/], held against {escape(block)}")
        return PromptColumns(vectors=vectors, block=block, weights=weights, rules=rules, source=self.prompts.name)

    def _columns(
        self, recipes: list[Recipe], task: Task, basic: tuple[Rows, str] | None, texts: PromptColumns | None
    ) -> list[Any]:
        """The columns of the recipes; of all of them those that can run, and it is said which cannot."""
        from ...challenge import over_time
        from ...fusion import recipe_columns

        def tell(recipe: Recipe, reason: str) -> None:
            say(f"[yellow]recipe {escape(recipe.name)} is left out:[/] it {escape(reason)}")

        rows, source = basic or (task.train.basic, "")
        return recipe_columns(
            recipes, task.train, test=task.test, basic=rows, source=source, texts=texts, smoother=over_time,
            device=self.device, seed=self.seed, leave_out=tell if self.recipes == ["all"] else None,
        )  # fmt: skip
