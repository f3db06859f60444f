"""Recipes: what other systems do, as short TOML files of steps that exist anyway, and the columns they make.

A file names a head with its settings, which blocks and labels it sees, whether it answers compounds from basic
expressions, and how its answers are smoothed, or that it answers by prompts instead; beside that its source, what is
theirs and what was chosen here. Those of this package lie beside this module; users keep theirs in a folder of their
own.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from ...kit.errors import CerError, nearest
from ...kit.plain import from_plain, to_plain
from ..data.rows import Rows
from ..errors import FusionError, RecipeError
from ..heads import head_class, head_settings, make_head
from ..heads.late import OF_MEMBERS, by_position
from ..heads.settings import check_kinds
from ..judging.entries import After, Entry, entries_of
from ..judging.prompts import PromptColumns
from ..judging.zero_shot import Columns, Rule, ZeroShotColumns, with_basic, with_unit_table

__all__ = ["Recipe", "choose_recipes", "read_recipe", "recipe_columns", "recipes_in", "shipped_recipes"]

SUFFIX = ".toml"
MOST_BYTES = 100_000
"""A recipe is short; what is longer is another file."""


@dataclass(frozen=True, kw_only=True)
class RecipeHead:
    """The head of a recipe."""

    name: str
    """As `make_head` knows it."""
    preset: str | None = None
    """Named settings that the others go before."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As `make_head` takes them; weights a class by the names of the classes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system in steps that exist anyway; from a file's keys, but for its name."""

    name: str
    """The file's name without its ending."""
    about: str
    """What it does, in a line."""
    system: str
    """Whose it is, and where it stood."""
    source: tuple[str, ...]
    """Where it is described."""
    theirs: tuple[str, ...]
    """What the source says, a sentence each."""
    ours: tuple[str, ...] = ()
    """What the source leaves open or does otherwise, and what was chosen."""
    features: tuple[str, ...] = ()
    """Backbones of the source; other ones are told in the report, not refused."""
    blocks: tuple[str, ...] = ()
    """Blocks or features that it needs, and the only ones that it sees; none: it sees all."""
    soft_labels: Literal["never", "if there", "needed"] = "never"
    """Whether its head learns from votes instead of labels."""
    targets: Literal["never", "if there", "needed"] = "never"
    """Whether its head learns action units beside the classes."""
    basic: Literal["never", "needed"] = "never"
    """Whether its head learns from rows of basic expressions beside the compounds', by a curriculum or mixed."""
    optional: tuple[str, ...] = ()
    """Features that it uses where the rows have them; the report says where not."""
    head: RecipeHead | None = None
    """What learns: compounds, or basic expressions where there is a rule. None only where `waits_for` says why, or
    nothing learns."""
    prompts: bool = False
    """Whether it answers by text vectors that stand for classes, and nothing learns."""
    waits_for: str | None = None
    """What this version lacks for it; such a recipe is listed with its source, and never run."""
    rule: Rule | None = None
    """How two basic expressions make a compound, which it then never learns."""
    smooth: str | None = None
    """How answers are smoothed within videos, such as ``box:25``."""

    @property
    def fault(self) -> str | None:
        """Why nothing can run it here, whatever the rows; None if it can."""
        if self.prompts:
            given = {"soft_labels": self.soft_labels != "never", "targets": self.targets != "never"}
            given["blocks"] = bool(self.blocks)
            if any(given.values()):
                return f"it answers by prompts, and has no use for {', '.join(key for key in given if given[key])}"
            return None
        if self.head is None:
            return f"it waits for {self.waits_for}"
        if self.rule is not None and self.blocks:
            return "a recipe with a rule sees the blocks of two datasets, and cannot name blocks"
        try:
            kind = head_class(self.head.name)
            lacking = [library for library in kind.needs if not find_spec(library)]
            if lacking:
                return f"head {self.head.name!r} needs {', '.join(lacking)}, which is not installed"
            known = head_settings(self.head.name)
            for setting in self.head.settings:  # `blocks` and `preset` are none, though `make_head` takes them
                if setting not in known:
                    return f"head {self.head.name!r} has no setting {setting!r}; {nearest(setting, known)}"
            head = make_head(self.head.name, preset=self.head.preset, **self.head.settings)
            check_kinds(head)
            if hasattr(head, "_check"):  # ranges, of heads that can tell without rows
                head._check()
            member = getattr(head, "member", "")
            for name in member.values() if isinstance(member, Mapping) else [member]:
                if name in OF_MEMBERS:
                    return f"a member of {self.head.name!r} cannot be {name!r} itself; name another head"
        except FusionError as error:
            return str(error)
        if self.targets != "never" and not kind.learns_targets:
            return f"head {self.head.name!r} learns classes alone, and the recipe action units too"
        wants = {setting for setting in ("curriculum", "mixed_compounds") if self.head.settings.get(setting)}
        if (self.basic == "needed") != bool(wants):
            return (
                "rows of basic expressions (basic) are for a head with a curriculum or mixed_compounds, and the reverse"
            )
        if self.soft_labels != "never" and not kind.learns_soft_labels:
            return f"head {self.head.name!r} learns from one label a row, and the recipe from votes"
        return None

    def lacks(self, rows: Rows, basic: Rows | None, texts: PromptColumns | None = None) -> str | None:
        """Return what these rows lack for it, and how that is made; None if nothing."""
        if self.prompts and texts is None:
            return (
                "answers by prompts, and there are no text vectors\n  give them: --prompts VECTORS\n  make them with "
                "the encoder of the rows: cer-feat prompts --backbone clip:FOLDER -o prompts.safetensors"
            )
        known = {**rows.by_feature(), **{name: (name,) for name in rows.blocks}}
        missing = [name for name in self.blocks if name not in known]
        if missing:
            return (
                f"needs {', '.join(missing)}, and the rows have {', '.join(rows.blocks)}\n"
                f"  make it: cer-feat extract --backbone {missing[0].partition('.')[0]} --data …"
            )
        if self.soft_labels == "needed" and rows.soft is None:
            return (
                "learns from votes, and there are none\n  give them: --soft-labels TABLE "
                "(cer-feat manifest ferplus … --votes TABLE makes one)"
            )
        if self.targets == "needed" and rows.targets is None:
            return (
                "learns action units beside the classes, and there are none\n  give them: a manifest with columns au.N "
                "(cer-feat manifest raf-ce makes one), or --targets TABLE (cer-feat manifest raf-ce … --targets TABLE "
                "makes one)"
            )
        if (self.rule is not None or self.basic == "needed") and basic is None:
            return (
                "learns basic expressions, and there are no rows of those\n"
                "  give a dataset of the same features: --zero-shot DATASET\n  make one: cer-feat extract "
                "--backbone … --data basic.csv"
            )
        return None

    def note(self, rows: Rows) -> str:
        """Say in a report what the column is, and on which backbones where the source has others."""
        steps = ["by prompts"] if self.head is None else [f"head {self.head.name!r}"]
        if (head := self.head) is not None:
            steps += [] if head.preset is None else [f"preset {head.preset!r}"]
            steps += [f"{key}={value}" for key, value in head.settings.items()]
        steps += [] if self.basic == "never" else ["basic expressions beside"]
        steps += [] if self.rule is None else [f"of basic expressions, rule {self.rule!r}"]
        steps += [] if self.smooth is None else [f"smoothed by {self.smooth}"]
        here = tuple(rows.by_feature())
        other = (
            f" The source has {', '.join(self.features)}, the rows {', '.join(here)}."
            if self.features and set(self.features) != set(here)
            else ""
        )
        lacking = [name for name in self.optional if name not in here and name not in rows.blocks]
        other += f" The rows have no {', '.join(lacking)}, which it would use." if lacking else ""
        return f"Recipe {self.name!r} ({self.system}; {self.source[0]}): {', '.join(steps)}.{other}"

    @property
    def command(self) -> str:
        """Return how its head is trained by hand, or its answers are given where nothing is trained."""
        if self.prompts:
            rule = "" if self.rule is None else f" --rule {self.rule}"
            return f"cer-fuse predict --prompts prompts.safetensors --compounds abaw7{rule}"
        head = _head_of(self)
        words = [f"cer-fuse train --head {head.name}"]
        words += [] if head.preset is None else [f"--preset {head.preset}"]
        words += [f"--set '{key}={_json(value)}'" for key, value in head.settings.items()]
        words += [f"--features {','.join(self.blocks)}"] if self.blocks else []
        words += [] if self.soft_labels == "never" else ["--soft-labels votes.csv"]
        words += [] if self.targets == "never" else ["--targets aus.csv"]
        words += [] if self.rule is None else ["--data basic"]
        words += [] if self.basic == "never" else ["--basic basic"]
        return " ".join(words)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe's file.

    Raises
    ------
    RecipeError
        If it is no TOML, a key is unknown, missing or of another kind.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{path} has more than {MOST_BYTES:,} bytes: no recipe is that long")
    return _parsed(data, path.name.removesuffix(SUFFIX), str(path))


