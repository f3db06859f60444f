"""An ONNX file and the data files that it names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion import backbones
from cer_fusion.backbones import WeightsError
from cer_fusion.kit import onnx_file
from cer_fusion.kit.onnx_file import OnnxFileError, read_onnx
from tests.backbones.conftest import RECIPE, SHARED

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


def make(path: Path) -> backbones.Backbone:
    return backbones.create(f"onnx:{path}", **RECIPE)


def split(source: Path, target: Path, *, location: str = "m.onnx.data") -> Path:
    """Write a model again with its weights in a file beside it."""
    onnx.save(
        onnx.load(str(source)), str(target), save_as_external_data=True, location=location, size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    return target


def changed(path: Path, change: Callable[[Any], None]) -> None:
    """Change a model, of which no data is read."""
    model = onnx.load(str(path), load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def model(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in a folder of its own, with its weights beside it; the working directory is another one."""
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return split(tiny_onnx, folder / "m.onnx")


def test_weights_beside_the_model_are_read_from_there_whatever_the_working_directory_holds(
    model: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    wanted = make(tiny_onnx).embed(PICTURES)["output"]
    other = bytes(len((model.parent / "m.onnx.data").read_bytes()))
    (tmp_path / "elsewhere" / "m.onnx.data").write_bytes(other)
    assert np.array_equal(make(model).embed(PICTURES)["output"], wanted)
    (model.parent / "m.onnx.data").unlink()
    with pytest.raises(WeightsError, match=r"data file is missing: .*model/m.onnx.data"):
        make(model)


def test_changed_weights_beside_the_model_are_another_identity(model: Path) -> None:
    data = model.parent / "m.onnx.data"
    before, content = make(model).spec(), data.read_bytes()
    assert make(model).spec() == before
    for at in range(0, len(content), 7):
        data.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert read_onnx(model).digest != before["weights"]["digest"]
    data.write_bytes(content + b"more")
    assert read_onnx(model).digest != before["weights"]["digest"]


def test_what_was_digested_is_what_computes_even_when_the_file_changes_meanwhile(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, spec = make(model).embed(PICTURES)["output"], make(model).spec()
    read = onnx_file._read

    def read_and_change(*arguments: Any) -> Any:
        found = read(*arguments)
        (model.parent / "m.onnx.data").write_bytes(bytes(1000))
        return found

    monkeypatch.setattr(onnx_file, "_read", read_and_change)
    made = make(model)
    assert made.spec() == spec
    assert np.array_equal(made.embed(PICTURES)["output"], wanted)


def test_a_model_in_one_file_keeps_its_digest(tiny_onnx: Path) -> None:
    import hashlib

    assert read_onnx(tiny_onnx).digest == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "names no file"),
        ("{folder}/m.onnx.data", "absolute path"),
        ("../model/m.onnx.data", "leaves the model's folder"),
        ("sub/../../m.onnx.data", "leaves the model's folder"),
        ("C:\\\\weights\\\\m.onnx.data", "absolute path"),
        ("..\\\\m.onnx.data", "leaves the model's folder"),
        ("*/_ORT_MEM_ADDR_/*", "memory"),
        ("link", "is a link to .*outside.data"),
        ("sub/linked/outside.data", "is a link to .*outside.data"),
        (".", "is missing"),
        ("none.data", "is missing"),
    ],
)
def test_data_from_anywhere_else_is_refused(location: str, said: str, model: Path, tmp_path: Path) -> None:
    shutil.copy(model.parent / "m.onnx.data", tmp_path / "outside.data")
    (model.parent / "sub").mkdir()
    (model.parent / "link").symlink_to(tmp_path / "outside.data")
    (model.parent / "sub" / "linked").symlink_to(tmp_path)

    def move(graph: Any) -> None:
        for entry in graph.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location.format(folder=model.parent)

    changed(model, move)
    with pytest.raises(WeightsError, match=said):
        make(model)


def test_a_model_and_its_data_may_be_links_into_one_folder(model: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "main"  # as download caches lay them
    snapshot.mkdir(parents=True)
    model.rename(model.parent / "aa11")
    (model.parent / "m.onnx.data").rename(model.parent / "bb22")
    (snapshot / "m.onnx").symlink_to("../../model/aa11")
    (snapshot / "m.onnx.data").symlink_to("../../model/bb22")
    assert np.array_equal(
        make(snapshot / "m.onnx").embed(PICTURES)["output"], make(tiny_onnx).embed(PICTURES)["output"]
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("length", "8", "takes 60 bytes, however its data is 8 long"),
        ("length", "-1", "has the length '-1'"),
        ("offset", "-4", "has the offset '-4'"),
        ("offset", "nought", "has the offset 'nought'"),
        ("offset", "1000", r"too short: 60 bytes, expected at least 1,060: .*m.onnx.data"),
    ],
)
def test_data_that_is_not_all_there_is_refused(key: str, value: str, said: str, model: Path) -> None:
    def state(graph: Any) -> None:
        entries = graph.graph.initializer[0].external_data
        for entry in [one for one in entries if one.key == key]:
            entries.remove(entry)
        entries.add(key=key, value=value)

    changed(model, state)
    with pytest.raises(WeightsError, match=said):
        make(model)


def test_offset_and_length_may_be_left_out(model: Path, tiny_onnx: Path) -> None:
    def state(graph: Any) -> None:
        entries = graph.graph.initializer[0].external_data
        for entry in [one for one in entries if one.key != "location"]:
            entries.remove(entry)

    changed(model, state)
    assert np.array_equal(make(model).embed(PICTURES)["output"], make(tiny_onnx).embed(PICTURES)["output"])


