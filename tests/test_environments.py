"""The environments that CI tests in: the lowest versions are those declared, and every Python is found."""

from __future__ import annotations

import stat
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests import environments


def _declared() -> dict[str, Version]:
    """The floor of each requirement that `pip install .[test]` has."""
    project = tomllib.loads((environments.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    waiting, floors = [*project["dependencies"], *extras["test"]], {}
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == project["name"]:
            waiting += [line for extra in requirement.extras for line in extras[extra]]
            continue
        (floor,) = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        floors[requirement.name] = max(floor, floors.get(requirement.name, floor))
    return floors


def test_every_dependency_states_a_floor_and_the_lowest_versions_are_those_floors() -> None:
    kept = {}
    for line in environments.LOWEST.read_text(encoding="utf-8").splitlines():
        if line and not line.lstrip().startswith("#"):
            name, _, version = line.partition("==")
            kept[name] = Version(version)
    floors = _declared()
    assert {name: kept.get(name) for name in floors} == floors


def test_the_newest_of_each_finished_cpython_is_taken_and_what_does_not_start_is_left(tmp_path: Path) -> None:
    def fake(name: str, answer: str, status: int = 0) -> str:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\necho {answer}\nexit {status}\n", encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)

    files = [
        fake("shim", "", 127),
        fake("old", "cpython final 3 10 13"),
        fake("a", "cpython final 3 13 0"),
        fake("b", "cpython final 3 13 4"),
        fake("beta", "cpython beta 3 15 0"),
        fake("pypy", "pypy final 3 11 9"),
    ]
    found = environments.pythons(files)
    assert {minor: python.path for minor, python in found.items()} == {(3, 13): files[3]}


def test_the_python_that_runs_this_is_one_that_is_declared() -> None:
    assert sys.version_info[:2] in environments.declared_minors()