def shipped_recipes() -> dict[str, Recipe]:
    """Return the recipes of this package by name, in the order of the alphabet."""
    files = sorted((one for one in resources.files(__name__).iterdir() if one.name.endswith(SUFFIX)), key=_name)
    return {_name(one): _parsed(one.read_bytes(), _name(one), one.name) for one in files}


def recipes_in(folder: Path | str | None) -> dict[str, Recipe]:
    """Return the recipes of this package and those of a folder, by name.

    Raises
    ------
    RecipeError
        If the folder is none, a file is no recipe, or has the name of one of this package: neither replaces the other.
    """
    folder = None if folder is None else Path(folder)
    found = shipped_recipes()
    if folder is None:
        return found
    if not folder.is_dir():
        raise RecipeError(f"{folder} is no folder of recipes")
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        own = read_recipe(path)
        if own.name in found:
            raise RecipeError(f"{path} has the name of a recipe that is there already: rename the file")
        found[own.name] = own
    return found


def choose_recipes(known: Mapping[str, Recipe], names: Iterable[str]) -> list[Recipe]:
    """Return recipes by their names.

    Raises
    ------
    RecipeError
        If there is none of a name, one is named twice, or cannot run here.
    """
    chosen: list[Recipe] = []
    for name in names:
        if name not in known:
            raise RecipeError(f"there is no recipe {name!r}; {nearest(name, known)}")
        if known[name] in chosen:
            raise RecipeError(f"recipe {name!r} is named twice")
        if fault := known[name].fault:
            raise RecipeError(f"recipe {name!r} cannot run here: {fault}")
        chosen.append(known[name])
    return chosen


