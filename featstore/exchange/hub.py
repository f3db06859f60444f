"""Features as a dataset on the Hugging Face Hub: a card, and a Parquet file a split, which `datasets` reads.

Rows, labels and splits leave; sample ids, groups and paths only where they are asked for; a manifest's columns of
numbers never.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...kit.hub import HubPlace, Parcel, check_licence, library
from ...kit.table import markdown_text
from ..errors import FeatstoreError
from ..rows.view import View
from .export_forms import write_parquet
from .exporting import KEY, exported_of, note_of, note_text

CARD, NOTE = "README.md", "export.json"
UNSPLIT = "unsplit"
"""What the samples without a split are called: `datasets` takes no empty name."""
_SPLIT = re.compile(r"\w+(\.\w+)*")
_OURS = re.compile(r"data/[^/]+\.parquet|export\.json")


def features_parcel(
    view: View,
    folder: Path,
    place: HubPlace,
    *,
    dataset: str,
    licence: str | None = None,
    paths: Sequence[str] | None = None,
    ids: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Parcel:
    """Write a view as files that go to the Hub: columns `label` (named classes), `split`, and a list a block.

    The manifest's columns of numbers stay here: annotations are their owner's to publish.

    Parameters
    ----------
    view : View
        Best taken with `mapped=True`: then memory does not grow with the store.
    folder : Path
        Where the Parquet files are made.
    place : HubPlace
        Where they go.
    dataset : str
        Its name in the store, for the card.
    licence : str, optional
        As the Hub writes it. None: the card says that none was named.
    paths : sequence of n str, optional
        Of the pictures, which then are a column `path`.
    ids : bool
        Send the columns `sample_id` and `group` too.
    progress : callable (stage, done, total), optional

    Raises
    ------
    FeatstoreError
        If a split's name is none for `datasets`, or pyarrow is not installed.
    """
    check_licence(licence)
    parts = Counter(split or UNSPLIT for split in view.splits)
    if strange := [split for split in parts if not _SPLIT.fullmatch(split)]:
        raise FeatstoreError(f"split {strange[0]!r} is no name that datasets takes: letters, digits, '_' and '.'")
    text = note_text(note_of(view, exported_of(view), "parquet", {"dataset": dataset}))
    files: dict[str, bytes | Path] = {}
    columns: list[str] = []
    for split in parts:
        mask = [(one or UNSPLIT) == split for one in view.splits]
        part = view.take(mask)
        exported = replace(exported_of(part, progress=progress), further={})
        there = None if paths is None else [path for path, taken in zip(paths, mask, strict=True) if taken]
        known = exported.texts(there)
        texts = {name: known[name] for name in known if ids or name not in ("sample_id", "group")}
        made = folder / f"{split}.parquet"
        write_parquet(exported, made, (KEY, text), texts=texts, coded=True)
        files[f"data/{split}-00000-of-00001.parquet"] = made
        columns = [*texts, *exported.blocks]
    card = _card(view, place, dataset=dataset, licence=licence, parts=parts, columns=columns)
    return Parcel(
        files={CARD: card.encode(), NOTE: f"{text}\n".encode(), **files},
        owned=lambda name: _OURS.fullmatch(name) is not None, mark=NOTE,
        message=f"Features {', '.join(view.fingerprints)}, by cer-fusion",
    )  # fmt: skip


def _card(
    view: View, place: HubPlace, *, dataset: str, licence: str | None, parts: Mapping[str, int], columns: Sequence[str]
) -> str:
    data = library().DatasetCardData(
        license=licence or "unknown",
        tags=["cer-fusion", "features", "facial-expression-recognition"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in parts],
            }
        ],
    )
    labelled = Counter(view.y.tolist())
    classes = [f"| {i} | {markdown_text(name)} | {labelled[i]:,} |" for i, name in enumerate(view.classes)]
    widths = ", ".join(f"`{name}` ({width:,})" for name, width in view.widths.items())
    first = next(iter(parts))
    rights = f"`{licence}`, as its owner says." if licence else "None was named: ask its owner."
    return "\n\n".join(
        [
            f"---\n{data.to_yaml()}\n---",
            f"# {markdown_text(place.name.partition('/')[2])}",
            f"Features of {len(view):,} faces of `{dataset}`, as [cer-fusion](https://pypi.org/project/cer-fusion/) "
            f"keeps them: {widths}, float32. No picture is in it.",
            "```python\nfrom datasets import load_dataset\n\n"
            f'rows = load_dataset("{place.name}", split="{first}").with_format("numpy")\n```',
            f"Columns: {', '.join(f'`{name}`' for name in columns)}. `label` is a position in the classes below, and "
            "empty where a face has none.",
            "## Splits",
            "\n".join(f"- `{split}`: {count:,} rows" for split, count in parts.items()),
            f"## Classes, in order (`{view.class_set.name}`)",
            "| label | class | rows |\n|---:|---|---:|\n" + "\n".join(classes),
            "## Features",
            "\n".join(f"- `{name}`: `{fingerprint}`" for name, fingerprint in view.fingerprints.items()),
            "A fingerprint (SHA-256) fixes a feature's numbers: architecture, weights, preprocessing, precision.",
            "## Licence",
            f"{rights} The pictures, and the weights that made the rows, have licences of their own; features can tell "
            "of the people that they are of.",
        ]
    ) + "\n"  # fmt: skip
