"""What each package shows to the world, and what importing it costs."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("backbones", "demofaces", "featstore", "fusion")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there_and_the_list_is_sorted(name):
    package = importlib.import_module(f"cer_fusion.{name}")
    assert list(package.__all__) == sorted(package.__all__, key=lambda public: (not public.isupper(), public))
    for public in package.__all__:
        assert getattr(package, public) is not None


@pytest.mark.parametrize("name", PACKAGES)
def test_no_module_bears_the_name_of_a_public_function_of_its_package(name):
    """Importing such a module would put it in the function's place."""
    package = importlib.import_module(f"cer_fusion.{name}")
    lazy = "__getattr__" in vars(package)
    clashes = [n for n in package.__all__ if lazy and (ROOT / name / f"{n}.py").exists()]
    assert clashes == []


RECORDS = {"CompactReport", "DrawnDataset", "ExportReport", "Feature", "FeatureSpec", "FinetuneReport", "FrameSound",
           "Garbage", "Held", "VerifyReport"}  # fmt: skip
"""Classes that a call returns, or that others of the package make: nobody types their paths."""


def functions_of(package: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(f"cer_fusion.{package}")
    for name in module.__all__:
        public = getattr(module, name)
        if name in RECORDS or (inspect.isclass(public) and issubclass(public, BaseException)):
            continue
        own = vars(public).items() if inspect.isclass(public) else ()
        yield from ((f"{name}.{key}", getattr(public, key)) for key, one in own if key[0] != "_" and callable(one))
        yield name, public


@pytest.mark.parametrize("package", [*PACKAGES, "frames", "challenge"])
def test_whatever_takes_a_path_takes_a_text(package):
    alone = []
    for name, public in functions_of(package):
        with contextlib.suppress(TypeError, ValueError):  # a class that has no signature
            for one in inspect.signature(public).parameters.values():
                if "Path" in str(one.annotation) and "str" not in str(one.annotation):
                    alone.append(f"{name}({one.name}: {one.annotation})")
    assert [one for one in alone if not one.startswith("Manifest(root: Path)")] == []  # it makes a Path of a text


@pytest.mark.parametrize("name", [*PACKAGES, "commands"])
def test_type_information_ships(name):
    assert (ROOT / name / "py.typed").exists()


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import cer_fusion.featstore", {"torch", "timm", "PIL", "sklearn", "xgboost", "matplotlib"}),
        ("import cer_fusion.backbones", {"torch", "timm", "h5py"}),
        ("import cer_fusion.fusion", {"torch", "sklearn", "xgboost", "matplotlib", "scipy", "h5py", "PIL"}),
        (
            "import cer_fusion.cli, cer_fusion.commands.feat, cer_fusion.commands.fuse",
            {"torch", "numpy", "h5py", "sklearn", "PIL", "matplotlib"},
        ),
    ],
)
def test_importing_stays_light(code, heavy):
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert not heavy & set(found.stdout.split())
