"""One HTML page of sections: its markup, pictures and scripts, known to its policy by digest."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ...kit.files import write_whole
from ...kit.table import Cell, Table
from ..data.blocks import even_simplex
from ..errors import ReportError
from ..heads.weights import SMALLEST, Mix
from ..judging.comparison import Members
from ..judging.metrics import Scores
from ..judging.resampling import LEVEL, thin
from ..judging.resampling import members as numbered
from .colours import GREY, INK, LINE, PAPER, stylesheet_colours
from .figures import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SCRIPTS = ("nodes.js", "mixing.js", "noise.js", "explorer.js")
"""Of an explorer, in the order in which they run."""
SCATTER_SCRIPTS = ("nodes.js", "scatter.js")
"""Of a scatter."""


def write_page(
    path: Path, title: str, sections: Sequence[Section], *, subtitle: str = "", overwrite: bool = True
) -> Path:
    """Write `page_html` as UTF-8, whole or not at all; see `write_whole`.

    Raises
    ------
    ReportError
        If the name does not end in .html, or the sections cannot be shown.
    """
    path = check_page_name(Path(path))
    page = page_html(title, sections, subtitle=subtitle).encode("utf-8", "backslashreplace")
    return write_whole(path, page, overwrite=overwrite)


def check_page_name(path: Path) -> Path:
    """Refuse a name that does not end in .html, before the page is made."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ReportError(f"cannot write a page to {path.name!r}: the name must end in .html")
    return path


