"""Pages of the documentation as tests read them: command lines, what they say is printed, Python."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:\$ )?(cer-(?:feat|fuse) [^#>]*)")


@dataclass(frozen=True)
class Step:
    """A command line, without comment or redirection, and the lines that the page shows below it."""

    command: str
    printed: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A page by its path in the checkout, such as `docs/tutorial.md`."""

    name: str

    @property
    def text(self) -> str:
        return (ROOT / self.name).read_text(encoding="utf-8")

    def blocks(self, *languages: str) -> list[str]:
        """Fenced blocks, of these languages if any are named."""
        return [body for language, body in _FENCED.findall(self.text) if not languages or language in languages]

    @property
    def python(self) -> list[str]:
        return self.blocks("python")

    def file(self, name: str) -> str:
        """The block that shows a file of this name: its first line is a comment that says so."""
        [found] = [body for body in self.python if body.startswith(f"# {name}\n")]
        return found

    @property
    def steps(self) -> list[Step]:
        return [step for block in self.blocks("", "console") for step in steps_of(block)]

    @property
    def commands(self) -> list[str]:
        return [step.command for step in self.steps]


def steps_of(block: str) -> list[Step]:
    """The command lines of one block; a backslash at the end joins a line with the next."""
    found: list[Step] = []
    for line in block.replace("\\\n", " ").splitlines():
        command = _COMMAND.match(line)
        if command:
            found.append(Step(" ".join(command[1].split()), ()))
        elif found and line.strip() and not line.startswith("$ "):
            found[-1] = Step(found[-1].command, (*found[-1].printed, line))
    return found


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """Parse a command line as the command itself would: its name and its parameters; a mistake raises."""
    import typer.main

    from cer_fusion.commands import feat, fuse

    front, *words = shlex.split(line)
    command: Any = typer.main.get_command(feat.app if front == "cer-feat" else fuse.app)
    context = command.make_context(front, words)
    return words[0], command.commands[words[0]].make_context(words[0], words[1:], parent=context).params


def options() -> set[str]:
    """Every option that a command knows."""
    import typer.main

    from cer_fusion.commands import feat, fuse

    def of(command: Any) -> set[str]:
        command = getattr(command, "real", command)
        inner = [of(one) for one in getattr(command, "commands", {}).values()]
        return {option for parameter in command.params for option in parameter.opts}.union(*inner)

    return of(typer.main.get_command(feat.app)) | of(typer.main.get_command(fuse.app))