class Smoother(Protocol):
    """What smooths answers over time, which this package has not heard of: `cer_fusion.challenge.over_time`."""

    def __call__(self, setting: str) -> After:
        """Return what smooths by a setting, refusing one that cannot be."""


def recipe_columns(
    recipes: Sequence[Recipe],
    rows: Rows,
    *,
    test: Rows | None = None,
    basic: Rows | None = None,
    source: str = "basic",
    texts: PromptColumns | None = None,
    smoother: Smoother | None = None,
    device: str | None = None,
    seed: int = 0,
    leave_out: Callable[[Recipe, str], None] | None = None,
) -> list[Entry | Columns]:
    """Return the columns of recipes, as `compare` and `cross_compare` take them beside heads.

    Parameters
    ----------
    recipes : sequence of Recipe
    rows : Rows
        What is learned from.
    test : Rows, optional
        What is answered, if that is not the same.
    basic : Rows, optional
        Rows of the same features with basic expressions, none of which is judged, for recipes with a rule or a
        curriculum.
    source : str
        Where those are from.
    texts : PromptColumns, optional
        Text vectors and the rows that they are held against, for recipes that answer by prompts.
    smoother : callable (setting), optional
        For recipes that smooth: `cer_fusion.challenge.over_time`.
    device : str, optional
        For heads that compute on a device of one's choice.
    seed : int
        Of heads without one.
    leave_out : callable (recipe, reason), optional
        Is told of a recipe that cannot run on these rows, which is then left out; without, it is an error.

    Raises
    ------
    RecipeError
        If a recipe cannot run on these rows; says what it needs and how that is made.
    """
    found: list[Entry | Columns] = []
    asked = rows if test is None else test
    for recipe in recipes:
        reason = recipe.lacks(rows, basic, texts)
        after = None
        if reason is None and recipe.smooth is not None:
            if smoother is None:
                raise RecipeError(f"recipe {recipe.name!r} smooths over time: give a smoother")
            try:
                after = smoother(recipe.smooth)
                after.check(asked)
            except CerError as error:
                reason = f"smooths over time, and cannot: {error}"
        if reason is None:
            column = (
                _column(recipe, rows, basic, source, after, device, seed)
                if texts is None or not recipe.prompts
                else replace(
                    texts, rules=() if recipe.rule is None else (recipe.rule,), title=recipe.name, after=after,
                    about=recipe.note(rows),
                )
            )  # fmt: skip
            reason = _unanswerable(column, asked)
        if reason is None:
            found.append(column)
        elif leave_out is None:
            raise RecipeError(f"recipe {recipe.name!r} {reason}")
        else:
            leave_out(recipe, reason)
    return found


