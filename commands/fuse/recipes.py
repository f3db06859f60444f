"""`cer-fuse recipes`: other people's systems, in steps that exist anyway."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt
from ..console import out, out_json
from ..heads import fault_of
from ..outputs import show_table

if TYPE_CHECKING:
    from ...fusion import Recipe
    from ...kit.table import Table


def recipes(
    name: Annotated[str | None, typer.Argument(help="Say all about this one.", show_default="all in a table")] = None,
    recipe_folder: opt.RecipeFolder = None,
    as_json: opt.Json = False,
) -> None:
    """List the recipes: systems of others as TOML files of heads, rules and smoothing, for compare --recipes.

    Files of your own stand in recipes/ beside a project, with the same keys: print one with --json.

    Example: cer-fuse recipes paper
    """
    from ...fusion import choose_recipes, recipes_in

    known = recipes_in(opt.recipe_folder(recipe_folder))
    if name is not None and name not in known:
        choose_recipes(known, [name])  # which says the nearest
    chosen = known if name is None else {name: known[name]}
    if as_json:
        out_json({"recipes": [asdict(one) | {"fault": fault_of(one)} for one in chosen.values()]})
    elif name is None:
        show_table(_table(chosen), "table")
    else:
        _tell(known[name])


def _table(recipes: dict[str, Recipe]) -> Table:
    from ...kit.table import Cell, Table

    rows = tuple(
        (Cell(one.name), Cell(one.system), Cell(one.about), Cell(fault_of(one) or "yes")) for one in recipes.values()
    )
    return Table(
        title="Recipes", header=("recipe", "system", "what it does", "runs here"), rows=rows,
        notes=("cer-fuse recipes NAME says all about one; cer-fuse compare --recipes NAME,… runs them.",),
        labels=1, words=(1, 2, 3),
    )  # fmt: skip


def _tell(recipe: Recipe) -> None:
    fault = fault_of(recipe)
    out(f"{recipe.name}: {recipe.about}")
    out(f"system: {recipe.system}")
    for title, lines in (("source", recipe.source), ("theirs", recipe.theirs), ("chosen here", recipe.ours)):
        for line in lines:
            out(f"{title}: {line}")
    if (head := recipe.head) is not None:
        settings = "".join(f", {key}={value}" for key, value in head.settings.items())
        preset = "" if head.preset is None else f", preset {head.preset}"
        out(f"head: {head.name}{preset}{settings}")
    if recipe.prompts:
        out("answers by prompts: text vectors that stand for classes, --prompts")
    if recipe.blocks:
        out(f"blocks: {', '.join(recipe.blocks)}, and no others")
    if recipe.soft_labels != "never":
        out(f"votes as soft labels: {recipe.soft_labels}")
    if recipe.targets != "never":
        out(f"action units beside the classes: {recipe.targets}")
    if recipe.rule is not None:
        out(f"basic expressions to compounds: {recipe.rule}")
    if recipe.smooth is not None:
        out(f"smoothing over time: {recipe.smooth}")
    out("runs here: " + ("yes" if fault is None else f"no, {fault}"))
    if head is not None or recipe.prompts:
        out(f"{'its answers' if head is None else 'its head'} by hand: {recipe.command}")
