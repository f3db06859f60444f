"""What can go wrong with pictures and weights.

::

    BackbonesError
    ├── UnknownBackboneError (KeyError)      no backbone of that name
    ├── OptionError          (ValueError)    an option that this backbone does not have, or a value it cannot take
    ├── ShapeError           (ValueError)    an array of another shape than the backbone takes or gives
    ├── PictureError         (ValueError)    bytes that are no usable picture
    ├── CheckpointError      (ValueError)    a weights file that cannot be opened, or belongs to another architecture
    ├── WeightsError         (RuntimeError)  weights that were not named, or cannot be had
    ├── DeviceError          (RuntimeError)  a device that is not there
    ├── MissingExtraError    (ImportError)   an optional library that is not installed
    ├── RecipeError          (ValueError)    a training recipe with an unknown field, or a value it cannot take
    ├── ExamplesError        (ValueError)    labelled pictures that nothing can be learnt from as they are
    ├── TooManyErrors        (ValueError)    more unusable pictures than allowed
    ├── VideoError           (ValueError)    a video that cannot be opened, or gives no frame
    ├── FramesError          (RuntimeError)  a folder of frames that is damaged, in the way, or made in another way
    ├── DivergedError        (ArithmeticError)  a training loss that is no finite number
    ├── ResumeError          (RuntimeError)  a training state that is damaged, or another run's
    └── CardError            (ValueError)    a fine-tuning card that is missing, damaged or changed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..kit import errors
from ..kit.errors import CerError


class BackbonesError(CerError):
    """Base of every error this package raises on purpose."""


class UnknownBackboneError(BackbonesError, KeyError):
    """No backbone of that name."""


class OptionError(BackbonesError, ValueError):
    """An option that this backbone does not have, or a value it cannot take."""


class ShapeError(BackbonesError, ValueError):
    """An array of another shape than the backbone takes, or gives."""


class PictureError(BackbonesError, ValueError):
    """Bytes that are no usable picture; the message is the reason, short enough for one line of a quarantine list."""


class CheckpointError(BackbonesError, ValueError):
    """A weights file that cannot be opened safely, or holds another architecture."""


class WeightsError(BackbonesError, RuntimeError):
    """Weights that were not named, or cannot be had."""


class DeviceError(BackbonesError, RuntimeError):
    """A device that this machine does not have."""


class MissingExtraError(BackbonesError, errors.MissingExtraError):
    """An optional library that is not installed."""


class RecipeError(BackbonesError, ValueError):
    """A training recipe with an unknown field, or a value it cannot take."""


class ExamplesError(BackbonesError, ValueError):
    """Labelled pictures that nothing can be learnt from as they are."""


class TooManyErrors(BackbonesError, ValueError):
    """More unusable pictures than allowed; the message lists them with reasons."""


class VideoError(BackbonesError, ValueError):
    """A video that cannot be opened, or gives no frame; the message names it."""


class FramesError(BackbonesError, RuntimeError):
    """A folder of frames that is damaged, in the way, made in another way than asked, or cannot be finished now."""


class DivergedError(BackbonesError, ArithmeticError):
    """A training loss that is no finite number; the message names the samples, the step and the learning rate."""


class ResumeError(BackbonesError, RuntimeError):
    """A training state that is damaged, or belongs to another run."""


class CardError(BackbonesError, ValueError):
    """A fine-tuning card that is missing, damaged or changed."""


def nearest(word: str, known: Iterable[str], *, count: int = 3) -> str:
    """Say which known words are closest to `word`: ``"; nearest: 'vit'"``, or nothing when none is close."""
    found = difflib.get_close_matches(word, list(known), n=count, cutoff=0.5)
    return "; nearest: " + ", ".join(map(repr, found)) if found else ""


def listed(words: Iterable[str], *, count: int = 3) -> str:
    """Write the first few of `words` and how many more there are: ``"a, b, c and 12 more"``."""
    every = list(words)
    more = len(every) - count
    return ", ".join(every[:count]) + (f" and {more} more" if more > 0 else "")
