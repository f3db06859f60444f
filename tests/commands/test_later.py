"""Commands that are imported when they run: the list tells the truth about them, and nothing else is imported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from cer_fusion.commands import feat, fuse

FRONTS = {"cer-feat": feat, "cer-fuse": fuse}
EVERY = [(front, name) for front, module in FRONTS.items() for name in module.COMMANDS]


@pytest.mark.parametrize(("front", "name"), EVERY)
def test_the_list_says_what_the_command_says_of_itself(front, name):
    later = typer.main.get_command(FRONTS[front].app).commands[name]
    assert later.real.help.split("\n\n")[0] == later.help


@pytest.mark.parametrize(("front", "name"), EVERY)
def test_a_command_tells_its_options(front, name):
    told = CliRunner().invoke(FRONTS[front].app, [name, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    assert f"Usage: root {name}" in told.output
    assert "--help" in told.output
    assert "--install-completion" not in told.output
    text = typer.main.get_command(FRONTS[front].app).commands[name].real.help.replace("\\[", "[")
    for bracketed in re.findall(r"\S*\[\S*\]\S*", text):  # Rich would take it for markup
        assert bracketed in told.output


def test_a_command_that_is_not_there_is_told_with_the_nearest():
    told = CliRunner().invoke(fuse.app, ["trian"])
    assert told.exit_code == 2
    assert "Did you mean 'train'?" in told.output


@pytest.mark.parametrize("front", FRONTS)
def test_the_list_imports_no_command(front):
    code = f"""
import contextlib, io, sys
from cer_fusion.cli import {front.removeprefix("cer-")}_main as main
sys.argv = [{front!r}, "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(*sorted(name for name in sys.modules if name.startswith("cer_fusion.commands")))
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    list_alone = [
        "cer_fusion.commands",
        "cer_fusion.commands.console",
        f"cer_fusion.commands.{front.removeprefix('cer-')}",
    ]
    assert found == list_alone


def test_a_signal_after_the_command_has_ended_does_not_change_its_status():
    """A scheduler's signal may come while the process is being taken down."""
    code = """
import os, signal, sys
import typer
from cer_fusion.commands import console
app = console.app("Toy.")
app.command("work")(lambda: None)
end = console.Front.invoke
def invoke(self, ctx):
    answer = end(self, ctx)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.kill(os.getpid(), number)
    return answer
console.Front.invoke = invoke
app(["work"], prog_name="toy", obj=console.PROCESS)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_tells_its_version(front):
    told = CliRunner().invoke(FRONTS[front].app, ["--version"], prog_name=front)
    assert (told.exit_code, told.output) == (0, f"{front} {metadata.version('cer-fusion')}\n")


def test_the_contract_that_no_command_imports_another_is_about_every_command():
    contracts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    [listed] = [one["modules"] for one in contracts["contracts"] if one["name"] == "No command imports another"]
    found = {where.partition(":")[0] for module in FRONTS.values() for where, _ in module.COMMANDS.values()}
    apart = {one for one in found if not any(fnmatch(one, pattern) for pattern in listed)}
    assert apart == set(), "these commands could import others"


def _has_json(command: typer.core.TyperCommand) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(("front", "name"), EVERY)
def test_every_command_has_its_result_as_json(front, name):
    command = typer.main.get_command(FRONTS[front].app).commands[name].real
    for one in getattr(command, "commands", {"": command}).values():
        assert _has_json(getattr(one, "real", one))


def test_quiet_and_verbose_stand_anywhere_in_the_line_and_exclude_each_other():
    told = CliRunner().invoke(feat.app, ["backbones", "-q", "--json"])
    assert told.exit_code == 0
    assert CliRunner().invoke(feat.app, ["-v", "backbones", "--json"]).exit_code == 0
    both = CliRunner().invoke(feat.app, ["backbones", "-q", "--verbose"])
    assert (both.exit_code, "the opposite of -v" in both.output) == (2, True)


def test_quiet_leaves_results_warnings_and_errors():
    from cer_fusion.commands import console

    for words, said in (([], ["a note", "a warning", "an error"]), (["-q"], ["a warning", "an error"])):
        app = console.app("Test.")

        @app.command()
        def talk() -> None:
            console.say("a note")
            console.say("[yellow]a warning[/]")
            console.out("a result")
            raise console.ReaderGone if False else ValueError("an error")

        told = CliRunner().invoke(app, ["talk", *words])
        assert told.stdout == "a result\n"
        assert [line for line in ("a note", "a warning") if line in told.stderr] == said[:-1]
