"""A section of the page: what it says, and how that becomes HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page.explorer import Explorer, explorer_html
from cer_fusion.fusion.page.markup import element, escape, joined, table_html
from cer_fusion.fusion.page.matrix import matrix_html
from cer_fusion.fusion.page.picture import Picture, picture_html
from cer_fusion.fusion.page.table import Table


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

    @property
    def anchor(self) -> str:
        """The section's address within the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def section_html(section: Section, anchor: str) -> str:
    """Write a section; every text in it is escaped."""
    facts = "".join(element("dt", escape(name)) + element("dd", escape(value)) for name, value in section.facts)
    return element(
        "section",
        joined(
            element("h2", escape(section.title)),
            *(element("p", escape(text), cls="prose") for text in section.prose),
            *(picture_html(picture, f"{anchor}-{number}") for number, picture in enumerate(section.pictures)),
            *map(table_html, section.tables),
            element("div", joined(*(matrix_html(*one) for one in section.matrices)), cls="matrices")
            if section.matrices
            else "",
            element("dl", facts, cls="facts") if facts else "",
            explorer_html(section.explorer) if section.explorer is not None else "",
        ),
        id=anchor,
    )
