"""Options of several values: one mechanism, for every option of every command; and how values are read."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
import typer

from cer_fusion.commands.options import each, key_values
from tests.commands.walk import commands, options

ONE = {
    "cer-fuse compare --soft-labels": "columns of a file", "cer-fuse train --soft-labels": "columns of a file",
    "cer-fuse compare --targets": "columns of a file", "cer-fuse train --targets": "columns of a file",
    "cer-feat finetune --soft-labels": "columns of a file", "cer-fuse ablate --targets": "columns of a file",
    "cer-fuse ablate --soft-labels": "columns of a file",
}  # fmt: skip
"""Options whose help shows a list that is no value of theirs."""
OPTIONS = [
    pytest.param(f"{name} {option.opts[0]}", option, id=f"{name} {option.opts[0]}")
    for name, command in commands().items()
    for option in options(command).values()
    if not option.is_flag
]
PAIRS = {"--set", "--option", "--weights", "--as", "--code", "--slurm", "--shares", "--partition", "--columns",
         "--axis"}  # fmt: skip
"""Options of KEY=VALUE pairs."""


def _values(option: Any, *entries: str) -> Any:
    return option.process_value(click.Context(click.Command("any")), entries)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_of_several_values_takes_commas_repeated_options_and_both(name: str, option: Any) -> None:
    shown = re.search(r"\w=?…?,(?=[\w(])", f"{option.help} {option.show_default or ''}".replace("1,000", ""))
    if not option.multiple:
        assert name in ONE or not shown, f"{name} shows a list: make it with options.several"
        assert not re.search("comma|repeated", option.help or ""), name
        return
    if option.opts[0] in PAIRS:
        assert _values(option, "a=1,b=2", "c=3,4,d=[5,6]") == ["a=1", "b=2", "c=3,4", "d=[5,6]"]
        assert _values(option, 'a="x,b=1",c={"vit":0.6,"manet":0.4}') == ['a="x,b=1"', 'c={"vit":0.6,"manet":0.4}']
    else:
        assert _values(option, "a, b", "c") == _values(option, "a", "b", "c") == ["a", "b", "c"]
    assert _values(option, "a") == ["a"]
    with pytest.raises(typer.BadParameter, match="names nothing"):
        _values(option, "")


def test_a_comma_in_the_name_of_a_file_that_is_there_parts_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.onnx").touch()
    assert each(["a,b.onnx", "onnx:a,b.onnx,c", "onnx:a,b.onnx", "a,c.onnx"]) == [
        "a,b.onnx", "onnx:a", "b.onnx", "c", "onnx:a,b.onnx", "a", "c.onnx",
    ]  # fmt: skip


def test_a_value_too_long_for_a_file_s_name_is_one_all_the_same() -> None:
    assert each([",".join(["a" * 300, "b"])]) == ["a" * 300, "b"]


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="C is given twice"):
        key_values(["C=1", "C=2"], "--set")


@pytest.mark.parametrize("settings", ["--set mlp.epochs=1,C=2", "--set ridge.C=2", "--set C=1,linear.C=2"])
def test_a_setting_of_no_head_of_the_command_and_one_given_twice_are_refused(run, filled, settings) -> None:
    assert "--set" in run(f"cer-fuse train --head linear {settings}", code=2).stderr


def test_set_has_one_form_whether_there_is_one_head_or_several(run, filled) -> None:
    import json

    line = "cer-fuse train --head linear --json -o "
    for number, said in enumerate(("--set C=0.5,standardize=none", "--set linear.C=0.5 --set standardize=none")):
        assert json.loads(run(f"{line}{number} {said}").stdout)["params"]["C"] == 0.5
    compared = "cer-fuse compare --no-singles --json --output none --figure none --heads "
    for said in ("linear --set C=0.5", "linear --set linear.C=0.5", "linear,lda --set linear.C=0.5"):
        columns = json.loads(run(compared + said).stdout)["columns"]
        assert columns[0]["params"]["C"] == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("null", None),
        ("[256, 128]", [256, 128]),
        ("256,128", [256, 128]),
        ("103.939, 116.779,123.68", [103.939, 116.779, 123.68]),
        ('{"vit": 0.6}', {"vit": 0.6}),
        ("BGR", "BGR"),
        ("0-255", "0-255"),
        ("vit,manet", "vit,manet"),
        ("1,x", "1,x"),
        ('"a","b"', '"a","b"'),
        ("1,", "1,"),
        ("", ""),
    ],
)
def test_values_are_json_numbers_or_text(text, value):
    assert key_values([f"name={text}"], "-O") == {"name": value}


@pytest.mark.parametrize("entry", ["name", "=3"])
def test_what_is_no_pair_is_refused(entry):
    with pytest.raises(typer.BadParameter, match="expected key=value"):
        key_values([entry], "-O")
