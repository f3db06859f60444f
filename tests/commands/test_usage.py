"""`--help` is whole at every width; what is said of values that cannot be; options that name nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from cer_fusion.backbones import OptionError, create
from cer_fusion.commands import feat, fuse
from tests.commands.walk import commands, kinds, options

FRONTS = {"cer-feat": feat.app, "cer-fuse": fuse.app}


def _squeezed(text: str) -> str:
    return re.sub(r"[\s│╭╮╰╯─]", "", text)


def _told(line: str, *more: str, columns: int = 200) -> Any:
    front, *words = line.split()
    return CliRunner().invoke(FRONTS[front], [*words, *more], env={"COLUMNS": str(columns), "NO_COLOR": "1"})


@pytest.mark.parametrize("columns", [60, 80])
def test_help_cuts_off_no_name_no_value_and_no_word_at_any_width(columns: int) -> None:
    for name, command in commands().items():
        told = _told(name, "--help", columns=columns).output
        shown = _squeezed(told)
        assert max(map(len, told.splitlines())) <= columns, name
        for option in command.params:
            if getattr(option, "hidden", False):
                continue
            for part in (*option.opts, *option.secondary_opts, option.help or ""):
                if part.startswith("-") or " " in part:
                    assert _squeezed(part) in shown, f"{name}: {part}"


def test_a_word_where_a_number_is_wanted_is_told_with_what_was_found() -> None:
    tried = 0
    for name, command in commands().items():
        plain = kinds(command)
        for option in options(command).values():
            if plain[str(option.name)] & {int, float} and str not in plain[str(option.name)]:
                told = _told(name, option.opts[0], "many").output
                assert "number, however: 'many'" in told or "Missing" in told, (name, option.opts[0], told)
                tried += "Missing" not in told
    assert tried > 40


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cer-fuse compare --cv 1", "must be at least 2, however: 1"),
        ("cer-fuse train --near nan", "must be at most 1, however: nan"),
        ("cer-fuse train --seed x", "must be a whole number, however: 'x'"),
        ("cer-fuse train --seed 1.5", "must be a whole number, however: '1.5'"),
        ("cer-fuse compare --format pdf", "must be one of table, markdown, latex, csv, json, however: 'pdf'"),
    ],
)
def test_usage_errors_speak_our_words(line: str, words: str) -> None:
    assert words in _told(line).output


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_every_seed_that_a_command_takes_is_one_that_its_libraries_take(seed: str) -> None:
    seeded = [name for name, command in commands().items() if "seed" in options(command)]
    assert len(seeded) > 8
    for name in seeded:
        told = _told(name, "--seed", seed)
        assert told.exit_code == 2, name
        assert "--seed" in told.output or "Missing" in told.output, told.output


def test_an_option_of_several_that_names_nothing_is_refused() -> None:
    for name, command in commands().items():
        for option in options(command).values():
            if option.multiple:
                for nothing in ("", ",", " , "):
                    told = _told(name, option.opts[0], nothing)
                    assert told.exit_code == 2, (name, option.opts[0], told.output)
                    assert re.search("names nothing|Missing|expected", told.output), told.output


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("timm:test_vit", "img_size", math.nan), ("timm:test_vit", "img_size", 40), ("timm:test_vit", "img_size", True),
        ("timm:test_vit", "img_size", "x"), ("timm:test_vit", "pooling", 1.5), ("timm:test_vit", "pooling", None),
        ("timm:test_vit", "crop_pct", [1]), ("timm:test_vit", "mean", "NaN"),
        ("mobilefacenet", "width", 1.5), ("mobilefacenet", "width", None),
    ],
)  # fmt: skip
def test_a_value_that_a_network_stumbles_over_is_told_as_an_option(name: str, option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option if value != 40 else "40 px"):
        create(name, weights="random", **{option: value})
