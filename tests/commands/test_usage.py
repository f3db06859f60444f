"""`--help` is whole at every width; what is said of values that cannot be; options that name nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cer_fusion.backbones import OptionError, create
from cer_fusion.commands import feat, fuse
from cer_fusion.commands.usage import word
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
        ("cer-fuse train --near nan", "however: nan"),
        ("cer-feat frames v -o f --min-score nan", "however: nan"),
        ("cer-fuse train --seed x", "must be a whole number, however: 'x'"),
        ("cer-fuse train --seed 1.5", "must be a whole number, however: '1.5'"),
        ("cer-fuse compare --format pdf", "'pdf' is not one of 'table', 'markdown', 'latex', 'csv', 'json'"),
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


def _said(result: Any) -> str:
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("cer-fuse train --data pictures", 2, "pictures is a folder: make a manifest of it first"),
        ("cer-fuse compare --heads lda,ncm,lda", 2, "lda stands twice"),
        ("cer-fuse compare --heads lda --cv 500", 1, "use fewer folds"),
        ("cer-fuse train --head mpl", 1, "did you mean 'mlp'?"),
        ("cer-feat ls --store faces.csv", 1, "it is a file, and a store is a folder"),
        ("cer-feat use-manifest nothing.csv", 1, "no manifest nothing.csv"),
        ("cer-feat use-manifest other.csv", 2, "name the dataset that it is for (faces)"),
        ("cer-feat inspect pictures", 1, "pictures is a folder, and a weights file is to be named"),
        ("cer-feat extract -b timm:test_vit -w random --as a.b -d faces", 2, "however: 'a.b'"),
        ("cer-feat extract -b timm:test_vit -w random -d faces.csv --dataset a.b", 2, "however: 'a.b'"),
        ("cer-fuse check-table faces.csv", 1, "in all)"),
        ("cer-fuse train --head ncm --device gpu -o x", 2, "--device"),
    ],
)
def test_a_mistake_is_told_with_what_was_expected_and_what_to_do(run, filled, tmp_path, line, code, words) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "other.csv").write_text((tmp_path / "faces.csv").read_text())
    told = run(line, code=code)
    assert words in _said(told)
    assert len(_said(told)) < 1000
    assert "'cpu'" not in told.stderr, "a command says --device cpu, no Python"


def test_data_without_labels_or_splits_and_rows_of_one_group_say_so(run, filled, tmp_path) -> None:
    header, *rows = [row.split(",") for row in (tmp_path / "faces.csv").read_text().splitlines()]

    def with_column(name: str, value: str) -> None:
        at = header.index(name)
        new = [[*row[:at], value, *row[at + 1 :]] for row in rows]
        (tmp_path / "faces.csv").write_text("\n".join(map(",".join, [header, *new])) + "\n")
        run("cer-feat use-manifest faces.csv")

    with_column("split", "")
    assert "no sample has a split" in _said(run("cer-fuse train --head ncm", code=2))
    run("cer-fuse train --head ncm -o runs/a", code=2)
    with_column("label", "")
    assert "no sample of dataset 'faces' has a label" in _said(run("cer-fuse train --head ncm", code=2))
    assert "no sample of dataset 'faces' has a label" in _said(run("cer-fuse compare --heads ncm --cv 3", code=2))
    header, *rows = [[*row[:3], "train", "one"] for row in [header, *rows]]
    header = ["sample_id", "path", "label", "split", "group"]
    with_column("group", "one")
    told = _said(run("cer-fuse compare --heads ncm --cv 3", code=1))
    assert "are one group, and a fold cuts none" in told


def test_a_feature_that_gets_the_name_of_another_is_told_to_share_it(run, filled) -> None:
    assert "two alone names none of them now: two@" in _said(run("cer-feat rename one two"))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("1 is not in the range x>=2.", "must be at least 2, however: 1"),
        ("0 is not in the range 0<x<=1.", "must be more than 0, however: 0"),
        ("1.5 is not in the range -1<=x<=1.", "must be at most 1, however: 1.5"),
        ("1 is not in the range 0<=x<1.", "must be less than 1, however: 1"),
        ("'x' is not a valid integer range.", "must be a whole number, however: 'x'"),
        ("'a' is not a valid float.", "must be a number, however: 'a'"),
        ("something else", "something else"),
    ],
)
def test_what_click_says_where_typer_has_no_pydantic_is_said_in_our_words_too(theirs, ours) -> None:
    error = typer.BadParameter(theirs)
    word(error)
    assert error.message == ours
