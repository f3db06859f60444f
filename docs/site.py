"""What the site has beside the pages of this folder: the README, what stands at the top, commands, and the Python API.

MkDocs calls it (`hooks` in mkdocs.yml) before a build. The commands are read from the programs themselves, and the
API's pages name each package's `__all__`, so that neither can say what is not so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BROUGHT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "results.md",
    "benchmarks/heads.md": "heads.md",
}
"""Pages that stand elsewhere in the repository, and their names on the site."""
INSTEAD = {"CITATION.cff": "docs/references.md#citing"}
"""Files of the repository that are no page, and what the site has for them."""
PACKAGES = ("featstore", "backbones", "fusion", "frames", "challenge", "testing")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    made = {there: (ROOT / here).read_text(encoding="utf-8") for here, there in BROUGHT.items()}
    made |= {f"commands/{program}.md": commands_page(program) for program in ("cer-feat", "cer-fuse")}
    made |= {f"api/{package}.md": api_page(package) for package in PACKAGES}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Let links that are right in the repository be right on the site."""
    there = {name: here for here, name in BROUGHT.items()}
    source = there.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: _moved(link["path"], source, page.file.src_uri) + (link["anchor"] or ""), markdown)


def _moved(path: str, source: str, page: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    target = INSTEAD.get(target, target)
    if target in BROUGHT:
        target = f"docs/{BROUGHT[target]}"
    if not target.startswith("docs/"):
        return path  # a file of the repository that is no page: the build's check of links names it
    return posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(page) or ".")


def commands_page(program: str) -> str:
    """Every command of a program with its arguments and options, as it declares them."""
    app = import_module(f"cer_fusion.commands.{program.removeprefix('cer-')}").app
    parts = [f"# {program}\n", f"{app.info.help}\n"]
    for name, command in _below(program, typer.main.get_command(app)):
        parts += [f"## {name}\n", _prose(command.help or ""), _table(command)]
    return "\n".join(parts)


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    command = getattr(command, "real", command)
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    for word, one in (inner or {}).items():
        yield from _below(f"{name} {word}", one)


def _prose(text: str) -> str:
    """Help as markdown: an example is a block of code."""
    parts = [part.replace("\n", " ").strip() for part in text.replace("\\[", "[").split("\n\n")]
    shown = [f"```console\n$ {part.removeprefix('Example: ')}\n```" if part.startswith("Example: ") else part
             for part in parts]  # fmt: skip
    return "\n\n".join(shown) + "\n"


def _table(command: Any) -> str:
    lines = ["| | | default |", "|---|---|---|"]
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        is_option = one.param_type_name == "option"
        named = " ".join(
            f"`{word}`" for word in ((*one.opts, *one.secondary_opts) if is_option else [one.name.upper()])
        )
        default = getattr(one, "show_default", None)
        shown = default if isinstance(default, str) else _default(one)
        lines.append("| " + " | ".join(_cell(text) for text in (named, getattr(one, "help", "") or "", shown)) + " |")
    return "\n".join(lines) + "\n"


def _default(one: Any) -> str:
    if one.required:
        return "required"
    plain = one.default
    return "" if plain in (None, False, (), []) or callable(plain) else f"`{plain}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def api_page(package: str) -> str:
    """The public names of a package, documented from their docstrings."""
    names = sorted(import_module(f"cer_fusion.{package}").__all__, key=str.lower)
    return f"# cer_fusion.{package}\n\n" + "\n\n".join(f"::: cer_fusion.{package}.{name}" for name in names) + "\n"