def test_every_place_in_which_onnx_keeps_tensors_is_looked_into() -> None:
    names = {
        "ModelProto": "Model", "TrainingInfoProto": "Training", "GraphProto": "Graph", "FunctionProto": "Function",
        "NodeProto": "Node", "AttributeProto": "Attribute", "SparseTensorProto": "Sparse", "TensorProto": "Tensor",
    }  # fmt: skip

    def holds(message: Any, seen: tuple[str, ...] = ()) -> bool:
        inner = [field.message_type for field in message.fields if field.message_type is not None]
        return message.name == "TensorProto" or any(
            one.name not in seen and holds(one, (*seen, message.name)) for one in inner
        )

    found: dict[str, dict[int, str]] = {}
    to_do = [onnx.ModelProto.DESCRIPTOR]
    while to_do:
        message = to_do.pop()
        if message.name == "TensorProto" or names[message.name] in found:
            continue
        inner = [field for field in message.fields if field.message_type is not None and holds(field.message_type)]
        found[names[message.name]] = {field.number: names[field.message_type.name] for field in inner}
        to_do += [field.message_type for field in inner]
    assert found == {kind: dict(fields) for kind, fields in onnx_file._HOLDERS.items()}


def external(name: str, values: np.ndarray, folder: Path, file: str) -> Any:
    """A tensor in a file of its own."""
    tensor = onnx.numpy_helper.from_array(values, name)
    (folder / file).write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=file)
    return tensor


def test_data_of_constants_of_branches_and_of_functions_is_read_too(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = [np.full((1, 3), 10.0**i, np.float32) for i in range(3)]
    constant, inner, shared = (external(f"w{i}", w, tmp_path, f"w{i}.bin") for i, w in enumerate(weights))

    def info(name: str, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def branch(name: str) -> Any:
        return helper.make_graph([helper.make_node("Add", ["c", "w1"], [name])], name, [], [info(name, None)], [inner])

    function = helper.make_function(
        "own",
        "Shift",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["k"], value=shared), helper.make_node("Add", ["a", "k"], ["b"])],
        [helper.make_opsetid("", 13)],
    )
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Constant", [], ["w0"], value=constant),
        helper.make_node("Add", ["f", "w0"], ["c"]),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["i"], then_branch=branch("t"), else_branch=branch("e")),
        helper.make_node("Shift", ["i"], ["y"], domain="own"),
    ]
    graph = helper.make_graph(nodes, "g", [info("x", ["b", 3, 16, 16])], [info("y", ["b", 3])])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    made = backbones.create(f"onnx:{tmp_path / 'm.onnx'}", mean=(0, 0, 0), std=(1, 1, 1), colour="RGB", scale="0-255")
    np.testing.assert_allclose(made.embed(PICTURES)["output"], PICTURES.mean((1, 2)) + 111, rtol=1e-5)
    assert made.describe()["data_files"] == ["w0.bin", "w1.bin", "w2.bin"]
    digest = made.weights_digest()
    for i in range(3):
        (tmp_path / f"w{i}.bin").write_bytes((weights[i] + 1).tobytes())
        assert read_onnx(tmp_path / "m.onnx").digest != digest
        (tmp_path / f"w{i}.bin").write_bytes(weights[i].tobytes())


def test_a_model_too_large_for_one_message_gives_its_large_weights_apart(
    model: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = read_onnx(model).digest
    monkeypatch.setattr(onnx_file, "MOST_BYTES", model.stat().st_size + 10)
    with pytest.raises(OnnxFileError, match="must stand in its graph"):
        read_onnx(model)
    monkeypatch.setattr(onnx_file, "LARGE_BYTES", 60)
    assert list(read_onnx(model).beside) == ["kernel"]
    assert read_onnx(model).digest == digest
    assert np.array_equal(make(model).embed(PICTURES)["output"], make(tiny_onnx).embed(PICTURES)["output"])


def test_a_file_in_onnxruntimes_own_format_is_refused_by_name(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x18\x00\x00\x00ORTM" + bytes(50))
    shutil.copy(tiny_onnx, tmp_path / "m.ort")
    for name in ("m.onnx", "m.ort"):
        with pytest.raises(WeightsError, match=r"own format \(.ort\)"):
            make(tmp_path / name)


def test_a_file_cut_short_anywhere_is_an_error_that_names_it(model: Path) -> None:
    content = model.read_bytes()
    for at in range(0, len(content) - 1, 5):
        model.write_bytes(content[:at])
        with pytest.raises((WeightsError, backbones.OptionError), match=r"m.onnx|the model"):
            make(model)


def test_real_models_give_the_same_rows_with_their_weights_beside_them(tmp_path: Path) -> None:
    source = SHARED / "weights" / "fer_mobilefacenet_rafdb_512.onnx"
    if not source.is_file():
        pytest.skip(f"no such material here: {source.name}")
    stated: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "colour": "RGB", "scale": "0-1"}
    apart = split(source, tmp_path / "m.onnx")
    one, other = (backbones.create(f"onnx:{path}", output="embedding", **stated) for path in (source, apart))
    side = one.transform.size_px
    pictures = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    assert np.array_equal(one.embed(pictures)["output"], other.embed(pictures)["output"])
    assert one.weights_digest() != other.weights_digest()
