"""HTML from text and tables. Text goes through `escape`; nothing else writes into the page."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from cer_fusion.fusion.page.table import Cell, Table

_INTERVAL = re.compile(r"(?P<value>.+?) (?P<interval>\[.+\])")


def escape(text: str) -> str:
    """Return text that no browser reads as markup, in content and in quoted attributes."""
    return html.escape(text, quote=True)


def element(name: str, inner: str, *, cls: str = "", **attributes: str) -> str:
    """Return an element around HTML that is already safe; attribute values are escaped here."""
    given = ({"class": cls} if cls else {}) | {key.rstrip("_").replace("_", "-"): v for key, v in attributes.items()}
    written = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    return f"<{name}{written}>{inner}</{name}>"


def joined(*parts: str) -> str:
    """Return the parts that are there, a line each."""
    return "\n".join(part for part in parts if part)


def json_html(value: Any, *, id: str) -> str:
    """Return a block of JSON data that no script element or comment inside can end."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{escape(id)}">{text}</script>'


def table_html(table: Table) -> str:
    """Return a table with its title as caption and its notes below; wide ones scroll in their own frame."""
    head = "".join(element("th", escape(title), scope="col") for title in table.header)
    rows = [
        element("tr", joined(_label(row[0]), *map(_cell, row[1:])), cls="ruled" if i in table.rules else "")
        for i, row in enumerate(table.rows)
    ]
    body = joined(
        element("caption", escape(table.title)), element("thead", element("tr", head)), element("tbody", joined(*rows))
    )
    notes = "".join(element("li", escape(note)) for note in table.notes)
    return joined(
        element("div", element("table", body), cls="scroll", tabindex="0", role="region", aria_label=table.title),
        element("ul", notes, cls="notes") if notes else "",
    )


def _label(cell: Cell) -> str:
    return element("th", escape(cell.text), scope="row")


def _cell(cell: Cell) -> str:
    split = _INTERVAL.fullmatch(cell.text)
    inner = escape(cell.text)
    if split is not None and cell.low is not None:
        inner = f"{escape(split['value'])} {element('small', escape(split['interval']))}"
    return element("td", inner, cls="best" if cell.best else "")
