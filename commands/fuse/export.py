"""`cer-fuse export`: a run as one ONNX graph, its backbones inside, checked on pictures of the store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..answering import Recreated, answering_of, refuse_ungraphed
from ..console import escape, out_json, say, size_text
from ..heads import head_folder, store_of_run
from ..outputs import check_outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...featstore import Manifest, Store
    from ...fusion import HeadInfo
    from ...fusion.heads.base import Head

MOST_OFF = 1e-3
"""Probabilities that differ by more than this from the run's own are no rounding: such a graph is not written."""
MOST_OFF_ROWS = 1e-2
"""The same of rows, as a share of the block's largest value; float16 rounds by up to a thousandth of it."""
ONNXSCRIPT = "0.7.2"
"""Older ones do not take what the exporters of torch 2.6 to 2.8 hand them."""
TORCH = "2.7"
"""2.6 cannot write a batch norm (`_native_batch_norm_legit_no_training`), nor a ViT for batches of any size."""
_LAYOUT = "uint8 RGB (b, h, w, 3)"
MOST_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message ends at 2 GiB."""


@opt.forms(
    whole=opt.Form("is for a graph of pictures, and --head-only takes blocks", ("weights", "inputs")),
)
def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run's folder, or a kept head's.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .onnx file to write.", show_default="RUN.onnx")
    ] = None,
    head_only: Annotated[
        bool, typer.Option("--head-only", help="Leave the backbones out: an input a block, rows as the store has them.")
    ] = False,
    inputs: Annotated[
        Literal["one", "each"],
        typer.Option(help="One input of faces for all backbones, or one each, for pictures resized as each does."),
    ] = "one",
    check: Annotated[int, typer.Option(min=1, help="Samples of the store that the graph is checked on.")] = 8,
    store: opt.RunStore = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    weights: Annotated[
        list[str] | None,
        opt.several(
            "--weights",
            "-w",
            pairs=True,
            help="FEATURE=FILE, where weights that came from a file are now.",
            show_default=False,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Write a run as one ONNX graph: uint8 RGB faces (b, h, w, 3) to probabilities and embeddings, checked as written.

    All backbones are inside; finding, cutting and resizing faces is not. Needs the extra `export`.

    Example: cer-fuse export runs/rafdb-mlp -o face.onnx
    """
    opt.only(ctx, whole=not head_only)
    target = output or Path(f"{run.resolve().name}.onnx")
    if target.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"the name must end in .onnx, however: {target}", param_hint="--output")
    folder = head_folder(run)
    check_outputs({"--output": target}, overwrite=overwrite, apart_from=(folder / "head.json",))
    store = store_of_run(run, opt.store_asked_for(ctx, store), rows=False)
    _libraries(whole=not head_only)
    graph = (_of_blocks if head_only else partial(_of_faces, one=inputs == "one", weights=weights or []))(
        folder, store, data, check
    )
    say(f"exporting [bold]{escape(graph.head.name)}[/] on {escape(', '.join(name for name, _ in graph.info.blocks))}")
    content = _exported(graph, folder, run)
    off, blocks = _differences(graph, content)
    from ...fusion.keeping.hub import rows_held
    from ...kit.files import write_whole

    write_whole(target, content, overwrite=overwrite)
    size, held = len(content), rows_held(folder, graph.info)
    if as_json:
        out_json({
            "graph": target, "bytes": size, "inputs": list(graph.inputs), "classes": graph.classes,
            "rows": graph.rows, "largest_difference": off, "blocks": blocks, "resizing_difference": graph.resizing,
            "rows_held": held,
        })  # fmt: skip
    told = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
    say(f"wrote [bold]{escape(target)}[/]: {size_text(size)}; largest differences on {graph.rows} samples: {told}")
    for name, one in blocks.items():
        say(f"  {escape(name)}: {one['difference']:.1e}, of values up to {one['largest']:.2g}")
    if held:
        say(
            f"[yellow]the graph holds {held:,} of the rows that the head learned from[/] (features of single samples)\n"
            "  think of that before you pass it on"
        )
    if graph.resizing is not None and graph.resizing > MOST_OFF:
        say(
            f"[yellow]the backbones resize in ways of their own[/]: pictures of other sizes, all resized as "
            f"{escape(next(iter(graph.features)).name)} does, change probabilities by up to {graph.resizing:.2g}\n"
            "  give crops of the graph's size, or export an input a backbone: --inputs each"
        )


