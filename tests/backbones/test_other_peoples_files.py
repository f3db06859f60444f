"""Weights as people have them: whole networks that were pickled, several in one file, names that are numbers."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.weights.checkpoint import load_state, open_checkpoint
from cer_fusion.backbones.weights.timm_names import timm_names
from tests.backbones.checkpoint_files import thin, with_prefix


class Odd(nn.Module):
    """What a walk over modules could get wrong: tied weights, buffers that are not saved, gaps, lists."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.rand(2), requires_grad=False)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("passing", torch.ones(4), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("none", None)
        self.norms = nn.ModuleList([nn.BatchNorm1d(3), nn.Identity()])
        self.settings = {"a": torch.ones(1)}


def network(name: str = "test_efficientnet") -> nn.Module:
    torch.manual_seed(1)
    made: nn.Module = timm.create_model(name, num_classes=8)
    return made


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "made",
    [Odd, network, lambda: network("test_vit"), lambda: network("test_convnext")],
    ids=["odd", "cnn", "vit", "cnx"],
)
def test_a_whole_network_that_was_pickled_gives_every_tensor_of_its_state_dict(
    made: Any, legacy: bool, tmp_path: Path
) -> None:
    module = made()
    torch.save(module, tmp_path / "whole.pt", _use_new_zipfile_serialization=not legacy)
    opened = open_checkpoint(tmp_path / "whole.pt")
    same(opened.state, module.state_dict())
    assert opened.is_module
    assert opened.entry is None
    assert any(name.endswith(type(module).__name__) for name in opened.stubs)


