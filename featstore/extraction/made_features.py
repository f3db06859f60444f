"""The features that a run of `extract` makes: one folder for each embedder, by what fixes its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.extraction.embedder import Embedder
from cer_fusion.featstore.rows import files
from cer_fusion.featstore.rows.feature import Feature
from cer_fusion.featstore.rows.spec import Dtype, FeatureSpec, name_for
from cer_fusion.featstore.store import Store

_STALE_S = 3600.0


def make_features(
    embedders: Sequence[Embedder], names: Sequence[str | None], store: Store, dataset: str, dtype: Dtype
) -> list[Feature]:
    """Open or make each embedder's feature, and clean up after runs that were killed.

    Raises
    ------
    FeatstoreError
        If two embedders make the same feature.
    """
    specs = [
        FeatureSpec(
            name=name or name_for(embedder.name),
            identity=embedder.spec(),
            blocks=dict(embedder.blocks),
            dtype=dtype,
            described=embedder.describe(),
        )
        for embedder, name in zip(embedders, names, strict=True)
    ]
    labels = [spec.folder for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise FeatstoreError(f"two of the embedders make one and the same feature, {label}: leave one away")
    features = [store.create_feature(dataset, spec) for spec in specs]
    for folder in (store.path, store.path / dataset, *(feature.folder for feature in features)):
        files.remove_temporaries(folder, _STALE_S)
    return features


def names_of(
    name: str | Sequence[str | None] | None, embedders: Sequence[Embedder], *, several: bool
) -> list[str | None]:
    """What each feature is called, None for the embedder's own name.

    Raises
    ------
    FeatstoreError
        If there is no embedder, or not one name for each.
    """
    names: list[str | None] = [None] * len(embedders)
    if name is not None:
        names = [name] if isinstance(name, str) else list(name)
    if not embedders or len(names) != len(embedders) or (several and isinstance(name, str)):
        raise FeatstoreError(
            f"expected at least one embedder and, if names are given, a list of one for each, however: "
            f"{len(embedders)} embedders, name={name!r}"
        )
    return names
