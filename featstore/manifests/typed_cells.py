"""What people and spreadsheets mean by a cell: no label, one split in three spellings, a class number with a decimal.

Every reading but the literal one is told as a note. Ids are never changed: a person may be called Null.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from cer_fusion.featstore.errors import listing
from cer_fusion.featstore.manifests.class_sets import ClassSet

NO_VALUE = frozenset({
    "nan", "none", "null", "nil", "na", "n/a", "n.a.", "#n/a", "#na", "nat", "<na>", "(null)", "-", "--", "–", "—", "?",
    "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!",
})  # fmt: skip
"""How programs and people write that a cell holds nothing, in lower case (pandas, R, SQL, Excel and its errors)."""
_NO_GROUP = frozenset({"nan", "nat", "<na>", "#n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!"})
"""Those of them that are nobody's initials: rows of a subject called NA must stay together."""
SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "development": "valid",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""What datasets call their splits, in lower case, to our words."""
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_WHOLE = re.compile(r"([+-]?\d+)[.,]0*")
_ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+")


def read_labels(
    cells: Sequence[str], declared: ClassSet | None, lines: Sequence[int] = (), *, ours: bool = False
) -> tuple[list[str], list[str]]:
    """The labels that cells mean, and notes on what was read otherwise than it stands there.

    Words for nothing are no label, and `3.0` is `3` where all labels are numbers, unless `declared` names them as
    classes. What is no class of `declared` stays as it is, to be refused with its line.

    Parameters
    ----------
    cells : sequence of str
        Without blanks around them.
    declared : ClassSet or None
        The classes, where they are known; None if the cells say them.
    lines : sequence of int
        Where each stands, for the notes.
    ours : bool
        The class list lies beside the table, so labels are its names and no official ids, and words for nothing are
        refused.
    """
    words = {word: word.strip(_INVISIBLE).strip() for word in dict.fromkeys(cells)}

    def is_class(text: str) -> bool:
        if declared is None or ours:
            return declared is not None and text in declared.labels
        return declared.match_or_id(text) is not None

    nothing = [word for word, text in words.items() if text.casefold() in NO_VALUE and not is_class(text) and not ours]
    words.update(dict.fromkeys(nothing, ""))
    whole = {word: match[1] for word, text in words.items() if (match := _WHOLE.fullmatch(text))}
    if declared is not None:
        whole = {word: number for word, number in whole.items() if is_class(number) and not is_class(word)}
    elif not all(_is_whole(text) or text in whole for text in words.values() if text):
        whole = {}
    words.update(whole)
    notes = [_told(cells, lines, nothing, "label", "no label; where that is a class, declare the classes")]
    notes.append(_told(cells, lines, list(whole), "label", "the number of a class, without its decimals"))
    labels = [words[cell] for cell in cells]
    if declared is None:
        notes += alike_notes(labels, "label", "classes")
    return labels, list(filter(None, notes))


def read_splits(cells: Sequence[str], lines: Sequence[int] = (), *, others: bool) -> tuple[list[str], list[str]]:
    """The splits that cells mean, and notes: `Train` is train, and with `others` so is `training`, and `dev` is valid.

    Two different words for one split in one file stay two.
    """
    words = {word: word.strip(_INVISIBLE).strip() for word in dict.fromkeys(cells)}
    nothing = [word for word, text in words.items() if text.casefold() in NO_VALUE]
    words.update(dict.fromkeys(nothing, ""))
    meant: dict[str, dict[str, None]] = {}
    for text in words.values():
        if (folded := text.casefold()) in SPLIT_WORDS:
            meant.setdefault(SPLIT_WORDS[folded], {})[folded] = None
    for word, text in list(words.items()):
        folded = text.casefold()
        split = SPLIT_WORDS.get(folded, "")
        if folded == split or (others and split and len(meant[split]) == 1):
            words[word] = split
    notes = [_told(cells, lines, nothing, "split", "no split")]
    for split in meant:
        changed = [word for word, text in words.items() if text == split != word]
        notes.append(_told(cells, lines, changed, "split", split))
    splits = [words[cell] for cell in cells]
    return splits, [*filter(None, notes), *alike_notes(splits, "split", "splits")]


def read_groups(cells: Sequence[str], lines: Sequence[int] = ()) -> tuple[list[str], list[str]]:
    """The groups that cells mean, and notes; `NA` stays, as it may be somebody's initials, and is pointed at."""
    words = {word: word.strip(_INVISIBLE).strip() for word in dict.fromkeys(cells)}
    nothing = [word for word, text in words.items() if text.casefold() in _NO_GROUP]
    words.update(dict.fromkeys(nothing, ""))
    groups = [words[cell] for cell in cells]
    notes = [_told(cells, lines, nothing, "group", "no group")]
    odd = [text for text in dict.fromkeys(words.values()) if text.casefold() in NO_VALUE]
    if odd:
        notes.append(_told(groups, lines, odd, "group", "a group of that name; where it means none, leave cells empty"))
    return groups, list(filter(None, notes))


def alike_notes(cells: Sequence[str], what: str, whats: str) -> list[str]:
    """A note on each set of words that only spelling parts."""
    counts = Counter(cell for cell in cells if cell)
    by_spelling: dict[str, list[str]] = {}
    for word in counts:
        by_spelling.setdefault(_spelling(word), []).append(word)
    notes = []
    for words in by_spelling.values():
        if len(words) > 1:
            told = " and ".join(f"{word!r} ({counts[word]:,})" for word in words)
            notes.append(f"{what}s {told} differ in spelling alone, but are {len(words)} {whats}: write them alike")
    return notes


def id_notes(ids: Sequence[str], lines: Sequence[int] = ()) -> list[str]:
    """A note on ids that a spreadsheet has turned into rounded numbers; they are taken as they stand."""
    rounded = [one for one in ids if looks_rounded(one)]
    text = "they stand; a spreadsheet rounded them: import the column as text there, or take the original file"
    return [_told(ids, lines, rounded, "id", text)] if rounded else []


def looks_rounded(text: str) -> bool:
    """Whether a text is a number as spreadsheets shorten it, `1.23E+11`."""
    return _ROUNDED.fullmatch(text) is not None


def _told(cells: Sequence[str], lines: Sequence[int], words: Sequence[str], what: str, read_as: str) -> str:
    if not words:
        return ""
    chosen = set(words)
    found = [i for i, cell in enumerate(cells) if cell in chosen]
    first = f", first in line {lines[found[0]]}" if lines else ""
    counted = f"{len(found):,} {what}s are" if len(found) > 1 else f"one {what} is"
    return f"{counted} {listing(map(repr, dict.fromkeys(words)))}{first}: read as {read_as}"


def _spelling(word: str) -> str:
    plain = re.sub(rf"[\s_\-{_INVISIBLE}]+", "", unicodedata.normalize("NFKC", word)).casefold()
    if match := _WHOLE.fullmatch(word) or re.fullmatch(r"([+-]?\d+)", word):
        return str(int(match[1]))
    return plain or word


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None and text.isascii()
