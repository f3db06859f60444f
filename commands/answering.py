"""A kept head and all that comes before it, made again from what the store knows: pictures in, probabilities out.

Text vectors that stand for classes answer in a head's place, of rows of the encoder whose text half made them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from ..kit.errors import Masked, nearest
from .console import escape, say
from .heads import head_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..backbones import Backbone
    from ..featstore import FeatureSpec, Store
    from ..frames import FrameSound
    from ..fusion import HeadInfo, JoinedRows, TextVectors

Heard: TypeAlias = "Callable[[float, bool], FrameSound]"
"""Window in seconds, and whether it ends with the frame's time, to what is heard at frames."""

FOREIGN = "foreign"
"""Architecture of rows that were imported, in their identity."""
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
    """What answers of rows, and all that comes before it: bytes of pictures in, probabilities out."""

    blocks: tuple[str, ...]
    """What is asked about, in the order of the columns."""
    classes: tuple[str, ...]
    """Class names in the order of the columns of the answers."""
    ask: Callable[[JoinedRows, Sequence[str]], NDArray[np.float64]]
    """Rows of the blocks and their names in, probabilities (b, k) out."""
    at_once: bool = False
    """Whether it is to be asked about all rows together, since windows of a video reach over chunks of it."""
    features: tuple[Recreated, ...]
    head: Any
    """The kept head, or what answers by prompts."""

    @property
    def cuts_faces(self) -> bool:
        """Whether pictures are aligned on the way in."""
        taken = (one.backbone.faces for one in self.features)
        return any(one is not None and "part" not in one.identity() for one in taken)

    def answers(
        self, pictures: Iterator[tuple[str, bytes]], unusable: dict[str, str]
    ) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        """Yield ids and (b, k) probabilities chunk by chunk; pictures that are none are told in `unusable`."""
        import numpy as np

        from ..featstore.extraction.reading import Decoder, Remarked, Unusable
        from ..featstore.pictures.pictures import reason_of
        from ..fusion import JoinedRows

        decoder, every = Decoder([one.backbone for one in self.features]), range(len(self.features))
        heard = {i: sound for i in every if (sound := getattr(self.features[i].backbone, "heard_by", None)) is not None}

        def decoded_of(one: tuple[str, bytes]) -> list[Any]:
            name, data = one
            found = decoder(data, [i for i in every if i not in heard])
            for i, sound in heard.items():
                try:
                    found |= decoder(sound.content(name)[0], [i])
                except (Masked, OSError, MemoryError) as error:
                    found[i] = Unusable(str(error) if isinstance(error, Masked) else reason_of(error))
            return [found[i] for i in every]

        waiting: list[tuple[list[str], JoinedRows]] = []
        with ThreadPoolExecutor(2) as pool:
            for chunk in _pieces(pictures, CHUNK):
                ids: list[str] = []
                decoded: list[list[Any]] = []
                for (name, _), found in zip(chunk, pool.map(decoded_of, chunk), strict=True):
                    reason = next((one.reason for one in found if isinstance(one, Unusable)), None)
                    if reason is not None:
                        unusable[name] = reason
                        continue
                    ids.append(name)
                    decoded.append([one.picture if isinstance(one, Remarked) else one for one in found])
                if not ids:
                    continue
                blocks: dict[str, list[Any]] = {name: [] for name in self.blocks}
                for start in range(0, len(ids), BATCH):
                    for i, feature in enumerate(self.features):
                        rows = feature.rows(np.stack([one[i] for one in decoded[start : start + BATCH]]))
                        for name in blocks.keys() & rows.keys():
                            blocks[name].append(rows[name])
                joined = JoinedRows({name: np.concatenate(parts) for name, parts in blocks.items()})
                if self.at_once:
                    waiting.append((ids, joined))
                else:
                    yield ids, self.ask(joined, ids)
        if waiting:
            every_id = [name for ids, _ in waiting for name in ids]
            whole = {name: np.concatenate([rows.blocks[name] for _, rows in waiting]) for name in self.blocks}
            yield every_id, self.ask(JoinedRows(whole), every_id)


