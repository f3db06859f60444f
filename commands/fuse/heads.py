"""`cer-fuse heads`: the heads there are; what one of them can be told."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from ...kit.table import rounded
from .. import options as opt
from ..console import out_json
from ..tables import out_table, out_words


def heads(
    name: Annotated[str | None, typer.Argument(help="A head: its settings, their defaults and what they do.")] = None,
    as_json: opt.Json = False,
) -> None:
    """List the heads, or the settings of one: what --set and --preset take.

    Heads that learn in pieces take rows that do not fit in memory (--memory); heads that learn from votes take
    --soft-labels.

    Example: cer-fuse heads mlp
    """
    from ...fusion.heads import head_class, head_names, installed_heads
    from ...fusion.heads.explained import head_line, measured

    if name is not None:
        _settings(name, as_json)
        return
    here, figures = set(installed_heads()), measured()
    found = [
        {
            "head": one,
            "text": head_line(one),
            "in_pieces": head_class(one).learns_in_pieces,
            "votes": head_class(one).learns_soft_labels,
            "presets": list(head_class(one).presets),
            "installed": one in here,
            "measured": figures["heads"].get(one),
        }
        for one in head_names()
    ]
    if as_json:
        out_json({"heads": found, "measured_on": {key: value for key, value in figures.items() if key != "heads"}})
        return
    rows = [
        [
            entry["head"],
            str(entry["text"]) + ("" if entry["installed"] else f" (pip install 'cer-fusion[{entry['head']}]')"),
            "yes" if entry["in_pieces"] else "",
            "yes" if entry["votes"] else "",
            *_figures(entry["measured"]),
        ]
        for entry in found
    ]
    header = ["head", "what it is", "in pieces", "votes", "fit (s)", "accuracy (%)", "macro F1 (%)"]
    out_table(header, rows, left=4, words={1}, notes=(_measured_on(figures), *_not_measured(found)))
    out_words("and sklearn:MODULE.CLASS, any classifier of scikit-learn; the settings of one: cer-fuse heads NAME")


def _not_measured(found: list[dict[str, Any]]) -> tuple[str, ...]:
    """Why some heads have no figures: these rows have no times, and a plugin's head was not there."""
    blank = [entry["head"] for entry in found if entry["measured"] is None]
    return (f"Not measured there: {', '.join(blank)}.",) if blank else ()


def _figures(measured: dict[str, Any] | None) -> list[str]:
    """Seconds and scores for people; of a head that was not measured, nothing."""
    if measured is None:
        return ["", "", ""]
    return [rounded(measured["fit_cpu_s"]), *(f"{100 * measured[name]:.2f}" for name in ("accuracy", "macro_f1"))]


def _measured_on(figures: dict[str, Any]) -> str:
    dates = sorted({one["measured"] for one in figures["heads"].values()})
    return (
        f"Measured with defaults on {figures['machine']}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: "
        f"{figures['data']}, {figures['columns']:,} columns; processor seconds to fit {figures['train_rows']:,} rows, "
        f"scores on {figures['test_rows']:,} others. On your rows the order may be another: cer-fuse compare."
    )


def _settings(name: str, as_json: bool) -> None:
    from ...fusion.heads import head_class
    from ...fusion.heads.explained import explained_settings, head_line, measured

    settings = [one for one in explained_settings(name) if one.name != "random_state"]  # that is --seed
    presets: dict[str, Any] = {preset: dict(values) for preset, values in head_class(name).presets.items()}
    if as_json:
        listed = [
            {"name": s.name, "default": s.default, "type": s.kind, "text": s.text, "words": list(s.words)}
            for s in settings
        ]
        found = measured()["heads"].get(name)
        out_json({"head": name, "text": head_line(name), "settings": listed, "presets": presets, "measured": found})
        return
    out_words(f"{name}: {head_line(name)}")
    figures = measured()
    if name in figures["heads"]:
        seconds, accuracy, macro_f1 = _figures(figures["heads"][name])
        out_words(f"fit {seconds} s, accuracy {accuracy} %, macro F1 {macro_f1} %. {_measured_on(figures)}")
    rows = [[s.name, as_set(s.default), _text(s.text, s.words)] for s in settings]
    out_table(["setting", "default", "what it does"], rows, left=3, words={1, 2})
    for preset, values in presets.items():
        out_words(f"--preset {preset}: " + ", ".join(f"{key}={as_set(value)}" for key, value in values.items()))


def as_set(value: Any) -> str:
    """A setting's value as ``--set`` takes it: ``null``, ``[256]``; words without quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _text(text: str, words: tuple[str, ...]) -> str:
    """What a setting does, in the words of ``--set``, with all that it takes where that is a closed list."""
    return " ".join(filter(None, (re.sub(r"\bNone\b", "null", text), f"One of {', '.join(words)}." if words else "")))
