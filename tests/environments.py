"""Run the suite in other environments than this one: every other CPython that is found, and the lowest versions.

    python tests/environments.py pythons    # each CPython from 3.11 up, but for the one that runs this
    python tests/environments.py lowest     # the lowest declared version of every dependency

Environments are made one after another, and each is removed before the next: with PyTorch they take 6 GB. Nothing but
the standard library is needed to run this file. What is absent is said. Exit status 1 if any run failed. Tests marked
slow are left to `make test`: what they show depends on no version, and in every environment they would double the time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOWEST = ROOT / "constraints" / "lowest.txt"
OLDEST = (3, 11)
OTHER_PYTHONS_RUN = ("tests/featstore", "tests/fusion", "tests/reliability")
"""What must hold on every Python; the rest of the suite runs on one. Tests marked slow run on that one alone."""


@dataclass(frozen=True, kw_only=True)
class Python:
    """A CPython on this machine: its version, and the file to start."""

    version: tuple[int, int, int]
    path: str

    @property
    def minor(self) -> tuple[int, int]:
        return self.version[:2]

    def __str__(self) -> str:
        return f"CPython {'.'.join(map(str, self.version))}"


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in (["pythons"], ["lowest"]):
        print(__doc__, file=sys.stderr)
        return 2
    found = pythons(candidates())
    if arguments[0] == "pythons":
        others = [python for minor, python in sorted(found.items()) if minor != sys.version_info[:2]]
        for minor in sorted(declared_minors() - found.keys() - {sys.version_info[:2]}):
            print(f"CPython {minor[0]}.{minor[1]}: not found on this machine, so nothing ran on it", flush=True)
        outcomes = [run_suite(python, OTHER_PYTHONS_RUN) for python in others]
    elif (oldest := found.get(OLDEST)) is None:
        print(f"the lowest versions go with CPython {OLDEST[0]}.{OLDEST[1]}, which is not found on this machine")
        return 1
    else:
        outcomes = [run_suite(oldest, (), constraints=LOWEST)]
    print(*(said for _, said in outcomes), sep="\n", flush=True)
    return int(any(status for status, _ in outcomes))


def run_suite(python: Python, tests: Sequence[str], *, constraints: Path | None = None) -> tuple[int, str]:
    """Make an environment, run these tests in it (none named: all), remove it; the exit status, and a line of words."""
    title = f"{python} with {'the lowest versions' if constraints else 'the newest versions'}"
    print(f"\n== {title}: {' '.join(tests) or 'the whole suite'}, but for slow tests", flush=True)
    with tempfile.TemporaryDirectory(prefix="cer-environment-", ignore_cleanup_errors=True) as folder:
        environment = Path(folder) / "venv"
        inside = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install = [*pip, "--editable", f"{ROOT}[test]", *(("--constraint", constraints) if constraints else ())]
        for command in ([python.path, "-m", "venv", environment], install):
            status = subprocess.run(command, cwd=ROOT).returncode
            if status:
                return status, f"{title}: the environment could not be made"
        quick = ["-n", "auto", "--dist", "loadfile", "-p", "no:cacheprovider", "-m", "not slow"]
        suite = [inside, "-m", "pytest", *quick, *tests]
        with subprocess.Popen(suite, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
            last = ""
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                last = line.strip() or last
        return process.returncode, f"{title}: {last.strip('= ')}"


def candidates() -> Iterable[str]:
    """Files that may be a CPython: on the path, and where version managers keep them."""
    for minor in range(OLDEST[1], OLDEST[1] + 10):
        if (on_path := shutil.which(f"python3.{minor}")) is not None:
            yield on_path
    home = Path.home()
    for kept in (Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions", home / ".local/share/uv/python"):
        yield from map(str, sorted(kept.glob("*3.*/bin/python3")))


def pythons(paths: Iterable[str]) -> dict[tuple[int, int], Python]:
    """Of each minor version from 3.11 up, the newest of these that starts and is a finished CPython."""
    asked = "import sys; print(sys.implementation.name, sys.version_info.releaselevel, *sys.version_info[:3])"
    found: dict[tuple[int, int], Python] = {}
    for path in paths:
        answer = subprocess.run([path, "-c", asked], capture_output=True, text=True, encoding="utf-8")
        name, level, *numbers = [*answer.stdout.split(), "", ""]
        if answer.returncode or (name, level) != ("cpython", "final"):
            continue
        major, minor, patch = map(int, numbers[:3])
        python = Python(version=(major, minor, patch), path=path)
        known = found.get(python.minor)
        if python.minor >= OLDEST and (known is None or known.version < python.version):
            found[python.minor] = python
    return found


def declared_minors() -> set[tuple[int, int]]:
    """The minor versions that the project says it is made for."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    matches = [re.fullmatch(r"Programming Language :: Python :: (\d+)\.(\d+)", entry) for entry in classifiers]
    return {(int(match[1]), int(match[2])) for match in matches if match}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
