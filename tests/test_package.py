"""What is installed: one package that holds the repository's folders, whatever the clone is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cer_fusion

ROOT = Path(__file__).parents[1]
APART = ("tests", "benchmarks", "docs")
"""Folders of the repository that are not installed."""


def tracked() -> list[str]:
    """Files of this checkout, those included that git does not know yet, without what it ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def installed_files() -> list[str]:
    """Files of the repository that belong into the package: its modules, and the data beside them."""
    inside = [name for name in tracked() if "/" in name and name.partition("/")[0] not in APART]
    packages = {name.rpartition("/")[0] for name in inside if name.endswith(".py")}
    return sorted(["__init__.py", "cli.py", "py.typed", *(n for n in inside if n.rpartition("/")[0] in packages)])


def copied(target: Path) -> Path:
    """Return a copy of this checkout's files, as a clone has them."""
    for name in tracked():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)
    return target


def test_the_list_of_packages_is_what_the_tree_holds():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {str(Path(name).parent).replace(os.sep, ".") for name in installed_files() if name.endswith(".py")} - {"."}
    assert stated == sorted(["cer_fusion", *(f"cer_fusion.{name}" for name in found)])


def test_the_versions_that_go_together_fulfil_what_is_declared_and_name_no_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "constraints" / "exact.txt").read_text(encoding="utf-8")
    assert "://" not in text
    exact = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["test"], *extras["dev"], *extras["docs"]):
        wanted = Requirement(line)
        if wanted.name != "cer-fusion":
            assert exact[wanted.name.lower()] in wanted.specifier, line


def test_what_is_cited_is_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{project['version']}}}" in (ROOT / "docs" / "references.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_wheel_holds_one_package_and_all_of_the_tree(tmp_path):
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    built = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path],
        cwd=copied(tmp_path / "clone"),
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},  # it would warn
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "warning" not in (built.stdout + built.stderr).lower()
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0] for name in names} == {"cer_fusion", "cer_fusion-0.1.0.dist-info"}
    inside = sorted(name.partition("/")[2] for name in names if name.startswith("cer_fusion/"))
    assert inside == installed_files()
    assert "cer-feat = cer_fusion.cli:feat_main" in points
    assert "cer-fuse = cer_fusion.cli:fuse_main" in points


@pytest.mark.parametrize("name", ["cer-fusion", "cerfusion", "cer_fusion"])
def test_tests_are_found_whatever_a_clone_is_called(name, tmp_path):
    clone = copied(tmp_path / name)
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "cer_fusion").symlink_to(clone, target_is_directory=True)
    looked = clone / "tests" / "test_looked.py"
    looked.write_text(
        "import sys\n\nimport cer_fusion\nfrom tests.pages import ROOT\n\n\ndef test_here():\n"
        f"    assert cer_fusion.__file__.startswith({str(tmp_path)!r})\n"
        f"    assert str(ROOT) == {str(clone)!r}\n"
        "    doubled = [name for name in sys.modules if name.endswith('.tests') or '.tests.' in name]\n"
        "    assert doubled == []\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "names")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(looked)]
    found = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_none_of_its_rooms():
    code = (
        "import sys, cer_fusion; print(*sorted(n for n in sys.modules if n.startswith('cer_fusion') or n == 'numpy'))"
    )
    assert python(code).split() == ["cer_fusion"]


def test_public_names_come_when_they_are_asked_for():
    code = (
        "import json, cer_fusion; names = [n for n in dir(cer_fusion) if not n.startswith('_')]; "
        "print(json.dumps([names, [getattr(cer_fusion, n).__module__ for n in names], cer_fusion.__version__]))"
    )
    names, homes, version = json.loads(python(code))
    assert {"Manifest", "Store", "compare", "create", "extract", "make_head", "sweep"} <= set(names)
    assert all(home.startswith("cer_fusion.") for home in homes)
    assert version == "0.1.0"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cer_fusion.nothing  # noqa: B018