def answering_of(
    run: Path,
    store: Path,
    weights: Sequence[str],
    code: Sequence[str],
    device: str,
    detector: str,
    sound: Heard | None = None,
    time_of: Callable[[str], float | None] | None = None,
) -> Answering:
    """Open a run, find what its features are in the store (`store_of_run`), and make their backbones again.

    Parameters
    ----------
    sound : callable (window_s, causal), optional
        What is heard at the frames of videos that are shown; without, features of sound are refused.
    time_of : callable (name), optional
        When a frame of the videos is shown, in seconds, None where the video does not say; without, heads that learned
        in seconds are refused for frames.

    Raises
    ------
    FeatstoreError, BackbonesError, FusionError
        If a feature is not there any more, its weights are others, or the head is damaged.
    """
    from ..featstore import Store
    from ..fusion import SavedHeadError, load_head, read_head_info
    from ..fusion.data.moments import frames_of
    from ..fusion.keeping.answers import aligned

    folder = head_folder(run)
    info = read_head_info(folder)
    head = load_head(folder, fingerprints=info.fingerprints)
    opened = Store(store)
    specs = {name: spec_of(opened, name, fingerprint) for name, fingerprint in info.fingerprints.items()}
    features = _recreated(specs, weights, code, device, detector, sound)
    say(f"head: [bold]{escape(info.head)}[/] on {escape(', '.join(info.fingerprints))}")
    classes = tuple(str(name) for name in (info.class_set or info.classes))

    def ask(rows: JoinedRows, ids: Sequence[str]) -> NDArray[np.float64]:
        when: dict[str, Any] = {}
        if head.learns_in_time:
            when["groups"], when["times"] = frames_of(ids, [name.rpartition("/")[0] for name in ids])
            if info.extra.get("in_seconds") and time_of is not None:
                when["times"] = [math.nan if (time_s := time_of(name)) is None else time_s for name in ids]
            elif info.extra.get("in_seconds") and any(when["groups"]):
                raise SavedHeadError(
                    "the head learned when frames stand in their videos in seconds, and pictures in a folder have "
                    "numbers alone\n  list them in a manifest with a column time_s, extract that, and ask: cer-fuse "
                    "predict --data"
                )
        return aligned(head.predict_proba(rows, **when), head.classes_, len(classes), "the kept head")

    return Answering(
        blocks=tuple(name for name, _ in info.blocks),
        classes=classes,
        ask=ask,
        at_once=head.learns_in_time,
        features=features,
        head=head,
    )


def prompted_answering(
    vectors: TextVectors,
    named: Sequence[str] | None,
    classes: Sequence[str] | None,
    rule: str | None,
    store: Path,
    weights: Sequence[str],
    code: Sequence[str],
    device: str,
    detector: str,
) -> Answering:
    """What answers by prompts, of pictures embedded as the store's rows of the vectors' encoder were.

    Parameters
    ----------
    vectors : TextVectors
    named : sequence of str, optional
        The features whose rows may be meant; by default all.
    classes : sequence of str, optional
        What to answer; by default all classes that there are vectors for.
    rule : str, optional
        How two basic expressions make a compound.

    Raises
    ------
    FeatstoreError, BackbonesError, FusionError
        If no feature of the store has rows of that encoder, or nothing can make it again.
    """
    from ..featstore import Store
    from ..fusion import prompted

    opened = Store(store)
    specs = {
        feature.label: feature.spec for dataset in opened.datasets() for feature in opened.usable_features(dataset)
    }
    block, _ = encoder_rows(vectors, named_features(specs, named))
    label = block.partition(".")[0]
    spec = specs[label]
    names = tuple(vectors.classes if classes is None else classes)
    head = prompted(vectors, names, rule=rule)  # type: ignore[arg-type]
    features = _recreated({spec.name: spec}, weights, code, device, detector)
    say(f"prompts for {len(vectors.classes)} classes, held against rows of {escape(label)}")
    block = block.replace(label, spec.name, 1)
    return Answering(
        blocks=(block,), classes=names, ask=lambda rows, _: head.predict_proba(rows), features=features, head=head
    )


