"""What a GPU would do, on machines that have none.

A fake one computes on the CPU and notes what it is asked for: streams, copies, events. Networks, mixing and loss run
on fake tensors of device "cuda", which have shapes and devices and no numbers: whatever would meet a tensor of the CPU
there is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cer_fusion import backbones
from cer_fusion.backbones import DeviceError, OptionError, Recipe
from cer_fusion.backbones import torch_backbone as module
from cer_fusion.backbones.backbone import DeviceMemoryError
from cer_fusion.backbones.finetuning.classifier import classifier_of, loss_sum, mix
from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract
from tests.backbones.conftest import RECIPE
from tests.backbones.finetuning.conftest import face


class Gpu:
    """A CUDA device whose work is done at once, and whose events are over when `finish` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.stream = "computing"
        self.over = False
        self.fails: dict[str, Exception] = {}
        gpu, to = self, torch.Tensor.to

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                gpu.log.append(f"{self.name} waits for {other.name}")

        class Event:
            def record(self, stream: Stream) -> None:
                gpu.log.append(f"event on {stream.name}")

            def query(self) -> bool:
                return gpu.over

            def synchronize(self) -> None:
                gpu.may_fail("synchronize")
                gpu.log.append("wait for the event")

        @contextlib.contextmanager
        def on(stream: Stream) -> Iterator[None]:
            gpu.stream = stream.name
            yield
            gpu.stream = "computing"

        def moved(tensor: torch.Tensor, *where: Any, **rest: Any) -> torch.Tensor:
            if where and where[0] in ("cuda", "cuda:1", "cpu") and "non_blocking" in rest:
                gpu.log.append(f"copy to {where[0]} on {gpu.stream}")
                return tensor.clone()
            return to(tensor, *where, **rest)

        def pinned(tensor: torch.Tensor) -> torch.Tensor:
            gpu.may_fail("pin")
            gpu.log.append("pin")
            return tensor.clone()

        computing = Stream("computing")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copying"))
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
        monkeypatch.setattr(torch.Tensor, "to", moved)
        monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda tensor, stream: gpu.log.append(f"kept for {stream.name}")
        )

    def may_fail(self, where: str) -> None:
        if where in self.fails:
            raise self.fails[where]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def on_gpu(precision: str = "float32", device: str = "cuda") -> Any:
    """A tiny network that believes to be on a GPU."""
    made: Any = backbones.create("timm:test_resnet", weights="random", img_size=32)
    made.device, made.piece, made.precision = device, 0, precision
    return made


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)


def test_a_batch_is_copied_on_a_side_stream_and_its_rows_are_asked_for_later(gpu: Gpu) -> None:
    made = on_gpu()
    made.module.register_forward_pre_hook(lambda *_: gpu.log.append("compute"))
    begun = made.start(pictures(3))
    assert gpu.log == [
        "pin", "copy to cuda on copying", "computing waits for copying", "kept for computing", "compute",
        "copy to cpu on computing", "event on computing",
    ]  # fmt: skip
    assert (made.ahead, begun.ready()) == (1, False)
    gpu.over = True
    assert begun.ready()
    rows = begun.rows()
    assert gpu.log[-1] == "wait for the event"
    plain: Any = backbones.create("timm:test_resnet", weights="random", img_size=32)
    np.testing.assert_allclose(rows["pooled"], plain.embed(pictures(3))["pooled"], rtol=1e-4, atol=1e-5)
    assert (plain.ahead, plain.start(pictures(3)).ready()) == (0, True)


def test_views_on_a_gpu_are_begun_together_and_averaged(gpu: Gpu) -> None:
    made, plain = on_gpu(), backbones.create("timm:test_resnet", weights="random", img_size=32)
    for each in (made, plain):
        each.take_views("flip")
    np.testing.assert_allclose(
        made.embed(pictures(2))["pooled"], plain.embed(pictures(2))["pooled"], rtol=1e-4, atol=1e-5
    )
    assert gpu.log.count("pin") == 2


CUDA_SAYS = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "pin": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "synchronize": RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual"),
}


def faces(folder: Path, n: int) -> Manifest:
    """Write n small pictures and list them."""
    classes = class_set("abaw7")
    for i in range(n):
        (folder / f"{i}.png").write_bytes(face(i % 3, i))
    samples = [Sample(sample_id=f"s{i:02d}", path=f"{i}.png", label=classes.labels[i % 7]) for i in range(n)]
    return Manifest(samples=tuple(samples), classes=classes, root=folder)