def _unanswerable(column: Entry | Columns, asked: Rows) -> str | None:
    """Return why the expressions that were learned make none of the compounds that are asked for; None if they do."""
    if isinstance(column, Entry):
        return None
    try:
        column.check(asked)
    except CerError as error:
        return f"cannot answer these rows: {error}"
    return None


def _column(
    recipe: Recipe, rows: Rows, basic: Rows | None, source: str, after: After | None, device: str | None, seed: int
) -> Entry | Columns:
    learned = rows if basic is None or recipe.rule is None else basic
    if recipe.blocks:
        owned = {**{name: (name,) for name in rows.blocks}, **rows.by_feature()}
        learned = learned.only(list(dict.fromkeys(block for name in recipe.blocks for block in owned[name])))
    wanted = _head_of(recipe)
    settings = dict(wanted.settings)
    if isinstance(settings.get("weights"), Mapping):
        settings["weights"] = by_position(settings["weights"], learned.classes)
    if wanted.name == "multitask":
        settings = with_unit_table(settings, learned)
    if device is not None and "device" in head_settings(wanted.name) and "device" not in settings:
        settings["device"] = device
    head = make_head(wanted.name, blocks=learned.widths, preset=wanted.preset, **settings)
    if "random_state" not in settings:
        head.set_params(random_state=seed)
    if recipe.rule is not None:
        return ZeroShotColumns(
            head=head, rows=learned, rules=(recipe.rule,), source=source, title=recipe.name, after=after,
            about=recipe.note(rows),
        )  # fmt: skip
    (entry,) = entries_of({recipe.name: head}, learned, seed=seed)
    beside = with_basic(rows, basic) if basic is not None and recipe.basic == "needed" else None
    return replace(
        entry, votes=recipe.soft_labels != "never", after=after, about=recipe.note(rows), beside=beside
    )  # fmt: skip


def _parsed(data: bytes, name: str, where: str) -> Recipe:
    try:
        plain = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where} is not UTF-8 (byte {error.start})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{where} is no TOML: {error}") from None
    if name == "all" or "," in name:
        raise RecipeError(f"{where} cannot be named by --recipes: rename the file")
    to_plain(plain, where=where, error=RecipeError)  # dates and times are no settings
    if "name" in plain:
        raise RecipeError(f"{where} says its name, which is that of the file: leave the key out")
    if "rule" in plain and plain["rule"] not in get_args(Rule):
        raise RecipeError(f"{where}: there is no rule {plain['rule']!r}; {nearest(str(plain['rule']), get_args(Rule))}")
    recipe = from_plain(Recipe, plain | {"name": name}, where, error=RecipeError, defaults=True)
    if (recipe.head is not None) + (recipe.waits_for is not None) + recipe.prompts != 1:
        raise RecipeError(
            f"{where} needs a [head], or waits_for that says what is lacking, or prompts = true, and not both"
        )
    if not recipe.source:
        raise RecipeError(f"{where} has no source: say where the system is described, or that it is yours")
    return recipe


def _head_of(recipe: Recipe) -> RecipeHead:
    """Return the head of a recipe that can run."""
    if recipe.head is None:
        raise RecipeError(f"recipe {recipe.name!r} cannot run here: {recipe.fault}")
    return recipe.head


def _name(file: Any) -> str:
    return str(file.name).removesuffix(SUFFIX)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
