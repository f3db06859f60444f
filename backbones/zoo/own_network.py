"""A network of the user's own: ``file.py:Class`` or ``module:Class``; its code is run, as it was named to be.

The class is a ``torch.nn.Module`` from pictures to rows, and says in attributes what its rows are called, how wide they
are and what its input means; keyword arguments with defaults are options::

    class Mine(nn.Module):
        blocks = {"pooled": 128}
        size_px, mean, std = 112, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

        def __init__(self, width: int = 128) -> None: ...
        def forward(self, x): ...  # (b, 3, 112, 112) -> (b, 128), or {block: (b, d)} where there are several

The digest of the code, and of the files beside it that it imports, is part of the identity.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..errors import OptionError, UnknownBackboneError, nearest
from ..picture import Transform
from ..recipes import Encoder, Recipe
from ..weights.checkpoint import strip

DIGEST = "code_digest"
"""The option under which an identity holds the digest of the code."""

NEEDED = ("blocks", "size_px", "mean", "std")
PREPROCESSING = tuple(field.name for field in fields(Transform))


def build(*, target: str, tag: str | None, pretrained: bool, **options: Any) -> Encoder:
    """Build the network.

    Parameters
    ----------
    target : str
        ``folder/file.py:Class`` or ``package.module:Class``.
    tag, pretrained
        Always None and False: weights are a file, or "random", which is however the class fills its layers.
    **options
        Keyword arguments of the class.
    """
    code = Code.named(target)
    usual = options_of(target)
    told = {k: tuple(v) if isinstance(v, list) and isinstance(usual.get(k), tuple) else v for k, v in options.items()}
    try:
        stated = json.loads(json.dumps({**usual, **told}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"options of {code.label} must be what JSON holds ({error}): { ({**usual, **told}) }"
        ) from None
    with code.importable():
        network = code.load()(**told)
    said: dict[str, Any] = {
        name: getattr(network, name) for name in (*NEEDED, *PREPROCESSING) if hasattr(network, name)
    }
    if missing := [name for name in NEEDED if name not in said]:
        raise OptionError(
            f"{code.label} does not say its {', '.join(missing)}\n"
            "  set attributes of the class: blocks = {'pooled': 128}, size_px = 112, mean = (0.5, 0.5, 0.5), "
            f"std = (0.5, 0.5, 0.5); beside them {', '.join(n for n in PREPROCESSING if n not in NEEDED)} and heads\n"
            f"  in file: {code.file}"
        )
    digest = _LOADED[code.file] = code.digest()
    blocks = _widths(said.pop("blocks"), code)
    shared = strip(dict(network.state_dict()))[1]

    def adapt(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give names back the prefix that they have in this network too, and that a file's lost when it was opened."""
        return {shared + name: tensor for name, tensor in state.items()}

    given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    given |= {name: (given[name],) for name in ("mean", "std") if isinstance(given[name], int | float)}
    try:
        transform = Transform(**given)
    except TypeError as error:
        raise OptionError(f"what {code.label} says of its input cannot be ({error}): {said}") from None
    return Encoder(
        name=code.label,
        architecture=f"own:{code.attribute}",
        module=Named(network, blocks, code.label),
        trunk=network,
        blocks=blocks,
        transform=transform,
        options={**stated, DIGEST: digest},
        heads=tuple(getattr(network, "heads", ())),
        adapt=adapt if shared else None,
    )


