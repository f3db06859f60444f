"""A kept head and all that comes before it, made again from what the store knows: pictures in, probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import escape, say
from .heads import head_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..backbones import Backbone
    from ..featstore import FeatureSpec, Store
    from ..fusion import HeadInfo
    from ..fusion.heads.base import Head

BATCH = 32
"""Pictures embedded together."""
CHUNK = 256
"""Pictures that are answered together."""


@dataclass(frozen=True, kw_only=True)
class Recreated:
    """One feature of the head."""

    name: str
    """As the head knows it."""
    backbone: Backbone
    spec: FeatureSpec
    """Of the rows that the head learned from."""

    def rows(self, pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Blocks by the names that the head knows, as a view of the store would give them: (b, d) float32."""
        import numpy as np

        return {
            self.named(block): rows.astype(self.spec.dtype).astype(np.float32)
            for block, rows in self._embedded(pictures).items()
        }

    def named(self, block: str) -> str:
        """What a view calls a block."""
        return self.name if len(self.spec.blocks) == 1 else f"{self.name}.{block}"

    def _embedded(self, pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Embed in halves where the device has no memory for all at once."""
        import numpy as np

        try:
            return self.backbone.embed(pictures)
        except MemoryError:
            if len(pictures) == 1:
                raise
        middle = len(pictures) // 2
        first, second = self._embedded(pictures[:middle]), self._embedded(pictures[middle:])
        return {block: np.concatenate([first[block], second[block]]) for block in first}


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A kept head and all that comes before it: bytes of pictures in, probabilities out."""

    info: HeadInfo
    head: Head
    features: tuple[Recreated, ...]

    @property
    def cuts_faces(self) -> bool:
        """Whether pictures are aligned on the way in."""
        taken = (one.backbone.faces for one in self.features)
        return any(one is not None and "part" not in one.identity() for one in taken)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns."""
        return tuple(str(name) for name in (self.info.class_set or self.info.classes))

    def answers(
        self, pictures: Iterator[tuple[str, bytes]], unusable: dict[str, str]
    ) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        """Yield ids and (b, k) probabilities chunk by chunk; pictures that are none are told in `unusable`."""
        import numpy as np

        from ..featstore.extraction.reading import Decoder, Remarked, Unusable
        from ..fusion import JoinedRows
        from ..fusion.keeping.answers import aligned

        decoder, every = Decoder([one.backbone for one in self.features]), range(len(self.features))
        with ThreadPoolExecutor(2) as pool:
            for chunk in _pieces(pictures, CHUNK):
                ids: list[str] = []
                decoded: list[list[Any]] = []
                for (name, _), found in zip(chunk, pool.map(lambda one: decoder(one[1], every), chunk), strict=True):
                    reason = next((one.reason for one in found.values() if isinstance(one, Unusable)), None)
                    if reason is not None:
                        unusable[name] = reason
                        continue
                    ids.append(name)
                    decoded.append([one.picture if isinstance(one, Remarked) else one for one in found.values()])
                if not ids:
                    continue
                blocks: dict[str, list[Any]] = {name: [] for name, _ in self.info.blocks}
                for start in range(0, len(ids), BATCH):
                    for i, feature in enumerate(self.features):
                        rows = feature.rows(np.stack([one[i] for one in decoded[start : start + BATCH]]))
                        for name in blocks.keys() & rows.keys():
                            blocks[name].append(rows[name])
                joined = JoinedRows({name: np.concatenate(parts) for name, parts in blocks.items()})
                proba = self.head.predict_proba(joined)
                yield ids, aligned(proba, self.head.classes_, len(self.classes), "the kept head")


def answering_of(
    run: Path, store: Path, weights: Sequence[str], code: Sequence[str], device: str, detector: str
) -> Answering:
    """Open a run, find what its features are in the store, and make their backbones again.

    Raises
    ------
    FeatstoreError, BackbonesError, FusionError
        If a feature is not there any more, its weights are others, or the head is damaged.
    """
    from ..backbones.making import recreate
    from ..frames import LooseCrops
    from ..fusion import load_head, read_head_info

    folder = head_folder(run)
    info = read_head_info(folder)
    head = load_head(folder, fingerprints=info.fingerprints)
    opened = store_of(info, store)
    given = named_files(weights, list(info.fingerprints), "--weights")
    written = named_files(code, list(info.fingerprints), "--code")
    features = []
    for name, fingerprint in info.fingerprints.items():
        spec = spec_of(opened, name, fingerprint)
        backbone = recreate(
            name, spec.identity, spec.described, weights=given.get(name), code=written.get(name), device=device,
            faces=lambda way: LooseCrops.again(way, detector),
        )  # fmt: skip
        _check_fingerprint(name, spec, backbone)
        features.append(Recreated(name=name, backbone=backbone, spec=spec))
    say(f"head: [bold]{escape(info.head)}[/] on {escape(', '.join(info.fingerprints))}")
    return Answering(info=info, head=head, features=tuple(features))


def refuse_ungraphed(store: Store, info: HeadInfo) -> None:
    """Refuse features that no graph can hold, before their backbones are made.

    Raises
    ------
    OptionError
        Naming the feature, and why.
    """
    from ..backbones import OptionError
    from ..backbones.recipes import is_own

    for name, fingerprint in info.fingerprints.items():
        kind = spec_of(store, name, fingerprint).described.get("name")
        if isinstance(kind, str) and (kind.startswith("onnx:") or is_own(kind)):
            what = "is an ONNX model of its own" if kind.startswith("onnx:") else "runs code of your own"
            raise OptionError(
                f"{name!r} ({kind}) cannot be put into the graph: it {what}\n  leave the backbones out: --head-only"
            )


def store_of(info: HeadInfo, store: Path) -> Store:
    """The store asked for; where there is none, the one that the run names."""
    from ..featstore import Store

    recorded = Path(str(info.extra.get("store", store)))
    if not (store / "store.json").exists() and (recorded / "store.json").exists():
        say(f"store: [bold]{escape(recorded)}[/], as the run's")
        store = recorded
    return Store(store)


def spec_of(store: Store, name: str, fingerprint: str) -> FeatureSpec:
    from ..featstore import FeatstoreError

    damaged = []
    for dataset in store.datasets():
        features, unopened = store.opened_features(dataset)
        for feature in features:
            if feature.spec.fingerprint == fingerprint:
                return feature.spec
        damaged += [error for label, error in unopened.items() if label.endswith(f"@{fingerprint[:12]}")]
    if damaged:
        raise damaged[0]
    raise FeatstoreError(
        f"{store.path} has no feature {name}@{fingerprint[:12]}, so nothing says how its rows were made\n"
        "  name the store that the head learned from with --store"
    )


def named_files(entries: Sequence[str], names: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not equals and len(names) == 1:
            name, file = names[0], entry
        if name not in names or not file:
            raise typer.BadParameter(
                f"expected FEATURE=FILE with one of {', '.join(names)}, however: {entry!r}", param_hint=option
            )
        found[name] = file
    return found


def _check_fingerprint(name: str, spec: FeatureSpec, backbone: Backbone) -> None:
    """Refuse a backbone whose rows would not be mixed with those in the store."""
    from dataclasses import replace

    from ..featstore import FeatstoreError
    from ..featstore.rows.feature import differences

    made = replace(spec, identity=backbone.spec(), blocks=dict(backbone.blocks))
    if made.fingerprint != spec.fingerprint:
        fields = "; ".join(f"{field}: {before!r}, now {now!r}" for field, before, now in differences(spec, made))
        raise FeatstoreError(
            f"{name!r} cannot be made as the head learned it: {fields}\n  extract it again and train a head on it"
        )


def _pieces(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    piece: list[Any] = []
    for item in items:
        piece.append(item)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece
