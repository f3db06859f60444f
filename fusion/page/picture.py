"""A matplotlib figure inside the page: inline SVG in the page's own colours, and nothing in it that could run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.page.figures import GREY, INK, PAPER, STYLE
from cer_fusion.fusion.page.markup import element, escape, joined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

_COLOURS = {INK: "var(--ink)", GREY: "var(--muted)", PAPER: "var(--card)", "#e6e6e6": "var(--rule)"}
_DRAWS = {
    "svg", "g", "defs", "path", "text", "tspan", "use", "clipPath", "rect", "image", "linearGradient", "stop",
    "line", "polyline", "polygon", "circle", "ellipse", "title",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its caption."""

    svg: str
    """SVG as matplotlib writes it."""
    caption: str
    """What is to be seen; also what a screen reader says."""

    @classmethod
    def of(cls, figure: Figure, caption: str) -> Picture:
        """Draw a figure."""
        from matplotlib import rc_context

        out = BytesIO()
        with rc_context(STYLE):
            figure.savefig(out, format="svg", metadata={"Date": None})
        return cls(svg=out.getvalue().decode(), caption=caption)


def picture_html(picture: Picture, prefix: str) -> str:
    """Write a picture; ids inside get the prefix, so that several pictures share a page.

    Raises
    ------
    ReportError
        If the SVG holds anything but drawing: a script, a handler, an address outside the page.
    """
    root = ElementTree.fromstring(picture.svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if _tag(child) in ("metadata", "style"):
                parent.remove(child)
    drawn = _written(root, prefix)
    return element("figure", joined(drawn, element("figcaption", escape(picture.caption))), cls="picture")


def _written(node: ElementTree.Element, prefix: str) -> str:
    name = _tag(node)
    if name not in _DRAWS:
        raise ReportError(f"a picture may hold drawing only, however: <{name}>")
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in _attributes(node, prefix))
    inner = escape(node.text or "") if name in ("text", "tspan", "title") else ""
    inner += "".join(_written(child, prefix) + (escape(child.tail or "") if name == "text" else "") for child in node)
    return f"<{name}{attributes}>{inner}</{name}>"


def _attributes(node: ElementTree.Element, prefix: str) -> list[tuple[str, str]]:
    found = []
    for key, value in node.attrib.items():
        plain = key.removeprefix(f"{{{XLINK}}}")
        if plain.lower().startswith("on") or plain.startswith("{"):
            raise ReportError(f"a picture may hold drawing only, however: the attribute {plain!r}")
        if plain == "href" and not value.startswith(("#", "data:image/png;base64,")):
            raise ReportError(f"a picture may not point outside the page, however: {value[:60]!r}")
        found.append((plain, _local(plain, value, prefix)))
    return found


def _local(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key == "href":
        return f"#{prefix}-{value[1:]}" if value.startswith("#") else value
    value = re.sub(r"url\(#", f"url(#{prefix}-", value)
    if key in ("style", "fill", "stroke"):
        for colour, variable in _COLOURS.items():
            value = value.replace(colour, variable)
    return value


def _tag(node: ElementTree.Element) -> str:
    return str(node.tag).removeprefix(f"{{{SVG}}}")
