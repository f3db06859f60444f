"""What can go wrong between a video and its frames.

::

    FramesError
    ├── VideoError        (ValueError)    a video that cannot be opened or written, or gives no frame
    ├── FolderError       (RuntimeError)  a folder of frames that is damaged, in the way, or made in another way
    ├── DiskError         (OSError)       a disk that fails while a video is read
    ├── DetectorError     (ValueError)    a file that is no detector, or a device that it cannot run on
    ├── OptionError       (ValueError)    a setting that gives no pictures
    └── ShapeError        (ValueError)    an array that is no picture

A library that is not installed is a `MissingExtraError`, and a name that is taken an `OutputExistsError`, of the kit.
"""

from __future__ import annotations

from ..kit.errors import CerError


class FramesError(CerError):
    """Base of every error this package raises on purpose."""


class VideoError(FramesError, ValueError):
    """A video that cannot be opened or written, or gives no frame; the message names it."""


class FolderError(FramesError, RuntimeError):
    """A folder of frames that is damaged, in the way, made in another way than asked, or another process's now."""


class DiskError(FramesError, OSError):
    """A disk that fails while a video is read; what was done is kept."""


class DetectorError(FramesError, ValueError):
    """A file that is no detector, or a device that it cannot run on."""


class OptionError(FramesError, ValueError):
    """A setting that gives no pictures."""


class ShapeError(FramesError, ValueError):
    """An array that is no picture."""
