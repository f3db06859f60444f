"""The shape of the house: files, lines, import circles, and which files a command runs through. No speed.

    python -m benchmarks.shape                  # counts and circles
    python -m benchmarks.shape --commands       # also the files that two commands run through

`--tree` names another checkout, with its own Python beside it (`--python`), to set one state beside an older one.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

APART = ("tests", "benchmarks", "docs")
RECORDER = """
import os, sys, threading
root, out, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
seen = set()
def note(frame, event, _):
    if event == "call" and frame.f_code.co_flags & 1:  # CO_OPTIMIZED: a function, not the body of a class or module
        seen.add((frame.f_code.co_filename, frame.f_code.co_qualname))
threading.setprofile(note)
sys.setprofile(note)
sys.argv = argv
try:
    from {home} import {main} as main
    main()
except SystemExit as end:
    code = end.code
finally:
    sys.setprofile(None)
    with open(out, "w") as file:
        for name, function in sorted(seen):
            place = os.path.relpath(os.path.realpath(name), root)
            if not place.startswith(".") and "<" not in function.rpartition(".")[2]:
                file.write(f"{{place}}\\t{{function}}\\n")
sys.exit(code)
"""
"""Runs a command and writes down which of the project's functions were called; lambdas do not count."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--commands", action="store_true")
    options = parser.parse_args()
    tree = options.tree.resolve()
    sources = source_files(tree)
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in sources]
    imports = {name_of(path, tree): list(imported(path, tree)) for path in sources}
    found: dict[str, object] = {
        "files": len(sources),
        "lines": sum(lengths),
        "median_lines": statistics.median(lengths),
        "under_60_lines": sum(length < 60 for length in lengths),
        "over_600_lines": sum(length > 600 for length in lengths),
        "import_circles": circles({name: sorted(needed(name, ones, imports)) for name, ones in imports.items()}),
    }
    if options.commands:
        for title, called in run_through(tree, options.python).items():
            files = {name for name, _ in called}
            rooms: dict[str, int] = {}
            for name in files:
                rooms[name.partition("/")[0]] = rooms.get(name.partition("/")[0], 0) + 1
            found[title] = {"files": len(files), "functions": len(called), "by_folder": dict(sorted(rooms.items()))}
            found[title]["names"] = sorted(files)  # type: ignore[index]
    print(json.dumps(found, indent=1))


def source_files(tree: Path) -> list[Path]:
    """Return the Python files that git keeps, without tests, benchmarks and documentation."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py"], cwd=tree, capture_output=True, encoding="utf-8", check=True
    )
    names = [name for name in listed.stdout.split("\0") if name and name.partition("/")[0] not in APART]
    return sorted(tree / name for name in names)


def name_of(path: Path, tree: Path) -> str:
    """Return a module's dotted name below the tree; the tree's own is empty."""
    parts = path.relative_to(tree).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, tree: Path) -> Iterator[str]:
    """Give all that a module imports, for types and in functions too: dotted names below the tree."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    own = name_of(path, tree).split(".") if name_of(path, tree) else []
    package = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("cer_fusion.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("cer_fusion").strip(".")
            yield from (f"{name}.{alias.name}".strip(".") for alias in node.names)


def needed(name: str, ones: Iterable[str], modules: Iterable[str]) -> set[str]:
    """Return the modules that a module's imports run: those named, and the packages around them that it is not in."""
    found = {known(one, modules) for one in ones}
    around = {one.rpartition(".")[0] for one in found}
    while around - found:
        found |= around
        around = {one.rpartition(".")[0] for one in around}
    return {one for one in found if one and one != name and not f"{name}.".startswith(f"{one}.")}


def known(name: str, modules: Iterable[str]) -> str:
    """Return the module that holds a name: itself, or the one it is taken from; empty where it is none of ours."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected sets of more than one module, by Tarjan's algorithm (1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other == name or not other:
                continue
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            members = [stack.pop()]
            while members[-1] != name:
                members.append(stack.pop())
            if len(members) > 1:
                found.append(sorted(members))

    sys.setrecursionlimit(10_000)
    for name in graph:
        if name not in index:
            visit(name)
    return found


def run_through(tree: Path, python: str) -> dict[str, set[tuple[str, str]]]:
    """Return (file, function) of all that runs in the two commands, on a dozen drawn faces and random rows."""
    home = "cer_fusion.cli" if (tree / "__init__.py").exists() else "cli"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = (
            f"from {home.replace('cli', 'demofaces')} import write_dataset; from pathlib import Path; import sys; "
            "names = ['Happily Surprised', 'Sadly Angry']; "
            "write_dataset(Path(sys.argv[1]), per_class_train=dict.fromkeys(names, 12), "
            "per_class_test=dict.fromkeys(names, 4))"
        )
        subprocess.run([python, "-c", drawn, str(folder / "faces")], cwd=tree, check=True)
        listing = [
            "cer-feat",
            "manifest",
            "rafdb-compound",
            str(folder / "faces"),
            "--output",
            str(folder / "faces.csv"),
        ]
        recorded(tree, python, home, "feat_main", listing, folder)
        store = ["--store", str(folder / "store")]
        data = ["--data", str(folder / "faces.csv")]
        extract = ["cer-feat", "extract", "--backbone", "resnet50", "--weights", "random", *data, *store]
        train = ["cer-fuse", "train", "--head", "mlp", *store]
        return {
            "extract": recorded(tree, python, home, "feat_main", [*extract, "--device", "cpu"], folder),
            "train": recorded(tree, python, home, "fuse_main", train, folder),
        }


def recorded(tree: Path, python: str, home: str, main: str, command: list[str], folder: Path) -> set[tuple[str, str]]:
    """Run a command under a profiler and return what it called."""
    out = folder / "called.tsv"
    code = RECORDER.format(home=home, main=main)
    run = subprocess.run(
        [python, "-c", code, str(tree), str(out), *command], cwd=folder, capture_output=True, encoding="utf-8"
    )
    if run.returncode:
        sys.exit(f"{' '.join(command)} ended with {run.returncode}:\n{run.stderr}")
    lines = out.read_text(encoding="utf-8").splitlines()
    return {(line.partition("\t")[0], line.partition("\t")[2]) for line in lines}


if __name__ == "__main__":
    main()
