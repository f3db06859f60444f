"""Named blocks in, probabilities out.

`make_head` builds a scikit-learn classifier for the joined blocks of a view: `concat` joins them in memory,
`JoinedRows` leaves them on the disk. `save_head` and `load_head` keep it as JSON and safetensors, bound to the features
it learned from. `scores` judges predictions, `compare` sets heads and single backbones side by side with intervals,
`cross_compare` does so fold by fold, `PromptColumns` answers by text vectors that stand for classes, `recipe_columns`
sets other people's systems beside them, `sweep` tries many block or decision weights at once, `diagnose` says which
blocks carry a head and where it fails. Arrays only: no HDF5, no images. Nothing heavy is imported until a
name below is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.blocks import Grid, concat, parse_grid, parse_simplex, parse_weights, slices, widths_of
    from .data.joined import JoinedRows
    from .data.selecting import Blocks
    from .errors import (
        BlockError,
        ExpressionError,
        FusionError,
        HeadConfigError,
        HeadDataError,
        HeadMismatchError,
        PredictionsError,
        PriorShiftError,
        RecipeError,
        ReportError,
        SavedHeadError,
        SubmissionError,
        SweepError,
        TimelineError,
        UnknownHeadError,
    )
    from .heads import head_names, installed_heads, make_head
    from .heads.settings import MLPConfig
    from .judging.comparison import Report, Rows, compare, cross_compare
    from .judging.diagnosis import Diagnosis, diagnose
    from .judging.metrics import Scores, scores
    from .judging.prompts import PromptColumns, TextVectors, prompted, read_text_vectors
    from .judging.zero_shot import ZeroShot, ZeroShotColumns, compound_proba
    from .keeping.answers import Predictions, read_predictions, write_predictions
    from .keeping.head import HeadInfo, check_compatible, load_head, read_head_info, save_head
    from .keeping.runs import Run, read_run, runs_in
    from .recipes import Recipe, choose_recipes, recipe_columns, recipes_in
    from .sweeps import Axes, Sweep, sweep

# No module may bear the name of a public function: importing the module would put it in the function's place.
_HOMES = {
    "data.blocks": ("Grid", "concat", "parse_grid", "parse_simplex", "parse_weights", "slices", "widths_of"),
    "judging.comparison": ("compare", "cross_compare"),
    "judging.report": ("Report",),
    "data.rows": ("Rows",),
    "data.selecting": ("Blocks",),
    "judging.diagnosis": ("Diagnosis", "diagnose"),
    "errors": (
        "BlockError",
        "ExpressionError",
        "FusionError",
        "HeadConfigError",
        "HeadDataError",
        "HeadMismatchError",
        "PredictionsError",
        "PriorShiftError",
        "RecipeError",
        "ReportError",
        "SavedHeadError",
        "SubmissionError",
        "SweepError",
        "TimelineError",
        "UnknownHeadError",
    ),
    "heads": ("head_names", "installed_heads", "make_head"),
    "heads.settings": ("MLPConfig",),
    "data.joined": ("JoinedRows",),
    "judging.metrics": ("Scores", "scores"),
    "keeping.answers": ("Predictions", "read_predictions", "write_predictions"),
    "keeping.runs": ("Run", "read_run", "runs_in"),
    "keeping.head": ("HeadInfo", "check_compatible", "load_head", "read_head_info", "save_head"),
    "recipes": ("Recipe", "choose_recipes", "recipe_columns", "recipes_in"),
    "sweeps": ("Axes", "Sweep", "sweep"),
    "judging.prompts": ("PromptColumns", "TextVectors", "prompted", "read_text_vectors"),
    "judging.zero_shot": ("ZeroShot", "ZeroShotColumns", "compound_proba"),
}

__all__ = [
    "Axes",
    "BlockError",
    "Blocks",
    "Diagnosis",
    "ExpressionError",
    "FusionError",
    "Grid",
    "HeadConfigError",
    "HeadDataError",
    "HeadInfo",
    "HeadMismatchError",
    "JoinedRows",
    "MLPConfig",
    "Predictions",
    "PredictionsError",
    "PriorShiftError",
    "PromptColumns",
    "Recipe",
    "RecipeError",
    "Report",
    "ReportError",
    "Rows",
    "Run",
    "SavedHeadError",
    "Scores",
    "SubmissionError",
    "Sweep",
    "SweepError",
    "TextVectors",
    "TimelineError",
    "UnknownHeadError",
    "ZeroShot",
    "ZeroShotColumns",
    "check_compatible",
    "choose_recipes",
    "compare",
    "compound_proba",
    "concat",
    "cross_compare",
    "diagnose",
    "head_names",
    "installed_heads",
    "load_head",
    "make_head",
    "parse_grid",
    "parse_simplex",
    "parse_weights",
    "prompted",
    "read_head_info",
    "read_predictions",
    "read_run",
    "read_text_vectors",
    "recipe_columns",
    "recipes_in",
    "runs_in",
    "save_head",
    "scores",
    "slices",
    "sweep",
    "widths_of",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"cer_fusion.fusion.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