@pytest.mark.parametrize("says", CUDA_SAYS)
def test_every_way_in_which_a_gpu_says_that_memory_is_short_halves_the_batch(
    says: str, gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cer_fusion.backbones.backbone.AUTO_BATCH_GPU", 16)
    made, manifest = on_gpu(), faces(tmp_path, 20)
    given: list[int] = []
    forward = made.forward

    def full(batch: np.ndarray) -> Any:
        given.append(len(batch))
        gpu.fails = {says: CUDA_SAYS[says]} if len(batch) > 4 else {}
        if len(batch) > 4 and says in ("torch", "cublas", "cudnn"):
            raise CUDA_SAYS[says]
        begun = forward(batch)
        failing = dict(gpu.fails)

        def rows() -> Any:
            gpu.fails = failing
            return begun.rows()

        return module.Begun(begun.ready, rows)

    made.forward = full
    store = Store.create(tmp_path / "store")
    report = extract(made, manifest, store, dataset="d", batch_size="auto")
    assert (report.embedded, max(given), given[-1]) == (20, 16, 4)
    gpu.fails = {}
    view = store.view([report.feature], dataset="d")
    expected = backbones.create("timm:test_resnet", weights="random", img_size=32)
    wanted = expected.embed(np.stack([expected.decode(face(i % 3, i)) for i in range(20)]))["pooled"]
    np.testing.assert_allclose(next(iter(view.blocks.values())), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(DeviceMemoryError, match="16 pictures at once do not fit into the memory of 'cuda'"):
        made.start(pictures(16)).rows()


def test_onnxruntime_running_out_of_memory_halves_the_batch(tiny_onnx: Path, tmp_path: Path) -> None:
    made: Any = backbones.create(f"onnx:{tiny_onnx}", **RECIPE)
    real, given = made.session, []

    class Small:
        def run(self, outputs: Any, feeds: dict[str, np.ndarray]) -> Any:
            given.append(len(feeds["pixels"]))
            if given[-1] > 4:
                raise RuntimeError(
                    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 BFCArena::AllocateRawInternal "
                    "Failed to allocate memory for requested buffer of size 1048576"
                )
            return real.run(outputs, feeds)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    made.session, made.device, made.piece = Small(), "cuda", 0
    report = extract(made, faces(tmp_path, 9), Store.create(tmp_path / "store"), dataset="d", batch_size="auto")
    assert (report.embedded, given[-3:]) == (9, [4, 4, 1])


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"num_classes": 3} if "num_classes" in backbones.options_of(name) else {}) for name in backbones.names()),
    ("manet", {"num_classes": 3, "flow": "legacy", "extra": ["logits"]}),
    ("resnet50", {"tap": "proj512"}),
    ("timm:test_vit", {"pooling": "cls_mean"}),
    ("timm:test_efficientnet", {}),
]
"""Every network of the zoo, and what some have more."""


def fakes_need_no_driver() -> bool:
    """Whether this torch handles fake tensors of device "cuda" where there is none; older ones ask the driver."""
    try:
        with FakeTensorMode():
            torch.empty(2, 2, device="cuda")[:, 0]
    except (RuntimeError, AssertionError):
        return False
    return True


FAKES = pytest.mark.skipif(not fakes_need_no_driver(), reason="this torch has no fake CUDA tensors without a driver")
MIXING = Recipe().changed({"mixup": 0.4, "cutmix": 1.0, "grey": 0.5, "erasing": 1.0})


@FAKES
@pytest.mark.parametrize(("kind", "options"), NETWORKS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(NETWORKS)])
def test_every_network_with_its_loss_stays_on_the_gpu(kind: str, options: dict[str, Any]) -> None:
    made: Any = backbones.create(kind, weights="random", **options)
    classifier = classifier_of(made, 3, seed=0).train()
    with FakeTensorMode():
        to_gpu(classifier)
        side = made.transform.size_px
        batch = torch.empty(4, side, side, 3, dtype=torch.uint8, device="cuda")
        x = made.transform.to_tensor(batch, channels_last=True)
        targets = torch.empty(4, 3, device="cuda")
        logits = classifier(x)
        loss = loss_sum(logits, classifier.shares, targets, torch.zeros(3, device="cuda"))
        rows = made.module.eval()(x)
    assert {tensor.device.type for tensor in (x, loss, *logits.values(), *rows.values())} == {"cuda"}


