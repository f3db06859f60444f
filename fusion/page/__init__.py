"""One HTML page that shows everything: no server, no network, nothing to install.

`write_page` takes a title and `Section` objects: prose, tables, pictures, confusion matrices, facts, and perhaps an
`Explorer` of fusion weights or a `Scatter` of rows. `report_sections`, `sweep_section`, `errors_section` make them of
results; anything else that has a `Table` or a figure makes its own `Section`.
"""

from __future__ import annotations

from .document import Explorer, Picture, Scatter, Section, page_html, write_page

__all__ = ["Explorer", "Picture", "Scatter", "Section", "page_html", "write_page"]