def page_html(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """Return the page; equal results are equal pages.

    No date, no address, no font from elsewhere. The Content-Security-Policy lets no request leave the page, and runs
    only the package's own scripts, known by their digests: text that slipped through as markup would stay dead.
    """
    explorers = [section for section in sections if section.explorer is not None]
    if not sections or len(explorers) > 1:
        raise ReportError(
            f"a page needs sections, and at most one explorer, however: {len(sections)} and {len(explorers)}"
        )
    scatters = [section for section in sections if section.scatter is not None]
    if len(scatters) > 1:
        raise ReportError(f"a page has at most one scatter, however: {len(scatters)}")
    anchors = _different([section.anchor for section in sections])
    names = (*(SCRIPTS if explorers else ()), *(SCATTER_SCRIPTS if scatters else ()))
    scripts = [_packaged(name) for name in dict.fromkeys(names)]
    entries = [
        element("li", element("a", escape(section.title), href=f"#{anchor}"))
        for section, anchor in zip(sections, anchors, strict=True)
    ]
    return Template(_packaged("template.html")).substitute(
        policy=escape(_policy(scripts)),
        title=escape(title),
        heading=worded(title),
        subtitle=worded(subtitle),
        colours=stylesheet_colours(),
        style=_packaged("page.css"),
        contents=joined(*entries),
        sections=joined(*(section_html(one, anchor) for one, anchor in zip(sections, anchors, strict=True))),
        scripts=joined(*(f"<script>{script}</script>" for script in scripts)),
    )


def _policy(scripts: Sequence[str]) -> str:
    """Matplotlib's SVG and the matrices carry style attributes: styles are allowed inline, from nowhere else."""
    digests = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _packaged(name: str) -> str:
    return files("cer_fusion.fusion.page").joinpath(name).read_text(encoding="utf-8")


def _different(anchors: Sequence[str]) -> list[str]:
    return [f"{name}-{anchors[:i].count(name) + 1}" if name in anchors[:i] else name for i, name in enumerate(anchors)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One titled part; whatever it holds is shown in the order of the fields."""

    title: str
    """Heading, also the entry in the page's contents."""
    prose: tuple[str, ...] = ()
    """Paragraphs, plain text."""
    pictures: tuple[Picture, ...] = ()
    """Figures."""
    tables: tuple[Table, ...] = ()
    """Tables, each with its title and notes."""
    matrices: tuple[tuple[str, Scores], ...] = ()
    """Confusion matrices with their titles."""
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values: settings, digests."""
    explorer: Explorer | None = None
    """An explorer of fusion weights; at most one a page."""
    scatter: Scatter | None = None
    """Rows on a plane with their errors; at most one a page."""

    @property
    def anchor(self) -> str:
        """The section's address within the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def section_html(section: Section, anchor: str) -> str:
    """Write a section; every text in it is escaped."""
    facts = "".join(element("dt", worded(name)) + element("dd", worded(value)) for name, value in section.facts)
    return element(
        "section",
        joined(
            element("h2", worded(section.title)),
            *(element("p", worded(text), cls="prose") for text in section.prose),
            *(picture_html(picture, f"{anchor}-{number}") for number, picture in enumerate(section.pictures)),
            *map(table_html, section.tables),
            element("div", joined(*(matrix_html(*one) for one in section.matrices)), cls="matrices")
            if section.matrices
            else "",
            element("dl", facts, cls="facts") if facts else "",
            explorer_html(section.explorer) if section.explorer is not None else "",
            scatter_html(section.scatter) if section.scatter is not None else "",
        ),
        id=anchor,
    )


_JOINED = re.compile(r"\w[._/+@:=-]+(?=\w)")
SHORT = 24
"""Letters that fit every line, a heading's on a telephone too."""

_DIGEST = re.compile(r"[0-9a-f]{24,}")


def worded(text: str) -> str:
    """Escape a text whose lines may break between words, and never within a name such as ``manet.multi_scale``.

    A name moves to the next line as a whole. Only one that is longer than a line breaks, after a dot or an underscore
    (short ones do without such places: readers aloud pause there); a digest, which is no word, breaks anywhere.
    """
    return "".join(_word(part) for part in re.split(r"(\s+)", text))


def _word(text: str) -> str:
    if _DIGEST.fullmatch(text):
        return element("span", text, cls="digest")
    if not _JOINED.search(text) or not re.search(r"[^\W\d_]", text):
        return escape(text)
    shown = escape(text)
    return element("span", _JOINED.sub(r"\g<0><wbr>", shown) if len(text) > SHORT else shown, cls="name")


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
        element("caption", worded(table.title)), element("thead", element("tr", head)), element("tbody", joined(*rows))
    )
    notes = "".join(element("li", worded(note)) for note in table.notes)
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


def matrix_html(title: str, scores: Scores) -> str:
    """Write one matrix; the stylesheet colours cells and their text by the share. A class without rows is blank."""
    names = [name.replace("_", " ") for name in scores.classes]
    head = "".join(element("th", element("span", escape(name)), scope="col") for name in names)
    rows = [
        element("tr", element("th", f"{escape(name)} {element('small', str(n))}", scope="row") + _cells(scores, c))
        for c, (name, n) in enumerate(zip(names, scores.supports.tolist(), strict=True))
    ]
    words = f"accuracy {100 * scores.accuracy:.1f} %, macro F1 {100 * scores.macro_f1:.1f} %, n = {scores.n}"
    caption = element("caption", f"{worded(title)} {element('small', escape(words))}")
    corner = element("td", "true \\ predicted", cls="corner")
    table = element(
        "table",
        joined(caption, element("thead", element("tr", corner + head)), element("tbody", joined(*rows))),
        cls="matrix",
    )
    return element("div", table, cls="scroll", tabindex="0", role="region", aria_label=f"confusion matrix, {title}")


def _cells(scores: Scores, true: int) -> str:
    support = int(scores.supports[true])
    if not support:
        return element("td", "–") * len(scores.classes)
    return "".join(_shaded(int(count), support, true == called) for called, count in enumerate(scores.confusion[true]))


def _shaded(count: int, support: int, right: bool) -> str:
    share = 100 * count / support
    words = [*(["right"] if right else []), *(["none"] if not count else [])]
    return element(
        "td", f"{share:.0f}{element('small', str(count))}", cls=" ".join(words), style=f"--share:{share:.1f}"
    )


SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

_COLOURS = {INK: "var(--ink)", GREY: "var(--muted)", PAPER: "var(--card)", LINE: "var(--rule)"}
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
    return element("figure", joined(drawn, element("figcaption", worded(picture.caption))), cls="picture")


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


LARGEST = 60_000_000
"""Bytes of probabilities that a page may carry: beyond that a browser is slow to open it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explorer:
    """Members, and the weights that the page offers to begin with."""

    members: Members
    """Two or more; their probabilities are embedded as float32."""
    mix: Mix = "geometric"
    """The rule that the page begins with."""
    presets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Weights behind a button each, by its words: ``chosen on inner folds``. The page begins with the first."""

    def __post_init__(self) -> None:
        """Refuse what a page cannot show."""
        m, n, k = self.members.proba.shape
        if m < 2:
            raise ReportError(f"an explorer mixes two members or more, however: {m}")
        if 4 * m * n * k > LARGEST:
            raise ReportError(
                f"a page would carry {4 * m * n * k / 1e6:,.0f} MB of probabilities, more than {LARGEST / 1e6:,.0f}\n"
                "  make the report of fewer test rows or members"
            )
        for words, weights in self.presets.items():
            if len(weights) != m or not np.isfinite(weights).all() or min(weights) < 0 or not sum(weights) > 0:
                raise ReportError(f"preset {words!r} must hold {m} weights, none negative and not all 0: {weights}")


MAPPED = 300
"""Mixes that an explorer maps at most; their step follows from the number of members."""

SEED = 0
"""Of the page's own draws: equal pages show equal intervals."""


def explorer_html(explorer: Explorer) -> str:
    """Write the data and an empty place; the page's script builds the rest."""
    members = explorer.members
    k = len(members.classes)
    if k >= 2**16:
        raise ReportError(f"an explorer has room for {2**16 - 1} classes, however: {k}")
    data = {
        "members": list(members.names),
        "short": SHORT,
        "classes": [name.replace("_", " ") for name in members.classes],
        "rows": int(members.y.size),
        "smallest": SMALLEST,
        "mix": explorer.mix,
        "presets": {
            "all alike": [1.0] * len(members.names),
            **{words: list(weights) for words, weights in explorer.presets.items()},
        },
        "start": next(iter(explorer.presets), "all alike"),
        "vectors": even_simplex(members.names, MAPPED).weights.tolist(),
        "y": b64encode(members.y.astype("<u2").tobytes()).decode(),
        "proba": b64encode(members.proba.astype("<f4").tobytes()).decode(),  # (m, n, k), row by row
        "chance": _chance(members),
    }
    return joined(
        json_html(data, id="explorer-data"),
        element("div", element("noscript", "The explorer needs JavaScript; all figures above do not."), id="explorer"),
    )


def _chance(members: Members) -> dict[str, Any]:
    """Return what the page's intervals need: quantiles, and the group of each row where rows share groups.

    Student's quantile is a table over 1 / degrees of freedom from 0 to 1, so dense that a line between two entries is
    right to 0.00003.
    """
    from scipy.special import ndtri, stdtrit

    tail = 0.5 + LEVEL / 2
    given: dict[str, Any] = {"level": LEVEL, "seed": SEED, "z": float(ndtri(tail))}
    member = numbered(members.groups)
    if member is None:
        return given
    student = [float(ndtri(tail)), *stdtrit(512 / np.arange(1, 513), tail).tolist()]
    return given | {
        "groups": b64encode(member.astype("<u4").tobytes()).decode(),
        "student": [round(one, 6) for one in student],
        "warning": thin(members.y, members.groups, members.classes),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Scatter:
    """Rows on a plane, and what each column of a report says of them."""

    places: NDArray[np.float64]
    """(n, 2)."""
    axes: tuple[str, str]
    """What lies to the right, and what upwards, in words."""
    y_true: NDArray[np.int64]
    """(n,) positions in ``classes``."""
    classes: tuple[str, ...]
    answers: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
    """Column to (n,) predicted positions and (n,) their probabilities, 0-1."""
    ids: tuple[str, ...] | None = None
    """Sample ids, where the page may name them."""
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    """Row to its picture as JPEG."""

    def __post_init__(self) -> None:
        """Refuse what a page cannot show."""
        n = len(self.y_true)
        sizes = {len(self.places), *(len(one) for pair in self.answers.values() for one in pair)}
        sizes |= set() if self.ids is None else {len(self.ids)}
        if sizes != {n} or self.places.shape != (n, 2) or not np.isfinite(self.places).all() or not n:
            raise ReportError(f"a scatter needs finite places and answers for the same rows, however: {sorted(sizes)}")
        carried = sum(4 * len(one) // 3 for one in self.thumbnails.values()) + 24 * n * (1 + len(self.answers))
        if carried > LARGEST:
            raise ReportError(
                f"a page would carry {carried / 1e6:,.0f} MB of rows and thumbnails, more than {LARGEST / 1e6:,.0f}\n"
                "  leave the thumbnails out, or make the report of fewer test rows or columns"
            )
        if not all(one.startswith(b"\xff\xd8\xff") for one in self.thumbnails.values()):
            raise ReportError("a scatter's thumbnails must be JPEG")


def scatter_html(scatter: Scatter) -> str:
    """Write the data and an empty place; the page's script draws the rest."""
    low, span = scatter.places.min(axis=0), np.ptp(scatter.places, axis=0)
    middle = low + span / 2
    inside = (scatter.places - middle) / (span.max() or 1.0)  # one scale for both: distances stay as they are
    data = {
        "x": np.round(inside[:, 0], 4).tolist(),
        "y": np.round(inside[:, 1], 4).tolist(),
        "axes": list(scatter.axes),
        "truth": scatter.y_true.tolist(),
        "classes": [name.replace("_", " ") for name in scatter.classes],
        "columns": [
            {"name": name, "predicted": predicted.tolist(), "confidence": np.round(confidence, 3).tolist()}
            for name, (predicted, confidence) in scatter.answers.items()
        ],
        "ids": None if scatter.ids is None else list(scatter.ids),
        "thumbnails": {str(row): b64encode(picture).decode() for row, picture in scatter.thumbnails.items()},
    }
    return joined(
        json_html(data, id="scatter-data"),
        element("div", element("noscript", "The map needs JavaScript; all tables do not."), id="scatter"),
    )
