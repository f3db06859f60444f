"""What can go wrong while heads learn, are kept and are compared.

::

    FusionError
    ├── BlockError (ValueError)          blocks that do not fit together, or a weight without its block
    ├── ExpressionError (ValueError)     a basic or compound expression that is not known or cannot be scored
    ├── HeadConfigError (ValueError)     a head was asked for something it does not offer
    ├── HeadDataError (ValueError)       rows or labels no head can learn from
    ├── HeadMismatchError (ValueError)   a saved head met other blocks, other features or another class order
    ├── PredictionsError (ValueError)    a file of predictions that cannot be read or written
    ├── PriorShiftError (ValueError)     class priors that cannot be estimated or corrected
    ├── RecipeError (ValueError)         a recipe that cannot be read, or cannot run on the rows that are given
    ├── ReportError (ValueError)         results that cannot be compared, drawn or read back
    ├── SavedHeadError (ValueError)      a head folder that is damaged, foreign, newer or in the way
    ├── SubmissionError (ValueError)     a template or submission that cannot be read, answered or compared
    ├── SweepError (ValueError)          a grid that cannot be read, or a sweep that cannot matter
    ├── TimelineError (ValueError)       ids that name no frames, or a way to smooth that cannot be followed
    └── UnknownHeadError (KeyError)      no head of that name
"""

from __future__ import annotations

from ..kit.errors import CerError


class FusionError(CerError):
    """Everything this package raises on purpose."""


class BlockError(FusionError, ValueError):
    """Blocks do not fit together: widths, row counts, names or weights."""


class ExpressionError(FusionError, ValueError):
    """A basic or compound expression is not known, or cannot be scored from what is there."""


class HeadConfigError(FusionError, ValueError):
    """A head was asked for a setting it does not have."""


class HeadDataError(FusionError, ValueError):
    """Rows or labels no head can learn from: NaN, one class only, too few rows."""


class HeadMismatchError(FusionError, ValueError):
    """A saved head is asked about blocks, features or classes other than those it learned from."""


class PredictionsError(FusionError, ValueError):
    """A file of predictions cannot be read or written as it stands."""


class PriorShiftError(FusionError, ValueError):
    """Class priors cannot be estimated or corrected from what was given."""


class RecipeError(FusionError, ValueError):
    """A recipe cannot be read, or cannot run on the rows that are given."""


class ReportError(FusionError, ValueError):
    """Results cannot be compared, drawn or read back."""


class SavedHeadError(FusionError, ValueError):
    """A folder does not hold a whole, known, undamaged head, or one is in the way."""


class SubmissionError(FusionError, ValueError):
    """A challenge's template or submission cannot be read, answered or compared."""


class SweepError(FusionError, ValueError):
    """A grid of weights cannot be read, or a sweep over it could not matter."""


class TimelineError(FusionError, ValueError):
    """Sample ids name no frames of videos, or a way to smooth cannot be followed."""


class UnknownHeadError(FusionError, KeyError):
    """No head has that name."""