def test_the_tensors_are_those_that_torchs_own_restricted_reader_finds(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(network(), path)

    class Inert:
        def __setstate__(self, state: dict[str, Any]) -> None:
            self.said = state

    def walk(module: Any, prefix: str = "") -> dict[str, Tensor]:
        found = {prefix + k: v.data for k, v in module.said["_parameters"].items() if v is not None}
        found |= {prefix + k: v for k, v in module.said["_buffers"].items() if v is not None}
        for name, inner in module.said["_modules"].items():
            found |= walk(inner, f"{prefix}{name}.") if isinstance(inner, Inert) else {}
        return found

    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    inert = [(type(name.rpartition(".")[2], (Inert,), {}), name) for name in names if name != "builtins.set"]
    with torch.serialization.safe_globals([*inert, set]):  # type: ignore[list-item]
        read = torch.load(path, weights_only=True)
    same(dict(sorted(load_state(path).items())), dict(sorted(walk(read).items())))


def test_a_network_that_holds_itself_is_refused_and_does_not_go_on_for_ever(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Identity(), nn.Identity())
    module._modules["0"] = module._modules["1"] = module
    torch.save(module, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"modules (are nested|hold) more than"):
        load_state(tmp_path / "x.pt")


@pytest.mark.parametrize("wrap", [lambda m: {"model": m, "epoch": 3}, nn.DataParallel, lambda m: {"a": {"net": m}}])
def test_a_whole_network_is_found_where_scripts_put_it(wrap: Any, tmp_path: Path) -> None:
    module = network()
    torch.save(wrap(module), tmp_path / "x.pt")
    same(load_state(tmp_path / "x.pt"), module.state_dict())


def test_a_whole_network_is_loaded_inspected_and_converted_like_its_weights(tmp_path: Path) -> None:
    module = network()
    module.classifier = nn.Sequential(nn.Linear(256, 8))  # as HSEmotion's have it
    torch.save(module, tmp_path / "enet.pt")
    torch.save(module.state_dict(), tmp_path / "plain.pt")
    specs = [
        backbones.create("timm:test_efficientnet", weights=tmp_path / name).spec() for name in ("enet.pt", "plain.pt")
    ]
    assert specs[0] == specs[1]
    info = backbones.inspect_checkpoint(tmp_path / "enet.pt")
    assert info.is_module
    assert info.heads == {"classifier.0": 8}
    assert info.digest == backbones.inspect_checkpoint(tmp_path / "plain.pt").digest


def test_whose_padding_an_efficientnet_has_is_read_from_the_whole_network_or_told_to_be_open(tmp_path: Path) -> None:
    state = thin("timm:efficientnet_b0") | {"classifier.0.weight": torch.ones(8, 1280)}
    assert timm_names(state)[0] == "timm:efficientnet_b0"
    assert timm_names(state, ["timm.layers.conv2d_same.Conv2dSame"])[0] == "timm:tf_efficientnet_b0"
    torch.save(state, tmp_path / "b0.pt")
    notes = backbones.inspect_checkpoint(tmp_path / "b0.pt").notes
    assert any("timm:tf_efficientnet_b0 has the same names and shapes, and pads as TensorFlow" in n for n in notes)


def state_of(seed: int) -> dict[str, Tensor]:
    made = backbones.create("timm:test_resnet", weights="random", seed=seed)
    return made.state()  # type: ignore[attr-defined, no-any-return]


FORMS: dict[str, Any] = {
    "student and teacher": lambda a, b: {"student": a, "teacher": b, "dino_loss": {"center": torch.ones(2)}},
    "in a dictionary": lambda a, b: {"nets": {"student": a, "teacher": with_prefix(b, "module.")}, "epoch": 3},
    "names": lambda a, b: with_prefix(a, "student.") | with_prefix(b, "teacher.") | {"queue": torch.ones(3)},
    "names in an entry": lambda a, b: {
        "state_dict": with_prefix(a, "model.student.") | with_prefix(b, "model.teacher.")
    },
    "beside the optimiser": lambda a, b: {
        "student": a, "teacher": {"state_dict": b}, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_of_a_student_and_its_teacher_the_one_that_is_asked_for_is_taken(form: str, tmp_path: Path) -> None:
    first, second = state_of(1), state_of(2)
    path = tmp_path / "dino.pth"
    torch.save(FORMS[form](first, second), path)
    with pytest.raises(CheckpointError, match=r"(?s)student.*teacher.*--weights (FILE|dino\.pth)#"):
        backbones.create("timm:test_resnet", weights=path)
    for entry, expected in (("student", first), ("teacher", second)):
        made = backbones.create("timm:test_resnet", weights=f"{path}#{entry}")
        assert all(torch.equal(t, expected[name]) for name, t in made.state().items())  # type: ignore[attr-defined]
        assert made.describe()["weights_source"] == f"dino.pth#{entry}"
        backbones.inspect_checkpoint(f"{path}#{entry}")
        again = recreate("f", *json.loads(json.dumps([made.spec(), made.describe()])), weights=path)  # by what was said
        assert again.spec() == made.spec()
    with pytest.raises(CheckpointError, match=r"no entry 'techer'.*student"):
        backbones.create("timm:test_resnet", weights=f"{path}#techer")


def test_inspecting_two_networks_in_one_file_gives_a_command_for_each(tmp_path: Path) -> None:
    both = {"student": thin("resnet50"), "teacher": thin("resnet50")}
    torch.save(both, tmp_path / "dino.pth")
    info = backbones.inspect_checkpoint(tmp_path / "dino.pth")
    assert info.fits == "resnet50"
    assert [f"dino.pth#{entry}'" in command for entry, command in zip(both, info.commands, strict=True)] == [True, True]
    assert any("nothing tells which are meant: dino.pth#student, dino.pth#teacher" in note for note in info.notes)


@pytest.mark.parametrize("averaged", ["ema", "model_ema", "state_dict_ema", "ema_model", "ema_state_dict"])
def test_averaged_weights_are_taken_and_the_others_named(
    averaged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = state_of(1), state_of(2)
    torch.save({"state_dict": first, averaged: second}, tmp_path / "x.pth")
    with caplog.at_level(logging.WARNING):
        same(load_state(tmp_path / "x.pth"), second)
    assert "x.pth#state_dict" in caplog.text
    same(open_checkpoint(tmp_path / "x.pth", entry="state_dict").state, first)
    assert any("x.pth#state_dict" in note for note in backbones.inspect_checkpoint(tmp_path / "x.pth").notes)


def test_weights_are_found_deep_in_dictionaries_of_any_name(tmp_path: Path) -> None:
    torch.save({"checkpoint": {"nets": {"generator": state_of(1)}}, "args": {"lr": 1}}, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert opened.entry == "checkpoint.nets.generator"
    same(opened.state, state_of(1))


def test_what_lies_beside_the_weights_and_cannot_be_read_is_no_hindrance(tmp_path: Path) -> None:
    torch.save({"aux": {"adjacency": torch.ones(2).to_sparse()}, "state_dict": state_of(1)}, tmp_path / "x.pth")
    same(load_state(tmp_path / "x.pth"), state_of(1))
    torch.save({"aux": state_of(2), "state_dict": {"a": torch.ones(2).to_sparse()}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="a is no plain tensor"):
        load_state(tmp_path / "x.pth")


def test_one_dictionary_under_two_names_has_both(tmp_path: Path) -> None:
    state = state_of(1)
    torch.save({"student": state, "teacher": state}, tmp_path / "x.pth")
    same(open_checkpoint(tmp_path / "x.pth", entry="teacher").state, state)


def test_a_network_that_sees_grey_is_recognised(tmp_path: Path) -> None:
    torch.save({"net": timm.create_model("resnet18", in_chans=1, num_classes=7).state_dict()}, tmp_path / "fer.pth")
    info = backbones.inspect_checkpoint(tmp_path / "fer.pth")
    assert info.fits == "timm:resnet18"
    assert "-O in_chans=1" in info.commands[0]
    assert any("sees grey" in note for note in info.notes)
    made = backbones.create("timm:resnet18", weights=tmp_path / "fer.pth", in_chans=1, mean=0.5, std=0.5, img_size=48)
    assert made.transform.channels == 1


def test_a_file_whose_own_name_has_the_mark_is_that_file(tmp_path: Path) -> None:
    torch.save(state_of(1), tmp_path / "run#3.pth")
    backbones.create("timm:test_resnet", weights=tmp_path / "run#3.pth")


NUMBERED: dict[str, Any] = {
    "children": lambda module: nn.Sequential(*module.children()).state_dict(),
    "children without the head": lambda module: nn.Sequential(*list(module.children())[:-1]).state_dict(),
    "under a name": lambda module: with_prefix(nn.Sequential(*list(module.children())[:-1]).state_dict(), "features."),
    "first of two": lambda module: with_prefix(module.state_dict(), "0.") | {"1.weight": torch.ones(3, 8)},
    "a list": lambda module: list(module.state_dict().values()),
    "numbers as names": lambda module: dict(enumerate(module.state_dict().values())),
    "numbers as text": lambda module: {str(n): t for n, t in enumerate(module.state_dict().values())},
}


@pytest.mark.parametrize("form", NUMBERED)
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_numbered_names_are_found_by_their_place(form: str, name: str, tmp_path: Path) -> None:
    module = network(name)
    torch.save(NUMBERED[form](module), tmp_path / "x.pth")
    made = backbones.create(f"timm:{name}", weights=tmp_path / "x.pth")
    expected = module.state_dict()
    assert all(torch.equal(t, expected[key]) for key, t in made.state().items())  # type: ignore[attr-defined]


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(list(network("test_resnet").state_dict().values())[:-5], tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="do not fit"), warnings.catch_warnings():
        backbones.create("timm:test_resnet", weights=tmp_path / "x.pth")
