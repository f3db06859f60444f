from __future__ import annotations

import pytest
import typer

from cer_fusion.commands.options import key_values


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