@dataclass(kw_only=True)
class Graph:
    """What is to be exported, and what it must answer."""

    info: HeadInfo
    head: Head
    classes: tuple[str, ...]
    module: Any
    """Called with `inputs` in order: probabilities (b, k), and embeddings (b, D) unless the inputs are blocks."""
    inputs: Mapping[str, NDArray[Any]]
    """Real inputs by name, n rows each."""
    outputs: Mapping[str, NDArray[np.floating[Any]]]
    """What the run itself says of them, by name."""
    described: Mapping[str, Any]
    """What goes into the file's metadata beside classes and digests."""
    features: Sequence[Recreated] = ()
    resizing: float | None = None
    """How far one resizing for all moves the probabilities, where the backbones have several."""

    @property
    def rows(self) -> int:
        """How many samples it is checked on."""
        return len(next(iter(self.outputs.values())))


def _libraries(*, whole: bool) -> None:
    """Refuse before any work what is not installed, or too old."""
    from importlib.metadata import version

    from packaging.version import Version

    from ...kit.errors import MissingExtraError, needed

    for library in ("onnx", "onnxscript", "onnxruntime"):
        needed(library, "writing an ONNX graph", extra="export")
    if Version(version("onnxscript")) < Version(ONNXSCRIPT):
        raise MissingExtraError(
            f"writing a graph needs onnxscript {ONNXSCRIPT} or newer, however: {version('onnxscript')} is installed\n"
            f"  pip install 'onnxscript>={ONNXSCRIPT}'"
        )
    if whole and Version(version("torch")) < Version(TORCH):
        raise MissingExtraError(
            f"writing backbones needs torch {TORCH} or newer, however: {version('torch')} is installed\n"
            f"  pip install 'torch>={TORCH}', or leave the backbones out: --head-only"
        )


