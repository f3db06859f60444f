"""What every package's errors are made of.

::

    CerError                                the message as it was written, and what to do in it
    ├── OutputExistsError (FileExistsError) the place of a result is taken, and nobody asked to replace it
    ├── MissingExtraError (ImportError)     an optional library that is not installed
    ├── DocumentError     (ValueError)      a JSON document that is damaged, foreign, or holds other values
    │   ├── NewerFormatError                one that only a newer release reads
    │   └── OlderFormatError                one that an older release wrote, and this one does not read
    ├── TextError         (ValueError)      a text or table that cannot be read as it stands
    ├── Masked            (ValueError)      there is nothing to make a row of, which is nobody's fault
    └── WriteError        (OSError)         the file system refused a write
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Set
from typing import Any

_SHOWN = 12
"""Known names beyond which a message does not list them all."""


class CerError(Exception):
    """Base of every error that is raised on purpose; its text is the message, whatever else the class is."""

    def __str__(self) -> str:
        """Return the message as it was written: `KeyError` would quote it, `OSError` look for a number and a name."""
        return str(self.args[0]) if self.args else ""


class OutputExistsError(CerError, FileExistsError):
    """The place of a result is taken, and nobody asked to replace what is there."""


class MissingExtraError(CerError, ImportError):
    """An optional library that is not installed."""


class DocumentError(CerError, ValueError):
    """A JSON document that is damaged, foreign, or holds values of another kind."""


class NewerFormatError(DocumentError):
    """A document of a format version that only a newer release knows; never overwritten."""


class OlderFormatError(DocumentError):
    """A document of a format version that this release no longer reads."""


class TextError(CerError, ValueError):
    """A text or table that cannot be read as it stands; says the line."""


class Masked(CerError, ValueError):
    """There is nothing to make a sample's row of, and that is no fault: a frame of a video without sound.

    The sample gets no row and no zeros; it is counted, by the reason given, and never stops a run.
    """

    MARK = "masked: "
    """What the reason begins with wherever it is kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.MARK}{reason.removeprefix(self.MARK)}")  # which a copy brings along

    @classmethod
    def reason(cls, kept: str) -> str | None:
        """Return the reason in a text that was kept; None if that tells of something else."""
        return kept.removeprefix(cls.MARK) if kept.startswith(cls.MARK) else None


class WriteError(CerError, OSError):
    """The file system refused a write; what was there is as it was before."""


def needed(library: str, purpose: str, *, extra: str | None = None) -> Any:
    """Import an optional library, which is loaded by nothing else.

    Parameters
    ----------
    library : str
        Its name, which is that of its wheel too.
    purpose : str
        What it is needed for, in words: ``a DataFrame of a view``.
    extra : str, optional
        The extra of cer-fusion that brings it, where there is one.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message says how to have it.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.partition(".")[0]:  # it is there, and lacks something itself
            raise
        wanted = library.partition(".")[0] if extra is None else f"'cer-fusion[{extra}]'"
        raise MissingExtraError(f"{purpose} needs {library}, which is not installed\n  pip install {wanted}") from None


def duration(seconds: float) -> str:
    """Say a length of time as people do: `48 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name.

    Letter case does not matter for nearness. Many known names are listed only where none is near.

    Parameters
    ----------
    word : str
    known : iterable of str
        Listed in this order; a set in that of the alphabet.

    Returns
    -------
    str
        ``did you mean 'vit' or 'vits'? known: manet, vit, vits``, ``known: a, b, …`` or ``there are none yet``.
    """
    names = [str(name) for name in (sorted(known) if isinstance(known, Set) else dict.fromkeys(known))]
    if not names:
        return "there are none yet"
    lowered: dict[str, list[str]] = {}
    for name in names:
        lowered.setdefault(name.casefold(), []).append(name)
    found = difflib.get_close_matches(str(word).casefold(), list(lowered), n=3, cutoff=0.5)
    close = [name for one in found for name in lowered[one]][:3]
    shown = "known: " + ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if not close:
        return shown
    meant = f"did you mean {' or '.join(map(repr, close))}?"
    return f"{meant} {shown}" if len(names) <= _SHOWN else meant


def listing(items: Iterable[str], limit: int = 3) -> str:
    """Return the first few of many, for a message: ``a, b, c, … (37 in all)``."""
    names = list(items)
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join([*names[:limit], "…"]) + f" ({len(names):,} in all)"
