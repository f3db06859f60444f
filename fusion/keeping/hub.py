"""A run on the Hugging Face Hub: its head and a model card leave, nothing about single samples unless asked."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import OutputExistsError
from ...kit.files import write_synced
from ...kit.folders import whole_folder
from ...kit.hub import HubPlace, Parcel, check_licence, library
from ...kit.table import markdown_text, render
from ..errors import ReportError, SavedHeadError
from ..judging.report import Report, report_table
from .head import INFO, HeadInfo, head_files, head_on_hub, read_head_info, refuse_what_is_there
from .runs import CONFUSION, ENVIRONMENT, GROUPS, HEAD, METRICS, PREDICTIONS, REPORT, Run, read_run

CARD = "README.md"
TOLD = (
    "dataset", "train_split", "train_rows", "test_split", "test_rows", "class_set", "accuracy", "macro_f1",
    "in_seconds",
)  # fmt: skip
"""What of `HeadInfo.extra` leaves: no place of this machine."""
_OURS = re.compile(r"head\.\w+|[a-z0-9][a-z0-9-]*\.(safetensors|ubj|txt|skops)|metrics\.json|environment\.json|"
                   r"confusion\.png|predictions\.csv|groups\.csv")  # fmt: skip


def run_parcel(
    folder: Path, place: HubPlace, *, licence: str | None = None, answers: bool = False, rows: bool = False
) -> Parcel:
    """Lay out what of a kept run goes to the Hub; every file is checked against its digest first.

    The head, its card, the figures, the libraries it was fitted with and the confusion matrix. No sample id, no path,
    no answer about a single sample, and no place or name of this machine.

    Parameters
    ----------
    folder : path
        Of the run.
    place : HubPlace
        Where it goes; the card says how to load it from there.
    licence : str, optional
        As the Hub writes it: ``mit``, ``cc-by-nc-4.0``. None: the card says that none was named.
    answers : bool
        Send the answers on the judged rows too, with sample ids, labels and groups.
    rows : bool
        Send a head that holds rows it learned from.

    Raises
    ------
    ReportError, SavedHeadError
        If it is no whole run, or the head holds training rows and nobody asked for them.
    """
    check_licence(licence)
    folder = Path(folder)
    run = read_run(folder)
    info = read_head_info(folder / HEAD)
    if not rows and (held := rows_held(folder / HEAD, info)):
        raise ReportError(
            f"the head {info.head!r} holds {held:,} of the rows that it learned from (features of single samples), and "
            "they would leave with it\n  send another head, or ask for that: --with-rows"
        )
    info = replace(info, extra={name: info.extra[name] for name in TOLD if name in info.extra})
    files: dict[str, bytes | Path] = {
        CARD: model_card(run, Report.load(folder / REPORT), info, place, licence=licence, answers=answers).encode(),
        INFO: info.to_bytes(),
        **{name: (folder / HEAD / name).read_bytes() for name in info.files},
        **{name: (folder / name).read_bytes() for name in (METRICS, ENVIRONMENT, CONFUSION)},
    }
    for name in (PREDICTIONS, GROUPS) if answers else ():
        if (folder / name).is_file():
            files[name] = (folder / name).read_bytes()
    return Parcel(
        files=files, owned=lambda name: _OURS.fullmatch(name) is not None, mark=INFO,
        message=f"A {info.head} head on {', '.join(run.config.features)}, by cer-fusion",
    )  # fmt: skip


def rows_held(folder: Path, info: HeadInfo) -> int:
    """Return how many training rows a kept head holds, as neighbours and support vectors are; 0 for a head of weights.

    They are arrays as wide as the features with more rows than there are classes, and not square.
    """
    widths = {width for _, width in info.blocks} | {sum(width for _, width in info.blocks)}
    k, found = len(info.classes), 0
    for name, array in _arrays_of(head_files(lambda name: folder / name, info)):
        looks = array.ndim == 2 and array.shape[1] in widths and array.shape[0] not in (array.shape[1], 1)
        if name.rpartition("/")[2] == "rows" or (name.endswith(".npy") and looks and array.shape[0] > k):
            found = max(found, len(array))
    return found


def _arrays_of(files: Mapping[str, bytes]) -> list[tuple[str, NDArray[Any]]]:
    from safetensors.numpy import load

    found: list[tuple[str, NDArray[Any]]] = []
    for name, data in files.items():
        if name.endswith(".safetensors"):
            found += load(data).items()
        elif name.endswith(".skops"):
            with zipfile.ZipFile(BytesIO(data)) as archive:
                for entry in archive.namelist():
                    if entry.endswith(".npy"):
                        array = np.lib.format.read_array(BytesIO(archive.read(entry)), allow_pickle=False)
                        found.append((entry, array))
    return found


def pull_head(place: HubPlace, folder: Path, *, overwrite: bool = False) -> tuple[HeadInfo, str]:
    """Fetch a head into a new folder, whole or not at all; every file is checked against its digest.

    Returns
    -------
    info : HeadInfo
    commit : str
        That it is of.

    Raises
    ------
    HubError
        If it is not there or cannot be reached.
    SavedHeadError
        If what is there is no head, or not as it was written, or the folder is in the way.
    """
    refuse_what_is_there(folder, overwrite)
    at, info, commit = head_on_hub(place)
    files = head_files(at, info)
    try:
        with whole_folder(folder, overwrite=overwrite) as built:
            for name, data in {**files, INFO: info.to_bytes()}.items():
                write_synced(built / name, data)
    except OutputExistsError as error:
        raise SavedHeadError(str(error)) from None
    return info, commit


def model_card(run: Run, report: Report, info: HeadInfo, place: HubPlace, *, licence: str | None, answers: bool) -> str:
    """Write the card of a run, markdown below YAML: what it is, how good, on what, in which order of classes.

    Figures stand with their intervals, as the run was judged. Nothing in it is about a single sample.
    """
    config = run.config
    blocks = ", ".join(f"`{name}` ({width:,})" for name, width in info.blocks)
    judged = f"{len(run.predictions.ids):,} rows of `{config.test_split}`"
    classes = [
        f"| {i} | {markdown_text(name)} | {learned:,} | {support:,} |"
        for i, (name, learned, support) in enumerate(
            zip(config.classes, config.train_supports, run.scores.supports.tolist(), strict=True)
        )
    ]
    own = {name: value for name, value in config.params.items() if name != "blocks"}
    made = [f"{name} {version}" for name, version in info.versions.items()]
    threads = ", ".join(f"{name} {count}" for name, count in info.threads.items())
    digest = f"`{config.data_digest}`" if config.data_digest else "none was kept with this run"
    rights = (
        f"`{licence}`, as its owner says. The datasets and the weights of the backbones have licences of their own."
        if licence
        else "None was named: ask its owner. The datasets and the weights of the backbones have licences of their own."
    )
    parts = [
        _front(run, report, licence),
        f"# {markdown_text(place.name.partition('/')[2])}",
        f"A `{config.head}` head of [cer-fusion](https://pypi.org/project/cer-fusion/) for "
        f"{len(config.classes)} classes (`{config.class_set}`). It takes features of faces, not pictures: "
        f"{blocks}, joined in this order, {sum(width for _, width in info.blocks):,} columns of float32.",
        "## Use",
        "```python\nfrom cer_fusion.fusion import load_head\n\n"
        f'head = load_head("hf://{place.name}")  # revision="a commit" for the very files of today\n'
        "probabilities = head.predict_proba(X)  # (n, D) -> (n, k)\n```",
        "Every file is checked against the digest in `head.json` before it is parsed, and nothing is unpickled.",
        "## Results",
        render(report_table(report, class_intervals=True), "markdown").strip(),
        "## Classes, in order",
        "| column | class | rows learned from | rows judged |\n|---:|---|---:|---:|\n" + "\n".join(classes),
        "## Data",
        _listed(
            {
                "dataset": f"`{config.dataset}`",
                "learned from": f"{sum(config.train_supports):,} rows of `{config.train_split}`"
                + (", by soft labels" if config.soft_labels else ""),
                "judged on": judged,
                "digest of samples, labels and splits (SHA-256)": digest,
                "digest of the run (SHA-256)": f"`{run.digest}`",
                **{f"feature `{name}`": f"`{print_}`" for name, print_ in config.fingerprints.items()},
            }
        ),
        "A fingerprint fixes a feature's numbers: architecture, weights, preprocessing, precision. Features of other "
        "fingerprints are refused.",
        "## Training",
        _listed(
            {
                "settings": f"`{json.dumps(own, ensure_ascii=False, default=str)}`",
                "seed": f"{config.seed}",
                "seconds": f"{run.fit_s:.2f}",
                "computed with": ", ".join(made) + (f"; threads: {threads}" if threads else ""),
            }
        ),
        "## Limits",
        f"Judged once, on {judged} of one dataset: other cameras, people and ways of labelling give other figures. An "
        "expression is not a feeling, and no decision about a person should rest on one.",
        "## Licence",
        rights,
        *(
            ["`predictions.csv` holds the answer to every judged sample, with its id and label, as was asked for."]
            if answers
            else []
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _front(run: Run, report: Report, licence: str | None) -> str:
    """The YAML at a card's beginning, as the Hub reads it."""
    made = library()
    config, column = run.config, report.columns[0]
    name = f"{config.head} on {', '.join(config.features)}"
    results = [
        made.EvalResult(
            task_type="image-classification", task_name="Facial expression recognition", dataset_type=config.dataset,
            dataset_name=config.dataset, dataset_split=config.test_split, metric_type=kind, metric_name=words,
            metric_value=value, metric_args={"interval": [interval.low, interval.high], "level": report.level},
        )
        for kind, words, value, interval in (
            ("accuracy", "Accuracy", column.mean("accuracy"), column.accuracy),
            ("f1", "Macro F1", column.mean("macro_f1"), column.macro_f1),
        )
    ]  # fmt: skip
    data = made.ModelCardData(
        library_name="cer-fusion", license=licence or "unknown", model_name=name, metrics=["accuracy", "f1"],
        eval_results=results,
        tags=["cer-fusion", "facial-expression-recognition", "compound-expression-recognition", "feature-fusion"],
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---"


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