def _of_blocks(folder: Path, store: Path, data: str | None, check: int) -> Graph:
    """The head alone; checked on rows of the store."""
    import numpy as np
    import torch

    from ...fusion import load_head, read_head_info
    from ...fusion.heads.torch_form import torch_form

    info = read_head_info(folder)
    head = load_head(folder, fingerprints=info.fingerprints)
    form = torch_form(head)
    opened, dataset = _dataset(info, store, data)
    view = opened.view(
        [name for name, _ in info.blocks], dataset=dataset, missing="drop", fingerprints=info.fingerprints, mapped=True
    )
    rows = {name: np.asarray(block[:check]) for name, block in view.blocks.items()}
    spread = _spread(form, info, head)

    class Blocks(torch.nn.Module):
        def forward(self, *blocks: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = spread(torch.cat(blocks, 1))
            return answer

    proba = _own_answer(info, head, rows)
    return Graph(
        info=info, head=head, classes=_classes(info), module=Blocks(), inputs=rows,
        outputs={"probabilities": proba}, described={"inputs": {name: {"width": w} for name, w in info.blocks}},
    )  # fmt: skip


def _of_faces(folder: Path, store: Path, data: str | None, check: int, *, one: bool, weights: Sequence[str]) -> Graph:
    """Backbones and head; checked on pictures of the store."""
    import numpy as np
    import torch

    from ...backbones.torch_backbone import PictureGraph
    from ...fusion import load_head, read_head_info
    from ...fusion.heads.torch_form import torch_form

    info = read_head_info(folder)
    torch_form(load_head(folder, fingerprints=info.fingerprints))  # refuses, before backbones are made
    opened, dataset = _dataset(info, store, data)
    refuse_ungraphed(opened, info)
    line = answering_of(folder, store, weights, [], "cpu", "mtcnn")
    spread = _spread(torch_form(line.head), info, line.head)
    graphs = torch.nn.ModuleList(PictureGraph(feature.backbone) for feature in line.features)
    sizes = {feature.name: feature.backbone.transform.size_px for feature in line.features}
    if one and len(set(sizes.values())) > 1:
        raise typer.BadParameter(
            f"the backbones take faces of different sizes ({', '.join(f'{n} {px} px' for n, px in sizes.items())}), so "
            "that one input cannot be for all: --inputs each",
            param_hint="--inputs",
        )
    halves = [feature.spec.dtype == "float16" for feature in line.features]
    named = [feature.named for feature in line.features]

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graphs, self.spread = graphs, spread

        def forward(self, *faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = {}
            for i, graph in enumerate(self.graphs):
                for block, rows in graph(faces[0 if one else i]).items():
                    found[named[i](block)] = rows.half().float() if halves[i] else rows
            joined = torch.cat([found[name] for name, _ in info.blocks], 1)
            return self.spread(joined), joined

    prepared = _prepared(line.features, opened.manifest(dataset), check)
    own = _rows_of(line.features, prepared)
    given = [prepared[0]] * len(prepared) if one else prepared
    rows = _rows_of(line.features, given)
    proba = _own_answer(info, line.head, rows)
    resizing = None
    if one and len({_resizing(feature) for feature in line.features}) > 1:
        resizing = float(np.abs(proba - _own_answer(info, line.head, own)).max())
    names = ["faces"] if one else [f"faces.{feature.name}" for feature in line.features]
    shown = dict(zip(names, given, strict=False))  # of one input the first
    return Graph(
        info=info, head=line.head, classes=line.classes, module=Line(), features=line.features, resizing=resizing,
        inputs=shown,
        outputs={
            "probabilities": proba,
            "embeddings": np.concatenate([rows[name] for name, _ in info.blocks], axis=1),
        },
        described={
            "inputs": {name: {"size_px": pixels.shape[1], "layout": _LAYOUT} for name, pixels in shown.items()},
            "features": {feature.name: _described(feature) for feature in line.features},
        },
    )  # fmt: skip


def _dataset(info: HeadInfo, store: Path, data: str | None) -> tuple[Store, str]:
    from ...featstore import Store

    opened = Store(store)
    recorded = info.extra.get("dataset")
    return opened, opened.dataset(str(recorded) if data is None and recorded in opened.datasets() else data)


def _classes(info: HeadInfo) -> tuple[str, ...]:
    return tuple(str(name) for name in (info.class_set or info.classes))


def _spread(form: Any, info: HeadInfo, head: Head) -> Any:
    """The head's form over all declared classes."""
    from ...fusion.heads.torch_form import Spread

    if info.class_set is None:
        return form
    return Spread(form, head.classes_, len(info.class_set))


def _own_answer(info: HeadInfo, head: Head, rows: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Probabilities over all declared classes, as the kept head gives them."""
    import numpy as np

    from ...fusion.keeping.answers import aligned

    proba = head.predict_proba(np.concatenate([rows[name] for name, _ in info.blocks], axis=1))
    return proba if info.class_set is None else aligned(proba, head.classes_, len(info.class_set), "the kept head")


def _rows_of(features: Sequence[Recreated], pictures: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for feature, prepared in zip(features, pictures, strict=True):
        found |= feature.rows(prepared)
    return found


def _prepared(features: Sequence[Recreated], manifest: Manifest, check: int) -> list[NDArray[Any]]:
    """The first pictures of the dataset that can be used, at the size of each backbone: (n, h, w, 3) uint8 each."""
    import numpy as np

    from ...featstore.extraction.reading import Decoder, Remarked, Unusable
    from ...featstore.pictures.pictures import PictureSource

    source, decoder = PictureSource(manifest.root), Decoder([feature.backbone for feature in features])
    found: list[list[Any]] = []
    for sample in manifest.samples:
        if len(found) == check:
            break
        with contextlib.suppress(OSError):
            pictures = list(decoder(source.read(sample.path), range(len(features))).values())
            if not any(isinstance(one, Unusable) for one in pictures):
                found.append([one.picture if isinstance(one, Remarked) else one for one in pictures])
    if not found:
        raise typer.BadParameter(
            f"the graph is checked on pictures of the dataset, and none can be read below {manifest.root}\n"
            "say where they are now: cer-feat use-manifest … --root FOLDER, or leave the backbones out: --head-only",
            param_hint="--data",
        )
    return [np.stack([one[i] for one in found]) for i in range(len(features))]


def _resizing(feature: Recreated) -> tuple[Any, ...]:
    one = feature.backbone.transform
    return one.size_px, one.resize, one.crop_pct, one.interpolation


def _described(feature: Recreated) -> dict[str, Any]:
    """What a feature is, for whoever uses the graph: all of its identity, and how its pictures are to be resized."""
    return {
        "fingerprint": feature.spec.fingerprint,
        "blocks": dict(feature.spec.blocks),
        "dtype": feature.spec.dtype,
        **feature.spec.identity,
    }


def _exported(graph: Graph, folder: Path, run: Path) -> bytes:
    """The file's bytes, its metadata in it."""
    import torch

    from ...fusion.errors import SavedHeadError

    examples = tuple(torch.from_numpy(array[:2].repeat(2, axis=0)[:2]) for array in graph.inputs.values())
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                graph.module.eval(), examples, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=(tuple({0: batch} for _ in examples),),
                input_names=list(graph.inputs), output_names=list(graph.outputs),
            )  # fmt: skip
            proto = program.model_proto
    except Exception as error:  # a boundary: the exporter raises nearly anything, and the reason is kept
        first = error.__cause__ or error
        reason = re.sub(r"\x1b\[\d*m", "", str(first)).strip().partition("\n")[0][:300]
        raise SavedHeadError(
            f"torch {torch.__version__} cannot write {run} as a graph: {type(first).__name__}: {reason}\n"
            f"  of: {graph.head.name} on {', '.join(name for name, _ in graph.info.blocks)}; a newer torch may"
            + (", or leave the backbones out: --head-only" if graph.features else "")
        ) from error
    fixed = [
        one.name for one in (*proto.graph.input, *proto.graph.output) if one.type.tensor_type.shape.dim[0].dim_value
    ]
    if fixed:
        raise SavedHeadError(
            f"torch {torch.__version__} can write {run} only for batches of one size ({', '.join(fixed)}), so nothing "
            "was written\n  a newer torch may, or leave the backbones out: --head-only"
        )
    _bare(proto)
    for key, value in _metadata(graph, folder).items():
        proto.metadata_props.add(key=key, value=value)
    if proto.ByteSize() > MOST_BYTES:
        raise SavedHeadError(
            f"the graph of {run} takes {proto.ByteSize():,} bytes, more than one ONNX file holds ({MOST_BYTES:,})\n"
            "  leave the backbones out: --head-only"
        )
    return bytes(proto.SerializeToString())


def _bare(message: Any) -> None:
    """Take the exporter's notes out of a message of protobuf: they name this machine's folders, and lines of code."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                _bare(one)


@contextlib.contextmanager
def _quiet() -> Any:
    """Say nothing of what the exporter logs and prints on its way: of a failure the whole network, line by line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _metadata(graph: Graph, folder: Path) -> dict[str, str]:
    """Texts by key: what classes the columns are, what the inputs must be, and of what exactly it was made."""
    from importlib.metadata import version

    digests = {
        "head": hashlib.sha256((folder / "head.json").read_bytes()).hexdigest(),
        "fingerprints": dict(graph.info.fingerprints),
        "weights": {name: one["weights"]["digest"] for name, one in dict(graph.described.get("features", {})).items()},
    }
    values = {
        "classes": list(graph.classes),
        "blocks": [list(one) for one in graph.info.blocks],
        "preprocessing": graph.described,
        "head": {"name": graph.info.head, "params": graph.info.params},
        "digests": digests,
        "cer_fusion": version("cer-fusion"),
    }
    return {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in values.items()}


def _differences(graph: Graph, content: bytes) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Compare the graph with the run, in batches of one and of all; refuses what is no rounding.

    Returns
    -------
    off : dict
        The largest difference of each output.
    blocks : dict
        Of each block of the embeddings ``difference``, the largest, and ``largest``, the largest of its own values.
    """
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = list(graph.outputs)
    one = session.run(names, {name: array[:1] for name, array in graph.inputs.items()})
    every = session.run(names, dict(graph.inputs))
    apart = {
        name: np.maximum(np.abs(all_ - graph.outputs[name]).max(axis=0), np.abs(first - graph.outputs[name][:1])[0])
        for name, first, all_ in zip(names, one, every, strict=True)
    }
    off = {name: float(columns.max()) for name, columns in apart.items()}
    blocks: dict[str, dict[str, float]] = {}
    start = 0
    for block, width in graph.info.blocks if "embeddings" in apart else ():
        part = slice(start, start := start + width)
        blocks[block] = {
            "difference": float(apart["embeddings"][part].max()),
            "largest": float(np.abs(graph.outputs["embeddings"][:, part]).max()),
        }
    if not off["probabilities"] <= MOST_OFF:
        raise _other(f"probabilities differ by up to {off['probabilities']:.2g}", graph, f"{MOST_OFF:g}")
    for block, found in blocks.items():
        if not found["difference"] <= MOST_OFF_ROWS * found["largest"]:
            raise _other(
                f"the block {block!r} differs by up to {found['difference']:.2g}", graph,
                f"{MOST_OFF_ROWS * found['largest']:.2g}, a hundredth of its largest value",
            )  # fmt: skip
    return off, blocks


def _other(what: str, graph: Graph, most: str) -> Exception:
    from ...fusion.errors import SavedHeadError

    return SavedHeadError(
        f"the graph answers otherwise than the run: {what} on {graph.rows} samples, expected at most {most}\n"
        "  nothing was written; report this with the versions that cer-feat doctor prints"
    )
