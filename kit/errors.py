"""What all errors of these packages have in common, and words that error messages share.

CerError
├── OutputExistsError (FileExistsError)  the place of a result is taken, and nobody asked to replace it
├── MissingExtraError (ImportError)      an optional library that is not installed
├── WriteError (OSError)                 the file system refused a write
└── DocumentError (ValueError)           a JSON document that is damaged, foreign, or of another version
    └── NewerFormatError                 a document that a newer release wrote
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CerError(Exception):
    """Base of every error that this project raises on purpose; each package has its own below it."""

    def __str__(self) -> str:
        """Return the message as it was written: `KeyError` would quote it, `OSError` look for a number and a name."""
        return str(self.args[0]) if self.args else ""


class OutputExistsError(CerError, FileExistsError):
    """The place of a result is taken, and nobody asked to replace what is there."""


class MissingExtraError(CerError, ImportError):
    """An optional library that is not installed; the message says which extra brings it."""


class WriteError(CerError, OSError):
    """The file system refused a write; what was there before is there still."""


class DocumentError(CerError, ValueError):
    """A JSON document that is damaged, foreign, or of another version."""


class NewerFormatError(DocumentError):
    """A document of a format version that only a newer release knows; never overwritten."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Name the known words, those most like `word` first, for the end of an error message."""
    names = [str(one) for one in known]
    if not names:
        return "there are none yet"
    plain = {one.casefold(): one for one in names}
    close = [plain[one] for one in difflib.get_close_matches(str(word).casefold(), list(plain), n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    shown = sorted(names) if len(names) > 12 else names
    return f"{hint}known: {', '.join(shown[:24])}{', …' if len(shown) > 24 else ''}"


def listing(items: Iterable[str], limit: int = 3) -> str:
    """Return the first few of many, for an error message: ``a, b, c, … (37 in all)``."""
    names = list(items)
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])}, … ({len(names)} in all)"
