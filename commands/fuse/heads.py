"""`cer-fuse heads`: the heads there are; what one of them can be told."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
    from ...fusion.heads.explained import head_line

    if name is not None:
        _settings(name, as_json)
        return
    here = set(installed_heads())
    found = [
        {
            "head": one,
            "text": head_line(one),
            "in_pieces": head_class(one).learns_in_pieces,
            "votes": head_class(one).learns_soft_labels,
            "presets": list(head_class(one).presets),
            "installed": one in here,
        }
        for one in head_names()
    ]
    if as_json:
        out_json({"heads": found})
        return
    rows = [
        [
            entry["head"],
            str(entry["text"]) + ("" if entry["installed"] else f" (pip install 'cer-fusion[{entry['head']}]')"),
            "yes" if entry["in_pieces"] else "",
            "yes" if entry["votes"] else "",
        ]
        for entry in found
    ]
    out_table(["head", "what it is", "in pieces", "votes"], rows, left=4, words={1})
    out_words("and sklearn:MODULE.CLASS, any classifier of scikit-learn; the settings of one: cer-fuse heads NAME")


def _settings(name: str, as_json: bool) -> None:
    from ...fusion.heads import head_class
    from ...fusion.heads.explained import explained_settings, head_line

    settings = [one for one in explained_settings(name) if one.name != "random_state"]  # that is --seed
    presets: dict[str, Any] = {preset: dict(values) for preset, values in head_class(name).presets.items()}
    if as_json:
        listed = [{"name": s.name, "default": s.default, "type": s.kind, "text": s.text} for s in settings]
        out_json({"head": name, "text": head_line(name), "settings": listed, "presets": presets})
        return
    out_words(f"{name}: {head_line(name)}")
    rows = [[s.name, str(s.default), s.text] for s in settings]
    out_table(["setting", "default", "what it does"], rows, left=3, words={1, 2})
    for preset, values in presets.items():
        out_words(f"--preset {preset}: " + ", ".join(f"{key}={value}" for key, value in values.items()))
