"""The page as a whole: one file, its own styles and scripts inside, and a policy that forbids everything else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.files.atomic import write_atomic
from cer_fusion.fusion.page.markup import element, escape, joined
from cer_fusion.fusion.page.section import Section, section_html

SCRIPTS = ("mixing.js", "explorer.js")
"""In the order in which they run."""


def write_page(
    path: Path, title: str, sections: Sequence[Section], *, subtitle: str = "", overwrite: bool = True
) -> Path:
    """Write `page_html` as UTF-8, whole or not at all; see `write_atomic`.

    Raises
    ------
    ReportError
        If the name does not end in .html, or the sections cannot be shown.
    """
    path = check_page_name(Path(path))
    page = page_html(title, sections, subtitle=subtitle).encode("utf-8", "backslashreplace")
    return write_atomic(path, page, overwrite=overwrite)


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
    anchors = _different([section.anchor for section in sections])
    scripts = [_packaged(name) for name in SCRIPTS] if explorers else []
    entries = [
        element("li", element("a", escape(section.title), href=f"#{anchor}"))
        for section, anchor in zip(sections, anchors, strict=True)
    ]
    return Template(_packaged("template.html")).substitute(
        policy=escape(_policy(scripts)),
        title=escape(title),
        subtitle=escape(subtitle),
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
