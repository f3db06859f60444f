"""`cer-fuse choose`: which predictions to hand in when there are no labels to judge by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.console import escape, out_json, say
from cer_fusion.commands.forms import forms, only
from cer_fusion.commands.options import Json
from cer_fusion.commands.render import TABLE, TableFormat, check_format, show_table


@forms(always=("template", "as_json"), table=TABLE)
def choose(
    ctx: typer.Context,
    candidates: Annotated[list[Path], typer.Argument(help="Two or more CSVs of predictions of the same frames.")],
    template: Annotated[
        Path | None,
        typer.Option(help="Compare the answers to this template, filled in.", show_default="the predicted rows"),
    ] = None,
    format: TableFormat = "table",
    as_json: Json = False,
) -> None:
    """Rank predictions by how close their classes' frequencies come to the challenge's known prior.

    Example: cer-fuse choose mlp.csv late.csv linear.csv --template template.csv
    """
    from cer_fusion.challenge import abaw_ce, answer, choose_by_prior, read_template
    from cer_fusion.challenge.answering import ASSUMES, candidates_table
    from cer_fusion.fusion.keeping.answers import read_predictions

    check_format(format)
    only(ctx, table=not as_json)
    challenge = abaw_ce()
    asked = None if template is None else read_template(template, challenge)
    answers = {}
    for path in candidates:
        found = read_predictions(path)
        answers[str(path)] = (
            challenge.in_order(found).y_pred if asked is None else answer(asked, found, challenge).submission.y
        )
    ranked = choose_by_prior(answers, challenge)
    if as_json:
        out_json({"chosen": ranked[0].name, "candidates": [asdict(one) for one in ranked], "assumes": ASSUMES})
    else:
        show_table(candidates_table(ranked), format)
    say(f"[yellow]This choice assumes[/] that {escape(ASSUMES)}")
