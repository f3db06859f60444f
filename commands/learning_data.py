"""What a network is to learn from: manifests mapped onto one class set, in a training and a validation part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from cer_fusion.commands.console import escape
from cer_fusion.commands.options import manifest_and_dataset

if TYPE_CHECKING:
    import numpy as np
    from cer_fusion.backbones import Examples
    from cer_fusion.featstore import ClassSet, Manifest, Sample

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LearningData:
    """Both parts, and the classes that their labels point into."""

    train: Examples
    valid: Examples
    classes: ClassSet
    held_out: bool
    """Whether a manifest had no validation part, so that a share of its training groups became it."""


def learning_data(
    data: Sequence[str],
    *,
    store: Path,
    root: Path | None,
    class_set: str | None,
    soft_labels: Path | None,
    valid_share: float,
    seed: int,
    tell: Tell,
) -> LearningData:
    """Read the manifests, map their labels by name, and choose what to learn from and what to choose the epoch on.

    The validation part of a manifest is its `valid` split, else a share of its `train` split: whole groups, and all
    occurrences of a picture, stand on one side. Its `test` split is not read. Sample ids are made unique by the
    manifest's name where there are several.
    """
    if not 0 < valid_share < 1:
        raise typer.BadParameter(f"must lie between 0 and 1, however: {valid_share}", param_hint="--valid-share")
    found = [manifest_and_dataset(one, store, dataset=None, root=root) for one in data]
    names = [name for _, name in found]
    if len(set(names)) != len(names):
        raise typer.BadParameter(
            f"manifests must have different names, however: {', '.join(names)}", param_hint="--data"
        )
    classes = _classes([manifest for manifest, _ in found], class_set)
    parts: dict[str, list[tuple[str, Sample, Path]]] = {"train": [], "valid": []}
    held_out = False
    for manifest, name in found:
        usable = _mapped(manifest, classes, name, tell)
        held_out |= "valid" not in usable.splits
        for split, samples in _split(usable, name, valid_share, seed, tell).items():
            prefix = f"{name}/" if len(found) > 1 else ""
            parts[split] += [(prefix, sample, manifest.root) for sample in samples]
    votes = _votes(soft_labels, classes)
    tell(
        f"learning {len(classes.labels)} classes ({escape(classes.name)}) from {len(parts['train']):,} samples, "
        f"choosing the epoch on {len(parts['valid']):,}"
    )
    train = _examples(parts["train"], classes, votes, tell)
    return LearningData(
        train=train, valid=_examples(parts["valid"], classes, None, tell), classes=classes, held_out=held_out
    )


def _classes(manifests: Sequence[Manifest], wanted: str | None) -> ClassSet:
    from cer_fusion.featstore import class_set

    if wanted is not None:
        return class_set(wanted)
    sets = {manifest.classes.labels: manifest.classes for manifest in manifests}
    if len(sets) > 1:
        names = ", ".join(found.name for found in sets.values())
        raise typer.BadParameter(
            f"the manifests have different classes ({names}): name one set", param_hint="--class-set"
        )
    return manifests[0].classes


def _mapped(manifest: Manifest, classes: ClassSet, name: str, tell: Tell) -> Manifest:
    """Give the training and validation samples the class set's labels; say which are left out."""
    from cer_fusion.featstore.manifests.class_sets import renaming

    counterpart = renaming(manifest.classes, classes)
    usable = [sample.split in ("train", "valid", "") for sample in manifest.samples]
    part = manifest.keep(usable)
    unknown = Counter(sample.label for sample in part.samples if counterpart.get(sample.label) is None)
    for label, count in unknown.items():
        reason = f"label {label!r} is not in {classes.name}" if label else "no label"
        tell(f"left out of {escape(name)}: {count:,} × {escape(reason)}")
    kept = part.keep([counterpart.get(sample.label) is not None for sample in part.samples])
    samples = tuple(sample._replace(label=counterpart[sample.label] or "") for sample in kept.samples)
    return replace(kept, samples=samples, classes=classes)


def _split(manifest: Manifest, name: str, share: float, seed: int, tell: Tell) -> dict[str, tuple[Sample, ...]]:
    """Cut a manifest into its training and its validation part."""
    from cer_fusion.featstore.errors import ManifestError
    from cer_fusion.featstore.manifests.splitting import hold_out
    from cer_fusion.featstore.pictures import pictures

    if not len(manifest):
        raise ManifestError(
            f"no labelled sample of {name} is in split train or valid, or without a split\n"
            f"  see what it has with: cer-feat manifest, or choose another --class-set"
        )
    if "" in manifest.splits:
        if len(manifest.splits) > 1:
            raise ManifestError(f"some samples of {name} have a split and some have none: give every one a split")
        tell(f"{escape(name)} has no splits: all of it is learnt from")
    if "valid" not in manifest.splits:
        unsplit = replace(manifest, samples=tuple(sample._replace(split="") for sample in manifest.samples))
        digests, unread = pictures.digests(unsplit)
        if unread:
            first, reason = next(iter(unread.items()))
            tell(
                f"[yellow]{len(unread):,} pictures of {escape(name)} cannot be read[/] (first: {escape(first)}: "
                f"{escape(reason)}): whether they repeat others across the two parts is not known"
            )
        repeated = pictures.repeats(unsplit, digests)
        manifest = hold_out(unsplit, share, seed=seed, split="valid", together=repeated)
        tell(f"{escape(name)} has no valid split: {share:.0%} of its training groups choose the epoch")
    return {
        split: tuple(sample for sample in manifest.samples if sample.split == split) for split in ("train", "valid")
    }


def _votes(path: Path | None, classes: ClassSet) -> dict[str, np.ndarray] | None:
    from cer_fusion.backbones import read_soft_labels

    return None if path is None else read_soft_labels(path, classes.labels)


def _examples(
    rows: Sequence[tuple[str, Sample, Path]], classes: ClassSet, votes: dict[str, np.ndarray] | None, tell: Tell
) -> Examples:
    import numpy as np
    from cer_fusion.backbones import Examples
    from cer_fusion.featstore.pictures.pictures import PictureSource

    sources = {root: PictureSource(root) for _, _, root in rows}
    position = {label: i for i, label in enumerate(classes.labels)}
    ids = [prefix + sample.sample_id for prefix, sample, _ in rows]
    y = np.array([position[sample.label] for _, sample, _ in rows], dtype=np.int64)
    soft = None
    if votes is not None:
        soft = np.eye(len(position), dtype=np.float32)[y]
        with_votes = [i for i, sample_id in enumerate(ids) if sample_id in votes]
        soft[with_votes] = np.array([votes[ids[i]] for i in with_votes], dtype=np.float32).reshape(-1, len(position))
        tell(f"{len(with_votes):,} of {len(ids):,} samples learn from votes, the others from their label")
    return Examples(
        ids=ids,
        y=y,
        read=lambda i: sources[rows[i][2]].read(rows[i][1].path),
        soft=soft,
        groups=[prefix + (sample.group or sample.sample_id) for prefix, sample, _ in rows],
    )