def named_features(specs: Mapping[str, FeatureSpec], named: Sequence[str] | None) -> Mapping[str, FeatureSpec]:
    """Return the features that are named, with or without their fingerprint; all if none is named."""
    names = {label: label.partition("@")[0] for label in specs}
    lost = [one for one in named or () if one not in names and one not in names.values()]
    if lost:
        raise typer.BadParameter(
            f"there is no feature {lost[0]!r}; {nearest(lost[0], {*names.values()})}", param_hint="--features"
        )
    return {label: spec for label, spec in specs.items() if named is None or {label, names[label]} & {*named}}


def encoder_rows(vectors: TextVectors, specs: Mapping[str, FeatureSpec]) -> tuple[str, str | None]:
    """Find the block whose rows the text vectors may be held against, and the digest of the weights that made it.

    Where vectors say their encoder, that is the feature of the same weights, or an imported one, which knows none, if
    no other is there; where they do not, the only feature of their width.

    Parameters
    ----------
    vectors : TextVectors
    specs : dict of what a view calls a feature to its identity

    Raises
    ------
    ExpressionError
        If there is none, or several; says what the features are.
    """
    from ..fusion import ExpressionError

    found = [
        (
            name if len(spec.blocks) == 1 else f"{name}.{block}",
            width,
            dict(spec.identity.get("weights", {})).get("digest"),
        )
        for name, spec in specs.items()
        for block, width in spec.blocks.items()
    ]
    fitting = [one for one in found if vectors.weights and one[2] == vectors.weights]
    if not fitting and (
        not vectors.weights or [one.identity.get("architecture") for one in specs.values()] == [FOREIGN]
    ):
        fitting = [one for one in found if one[1] == vectors.width]
    apart = {name: _apart(vectors.options, spec) for name, spec in specs.items()}
    other = [name for name, *_ in fitting if apart[name.partition(".")[0]]]
    fitting = [one for one in fitting if one[0] not in other]
    if other and not fitting:
        raise ExpressionError(
            f"text vectors and the rows of {other[0]!r} are of the same weights and of two networks: "
            f"{apart[other[0].partition('.')[0]]}\n  one of the two is told wrongly what was trained"
        )
    if len(fitting) == 1:
        return fitting[0][0], fitting[0][2]
    has = ", ".join(
        f"{name} ({width} columns, weights {str(digest or 'not known')[:12]})" for name, width, digest in found
    )
    of = f"{vectors.encoder or 'an encoder not named'} ({vectors.width} columns, image weights "
    of += f"{vectors.weights[:12] or 'not said'})"
    raise ExpressionError(
        f"text vectors are of {of}, and {len(fitting)} features have such rows, expected one: {has}\n"
        "  extract them with the same encoder, cer-feat extract --backbone clip:FOLDER or open-clip:NAME, or make the "
        "vectors with the encoder of the rows, cer-feat prompts; of several, name one with --features"
    )


def _apart(options: Mapping[str, Any], spec: FeatureSpec) -> str:
    """Say which options of the vectors' network are others in the network that made rows; nothing where none is."""
    theirs = dict(spec.identity.get("options", {}))
    return ", ".join(
        f"{key} was {value!r} for the vectors, {theirs[key]!r} for the rows"
        for key, value in options.items()
        if key in theirs and theirs[key] != value
    )


def _recreated(
    specs: Mapping[str, FeatureSpec],
    weights: Sequence[str],
    code: Sequence[str],
    device: str,
    detector: str,
    sound: Heard | None = None,
) -> tuple[Recreated, ...]:
    """Make the backbones of features again; those that hear alike share what decodes the sound."""
    heard = None if sound is None else functools.cache(sound)
    from ..backbones.making import recreate
    from ..frames import LooseCrops

    given = named_files(weights, list(specs), "--weights")
    written = named_files(code, list(specs), "--code")
    features = []
    for name, spec in specs.items():
        backbone = recreate(
            name, spec.identity, spec.described, weights=given.get(name), code=written.get(name), device=device,
            faces=lambda way: LooseCrops.again(way, detector), sound=heard,
        )  # fmt: skip
        _check_fingerprint(name, spec, backbone)
        features.append(Recreated(name=name, backbone=backbone, spec=spec))
    return tuple(features)


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