def options_of(target: str) -> dict[str, Any]:
    """Keyword arguments of the class with their defaults."""
    code = Code.named(target)
    with code.importable():
        found = inspect.signature(code.load().__init__).parameters.values()
    given = [
        each for each in found if each.name != "self" and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    if needed := [each.name for each in given if each.default is each.empty]:
        raise OptionError(f"{code.label} needs {', '.join(needed)}: give its arguments defaults, which options replace")
    return {each.name: each.default for each in given}


RECIPE = Recipe(
    name="<file.py>:<Class>",
    note="A network of your own, which says its blocks, size_px, mean and std; or <module>:<Class>. Its code is run.",
    build=build,
    options=options_of,
)


class Named(nn.Module):
    """The network, its output told by block."""

    def __init__(self, network: nn.Module, blocks: Mapping[str, int], label: str) -> None:
        super().__init__()
        self.network = network
        self.blocks = dict(blocks)
        self.label = label

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, c, h, w) -> {block: (b, d)}."""
        found = self.network(x)
        rows = {next(iter(self.blocks)): found} if isinstance(found, Tensor) and len(self.blocks) == 1 else found
        shapes = {k: tuple(v.shape) for k, v in rows.items()} if isinstance(rows, dict) else type(found).__name__
        if shapes != {block: (len(x), width) for block, width in self.blocks.items()}:
            raise OptionError(
                f"{self.label} says blocks {self.blocks}, so {len(x)} pictures must give that many rows of those "
                f"widths, however: {shapes}"
            )
        return dict(rows)


class Code:
    """Where a class is written; found without running anything."""

    def __init__(self, file: Path, root: Path, module: str, attribute: str, label: str) -> None:
        self.file = file
        self.root = root
        """Where imports of files beside it begin."""
        self.module = module
        """Its dotted name; "" for a file."""
        self.attribute = attribute
        self.label = label
        """The name without folders."""

    @classmethod
    def named(cls, target: str) -> Code:
        """Find ``folder/file.py:Class`` or ``package.module:Class``.

        Raises
        ------
        UnknownBackboneError
            If there is no such file or module.
        """
        place, _, attribute = target.rpartition(":")
        if place.endswith(".py"):
            file = Path(place).expanduser().absolute()
            if not file.is_file():
                raise UnknownBackboneError(f"there is no backbone {target!r}: no file {file}")
            return cls(file, file.parent, "", attribute, f"{file.name}:{attribute}")
        found = _module_file(place)
        if found is None:
            raise UnknownBackboneError(
                f"there is no backbone {target!r}, nor a module {place!r} that Python finds from here\n"
                "  there are those of cer-feat backbones, timm:<name>, onnx:<file>, and your own as <file.py>:<Class>"
            )
        return cls(found, found.parents[place.count(".") + (found.name == "__init__.py")], place, attribute, target)

    def digest(self) -> str:
        """Identify the code: sha256 over it and over the files beside it that it imports, with their names.

        Raises
        ------
        OptionError
            If it cannot be read, or is a package of more than `MOST_FILES` files.
        """
        total = hashlib.sha256()
        for file in sorted(self.files(), key=lambda file: file.relative_to(self.root).as_posix()):
            said = file.read_bytes().replace(b"\r\n", b"\n")
            name = "" if file == self.file and not self.module else file.relative_to(self.root).as_posix()
            total.update(f"{name}|{len(said)}|".encode() + said)
        return total.hexdigest()

    def files(self) -> set[Path]:
        """List the file and, of what it imports, those beside it: of its own package, or in its folder."""
        found, to_read = set[Path](), [self.file]
        while to_read:
            file = to_read.pop()
            if file not in found:
                found.add(file)
                if len(found) > MOST_FILES:
                    raise OptionError(
                        f"{self.label} imports over {MOST_FILES} files of its own package, too many to tell it by\n"
                        "  put the class into a file of your own, and import the package from there"
                    )
                to_read += self._imported(file)
        return found

    def _imported(self, file: Path) -> Iterator[Path]:
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError) as error:
            raise OptionError(f"the code of {self.label} cannot be read ({error}): {file}") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wanted = [(self.root, each.name) for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = file.parents[node.level - 1] if node.level else self.root
                inner = [f"{node.module}.{each.name}" if node.module else each.name for each in node.names]
                wanted = [(base, name) for name in (*([node.module] if node.module else []), *inner)]
            else:
                continue
            for base, name in wanted:
                parts = name.split(".")
                if base == self.root and self.module and parts[0] != self.module.split(".")[0]:
                    continue  # another package, beside it in site-packages
                for count in range(1, len(parts) + 1):
                    place = base.joinpath(*parts[:count])
                    yield from (f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file())

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """Let the code import what lies beside it; for a module, what lies in the working folder."""
        before = list(sys.path)
        sys.path.insert(0, str(self.root))
        try:
            yield
        finally:
            sys.path[:] = before

    def load(self) -> type[nn.Module]:
        """Run the code, and take the class from it.

        Raises
        ------
        OptionError
            If it cannot be run, or the name is that of no network.
        UnknownBackboneError
            If it has no such name.
        """
        module = self._module()
        found = getattr(module, self.attribute, None)
        if found is None:
            classes = [k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, nn.Module)]
            raise UnknownBackboneError(
                f"there is no backbone {self.label!r}: {self.file.name} has no {self.attribute!r}"
                f"{nearest(self.attribute, classes)}; other backbones are vit, timm:<name> and onnx:<file>"
            )
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise OptionError(f"{self.label} must be a class of torch.nn.Module, however: {type(found).__name__}")
        return found

    def _module(self) -> ModuleType:
        name, before = self.module, _LOADED.get(self.file)
        digest = self.digest() if before is not None or not name else ""
        name = name or f"cer_fusion_own_{self.file.stem}_{digest[:16]}"
        if before not in (None, digest):  # changed since it was run in this process
            files = {str(file) for file in self.files()}
            for known in [k for k, v in sys.modules.items() if getattr(v, "__file__", None) in files]:
                del sys.modules[known]
        try:
            if self.module or name in sys.modules:
                module = importlib.import_module(name)
            else:
                spec = importlib.util.spec_from_file_location(name, self.file)
                assert spec is not None
                assert spec.loader is not None
                module = sys.modules[name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
        except Exception as error:  # a boundary: it is somebody's program, and its own words are kept
            sys.modules.pop(name, None)
            raise OptionError(
                f"the code of {self.label} cannot be run: {type(error).__name__}: {error}\n  in file: {self.file}"
            ) from error
        if digest:
            _LOADED[self.file] = digest
        return module


MOST_FILES = 256

_LOADED: dict[Path, str] = {}
"""Files that were run in this process, and their digest then."""


def _module_file(dotted: str) -> Path | None:
    """Find a module's source without importing anything."""
    search: list[str] | None = [os.getcwd(), *sys.path]
    known: list[str] = []
    spec: ModuleSpec | None = None
    for part in dotted.split("."):
        known.append(part)
        spec = PathFinder.find_spec(".".join(known), search)
        if spec is None and len(known) == 1:
            spec = importlib.util.find_spec(part)  # what is installed to be edited has finders of its own
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    origin = None if spec is None else spec.origin
    return Path(origin).absolute() if origin and origin.endswith(".py") else None


def _widths(said: Any, code: Code) -> dict[str, int]:
    if not isinstance(said, Mapping) or not said or not all(
        isinstance(name, str) and isinstance(width, int) and width > 0 for name, width in said.items()
    ):  # fmt: skip
        raise OptionError(f"blocks of {code.label} must be names with widths, {{'pooled': 128}}, however: {said!r}")
    return dict(said)