def to_gpu(network: Any) -> None:
    """Give a network fake parameters and buffers on the GPU; `to` would ask for a real one."""
    for part in network.modules():
        for of, made in ((part._parameters, torch.nn.Parameter), (part._buffers, lambda tensor: tensor)):
            for name, tensor in of.items():
                if tensor is not None:
                    of[name] = made(torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda"))


@FAKES
def test_mixing_draws_on_the_cpu_and_mixes_where_the_pictures_are() -> None:
    with FakeTensorMode():
        x, targets = torch.empty(5, 3, 8, 8, device="cuda"), torch.empty(5, 3, device="cuda")
        mixed, shares = mix(x, targets, MIXING, seed=0)
    assert (mixed.device.type, shares.device.type, mixed.shape, shares.shape) == (
        "cuda",
        "cuda",
        x.shape,
        targets.shape,
    )


def test_rows_in_fewer_bits_than_float32s_are_another_feature_on_another_kind_of_device() -> None:
    specs = {
        (precision, device): on_gpu(precision, device).spec()
        for precision in ("float32", "bfloat16", "float16")
        for device in ("cpu", "cuda", "cuda:1", "mps")
    }
    assert specs["float32", "cpu"] == specs["float32", "cuda"] == specs["float32", "mps"]
    for precision in ("bfloat16", "float16"):
        assert specs[precision, "cuda"] == specs[precision, "cuda:1"]
        assert len({str(specs[precision, device]) for device in ("cpu", "cuda", "mps")}) == 3


@pytest.mark.parametrize("half", [False, True])
def test_an_onnx_model_with_half_floats_names_the_kind_of_device_too(
    half: bool, tiny_onnx: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(str(tiny_onnx))
    if half:  # as converters to float16 do that keep inputs and outputs in float32
        kernel = model.graph.initializer[0]
        kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel).astype(np.float16), "half"))
        model.graph.node.insert(0, onnx.helper.make_node("Cast", ["half"], ["kernel"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, str(tmp_path / "m.onnx"))
    made: Any = backbones.create(f"onnx:{tmp_path / 'm.onnx'}", **RECIPE)
    assert made.spec().get("device_kind") == ("cpu" if half else None)
    made.device = "cuda:1"
    assert made.spec().get("device_kind") == ("cuda" if half else None)


def test_amds_devices_are_a_kind_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert on_gpu("bfloat16").spec()["device_kind"] == "rocm"
    assert "device_kind" not in on_gpu("float32").spec()


def test_rows_of_a_gpu_in_bfloat16_are_not_made_again_on_a_cpu() -> None:
    from cer_fusion.backbones.making import recreate

    made = on_gpu("bfloat16")
    with pytest.raises(DeviceError, match="in bfloat16 on 'cuda', and 'cpu' rounds at other places"):
        recreate("faces", made.spec(), made.describe())


def test_tf32_is_for_cuda_alone(tiny_onnx: Path) -> None:
    with pytest.raises(OptionError, match="tf32 needs a CUDA device, however: cpu"):
        backbones.create("timm:test_resnet", weights="random", precision="tf32")
    with pytest.raises(OptionError, match="tf32 needs a CUDA device, however: cpu"):
        backbones.create(f"onnx:{tiny_onnx}", precision="tf32", **RECIPE)


@pytest.mark.parametrize(("precision", "wanted"), [("float32", "highest"), ("tf32", "high"), ("bfloat16", "highest")])
def test_a_network_computes_in_the_precision_it_was_given(precision: str, wanted: str, gpu: Gpu) -> None:
    made, seen = on_gpu(precision), []
    made.autocast = lambda: {"enabled": False}  # there is no CUDA to cast on
    made.module.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    before = torch.get_float32_matmul_precision()
    made.embed(pictures(2))
    assert seen == [wanted]
    assert torch.get_float32_matmul_precision() == before


def test_computations_in_tf32_and_float32_take_turns() -> None:
    import threading

    inside, order = threading.Event(), []

    def other() -> None:
        inside.wait(10)
        with module.float32_as("float32"):
            order.append(torch.get_float32_matmul_precision())

    thread = threading.Thread(target=other)
    thread.start()
    with module.float32_as("tf32"):
        inside.set()
        thread.join(0.05)
        order.append(torch.get_float32_matmul_precision())
    thread.join(10)
    assert order == ["high", "highest"]


@FAKES
def test_a_tensor_of_the_cpu_among_those_of_the_gpu_would_be_an_error() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="cuda"):
        torch.empty(2, 3, device="cuda") + torch.empty(2, 3)
