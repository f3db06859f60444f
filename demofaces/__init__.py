"""demofaces: schematic faces with compound expressions, to try the whole line without a licence for real ones.

`ActionUnits` say which facial muscles are active, `COMPOUNDS` what each compound expression does with them, a `Style`
who is drawn and how the camera sees it. `draw_face` makes a picture of these; `write_dataset` a seeded, labelled set in
the layout of RAF-DB's compound part; `contact_sheet` an overview to look at. Pillow and NumPy are all it needs.
"""

from __future__ import annotations

from .action_units import COMPOUNDS, ActionUnits, Compound, compound, prototype, sample_units
from .dataset import (
    TEST_COUNTS,
    TRAIN_COUNTS,
    DrawnDataset,
    contact_sheet,
    draw_sample,
    write_dataset,
)
from .errors import DatasetError, DemoFacesError, StyleError, UnitError, UnknownCompoundError
from .face import draw_face
from .style import Style, sample_style

__all__ = [
    "COMPOUNDS",
    "TEST_COUNTS",
    "TRAIN_COUNTS",
    "ActionUnits",
    "Compound",
    "DatasetError",
    "DemoFacesError",
    "DrawnDataset",
    "Style",
    "StyleError",
    "UnitError",
    "UnknownCompoundError",
    "compound",
    "contact_sheet",
    "draw_face",
    "draw_sample",
    "prototype",
    "sample_style",
    "sample_units",
    "write_dataset",
]
