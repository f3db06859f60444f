"""`cer-fuse`: from features to heads, tables and decisions."""

from __future__ import annotations

from ..console import app as make_app

COMMANDS = {
    "train": (
        "cer_fusion.commands.fuse.train:train",
        "Fit one head, judge it once on the held-out split, and keep it with every choice and answer in a run folder.",
    ),
    "compare": (
        "cer_fusion.commands.fuse.compare:compare",
        "Compare heads: a column a head and a single backbone, a row a class, accuracy and F1 with intervals, seconds.",
    ),
    "heads": (
        "cer_fusion.commands.fuse.heads:heads",
        "List the heads, or the settings of one: what --set and --preset take.",
    ),
    "recipes": (
        "cer_fusion.commands.fuse.recipes:recipes",
        "List the recipes: systems of others as TOML files of heads, rules and smoothing, for compare --recipes.",
    ),
    "ablate": (
        "cer_fusion.commands.fuse.ablate:ablate",
        "Sweep block or decision weights, or settings of a head; choose on inner folds, judge once on the held-out "
        "split.",
    ),
    "diagnose": (
        "cer_fusion.commands.fuse.diagnose:diagnose",
        "Say why a head scores as it does: blocks by Shapley value, agreement, similarity, calibration, hard samples.",
    ),
    "evaluate": (
        "cer_fusion.commands.fuse.evaluate:evaluate",
        "Judge a kept head on labelled samples; it refuses features it did not learn from.",
    ),
    "predict": (
        "cer_fusion.commands.fuse.predict:predict",
        "Give every sample its probabilities: sample_id, label, predicted, one column a class.",
    ),
    "export": (
        "cer_fusion.commands.fuse.export:export",
        "Write a run as one ONNX graph: uint8 RGB faces (b, h, w, 3) to probabilities and embeddings, checked as "
        "written.",
    ),
    "explore": (
        "cer_fusion.commands.fuse.explore:explore",
        "Write a table for Embedding Atlas, FiftyOne and notebooks: a row a sample, its place on a plane, its answer.",
    ),
    "push": (
        "cer_fusion.commands.fuse.hub:push",
        "Put a run's head on the Hugging Face Hub with a model card made from the run; private unless --public.",
    ),
    "pull": (
        "cer_fusion.commands.fuse.hub:pull",
        "Take a head from the Hugging Face Hub; every file is checked against its digest, and nothing is unpickled.",
    ),
    "report": (
        "cer_fusion.commands.fuse.report:report",
        "Write one HTML page without server or network: tables, figures, configuration, and a weight explorer.",
    ),
    "rm": (
        "cer_fusion.commands.fuse.rm:rm",
        "Take kept runs and comparisons away, for good, after saying what goes; nothing that is neither is touched.",
    ),
    "check-table": (
        "cer_fusion.commands.fuse.check_table:check_table",
        "Turn a table of per-class accuracies back into whole numbers of rows, and show the cells that cannot be.",
    ),
    "smooth": (
        "cer_fusion.commands.fuse.smooth:smooth",
        "Smooth probabilities within videos; on labelled ones, score every setting and choose by leaving videos out.",
    ),
    "submit": (
        "cer_fusion.commands.fuse.submit:submit",
        "Answer every row of the ABAW compound-expression template from predictions; or --check a file, or --diff two.",
    ),
    "choose": (
        "cer_fusion.commands.fuse.submit:choose",
        "Rank predictions by how close their classes' frequencies come to the challenge's known prior.",
    ),
}
"""Where each command is, and the first line of its docstring."""

app = make_app("Train and compare fusion heads on cached features, in seconds.", COMMANDS)
