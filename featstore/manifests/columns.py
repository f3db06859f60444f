"""The samples of a manifest as columns: a hundred bytes a sample, where an object and five texts take seven hundred.

Ids and paths are the bytes of all of them with where each ends; labels, splits and groups, which repeat, are numbers of
words. A `Sample` is made when it is asked for.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import xxhash

IntArray = npt.NDArray[np.integer[Any]]
_CHUNK = 8192
_IS_BLANK = np.array([chr(letter).isspace() for letter in range(128)])


class Sample(NamedTuple):
    """One row of a manifest."""

    sample_id: str
    """Unique in the manifest; what rows of features are joined on."""
    path: str
    """The picture, relative to the manifest's root; may lead into a zip or tar file (`faces.zip/a/1.png`)."""
    label: str = ""
    """Class name, or empty for a sample without a label."""
    split: str = ""
    """`train`, `valid`, `test` or any word; empty if the data is not split."""
    group: str = ""
    """Video or subject; rows of one group never stand in two splits. Empty: the sample stands alone."""


class _Column(Sequence[str]):
    """Texts in order, found by position as in a tuple."""

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        if isinstance(at, slice):
            return tuple(map(self._one, range(*at.indices(len(self)))))
        return self._one(_position(at, len(self)))

    @abstractmethod
    def _one(self, i: int) -> str:
        """The text at a position from 0."""


class Texts(_Column):
    """Many different texts in little memory; any text that Python can hold."""

    def __init__(self, data: bytes, ends: IntArray) -> None:
        self._data, self._ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Take them in."""
        parts: list[bytes] = []
        sizes: list[IntArray] = []
        rest = iter(texts)
        while chunk := list(islice(rest, _CHUNK)):
            joined = "".join(chunk)
            if joined.isascii():
                parts.append(joined.encode())
                lengths = map(len, chunk)
            else:
                encoded = [text.encode("utf-8", "surrogatepass") for text in chunk]
                parts.append(b"".join(encoded))
                lengths = map(len, encoded)
            sizes.append(np.fromiter(lengths, np.int64, len(chunk)))
        data = b"".join(parts)
        ends = np.cumsum(np.concatenate(sizes)) if sizes else np.empty(0, np.int64)
        return cls(data, ends.astype(np.uint32) if len(data) < 2**32 else ends)

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """All texts of several, in order."""
        data = b"".join([part._data for part in parts])
        starts = np.cumsum([0, *(len(part._data) for part in parts)])
        ends = [part._ends.astype(np.int64) + start for part, start in zip(parts, starts.tolist(), strict=False)]
        whole = np.concatenate(ends) if ends else np.empty(0, np.int64)
        return cls(data, whole.astype(np.uint32) if len(data) < 2**32 else whole)

    def __len__(self) -> int:
        return len(self._ends)

    def _one(self, i: int) -> str:
        return self._bytes(i).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        begin = 0
        for start in range(0, len(self), _CHUNK):
            ends = self._ends[start : start + _CHUNK].tolist()
            first, data = begin, self._data[begin : ends[-1]]
            if data.isascii():
                text = data.decode()
                for end in ends:
                    yield text[begin - first : end - first]
                    begin = end
            else:
                for end in ends:
                    yield data[begin - first : end - first].decode("utf-8", "surrogatepass")
                    begin = end

    def take(self, at: IntArray) -> Texts:
        """Those at some positions."""
        ends = self._ends.astype(np.int64)
        begins = np.concatenate([[0], ends[:-1]])[at] if len(ends) else ends
        ends = ends[at]
        data = b"".join([self._data[b:e] for b, e in zip(begins.tolist(), ends.tolist(), strict=True)])
        summed = np.cumsum(ends - begins)
        return Texts(data, summed.astype(np.uint32) if len(data) < 2**32 else summed)

    def first_empty(self) -> int | None:
        """The first position of an empty text; None if there is none."""
        empty = np.flatnonzero(np.diff(self._ends.astype(np.int64), prepend=0) == 0)
        return int(empty[0]) if len(empty) else None

    def odd(self) -> Iterator[tuple[int, str]]:
        """Position and text of each that begins or ends with a blank, or that UTF-8 cannot hold, in order."""
        if self._data.isascii():
            letters = np.frombuffer(self._data, np.uint8)
            ends = self._ends.astype(np.int64)
            begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
            at = np.flatnonzero(begins < ends)
            blank = _IS_BLANK[letters[begins[at]]] | _IS_BLANK[letters[ends[at] - 1]]
            yield from ((i, self[i]) for i in at[blank].tolist())
            return
        yield from ((i, text) for i, text in enumerate(self) if text != text.strip() or not is_utf8(text))

    def first_repeat(self) -> tuple[int, int] | None:
        """The first position of a text that stood before, and where it did; None if all differ."""
        marks = np.empty(len(self), np.uint64)
        begin = 0
        for start in range(0, len(self), _CHUNK):
            ends = self._ends[start : start + _CHUNK].tolist()
            data = [self._data[b:e] for b, e in zip([begin, *ends], ends, strict=False)]
            marks[start : start + _CHUNK] = list(map(xxhash.xxh3_64_intdigest, data))
            begin = ends[-1]
        order = np.argsort(marks, kind="stable")
        same = marks[order[1:]] == marks[order[:-1]]
        seen: dict[str, int] = {}
        for i in sorted({*order[1:][same].tolist(), *order[:-1][same].tolist()}):  # few: equal texts, or equal marks
            if (before := seen.setdefault(self[i], i)) != i:
                return i, before
        return None

    def in_one_piece(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The bytes of all of them (UTF-8, lone surrogates as three bytes), and where each begins and ends."""
        ends = self._ends.astype(np.int64)
        return np.frombuffer(self._data, np.uint8), np.concatenate([np.zeros(1, np.int64), ends])[:-1], ends

    def whole(self) -> str:
        """All of them joined."""
        return self._data.decode("utf-8", "surrogatepass")

    def _bytes(self, i: int) -> bytes:
        return self._data[int(self._ends[i - 1]) if i else 0 : int(self._ends[i])]


class Words(_Column):
    """Texts that repeat: each different one once, and its number for every place."""

    def __init__(self, words: tuple[str, ...], numbers: IntArray) -> None:
        self.words, self.numbers = words, numbers

    @classmethod
    def of(cls, texts: Iterable[str]) -> Words:
        """Take them in; a repetition of the same word costs four bytes."""
        listed = texts if isinstance(texts, Sequence) else list(texts)
        place = {word: number for number, word in enumerate(dict.fromkeys(listed))}
        return cls(tuple(place), np.fromiter(map(place.__getitem__, listed), np.int32, len(listed)))

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> Words:
        """All texts of several, in order."""
        place: dict[str, int] = {}
        numbers = [part.numbered(lambda word: place.setdefault(word, len(place))) for part in parts]
        return cls(tuple(place), np.concatenate(numbers).astype(np.int32) if numbers else np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.numbers)

    def _one(self, i: int) -> str:
        return self.words[int(self.numbers[i])]

    def __iter__(self) -> Iterator[str]:
        return map(self.words.__getitem__, iter(self.numbers.tolist()))

    def take(self, at: IntArray) -> Words:
        """Those at some positions."""
        return Words(self.words, self.numbers[at])

    def odd(self) -> Iterator[tuple[int, str]]:
        """As that of `Texts`, each word once."""
        for number, word in enumerate(self.words):
            if word != word.strip() or not is_utf8(word):
                places = np.flatnonzero(self.numbers == number)
                yield from ((int(i), word) for i in places[:1])

    def counts(self) -> Counter[str]:
        """How often each word stands there, words that do not left out, in order of first appearance."""
        used, first, counts = np.unique(self.numbers, return_index=True, return_counts=True)
        return Counter({self.words[used[i]]: int(counts[i]) for i in np.argsort(first)})

    def numbered(self, number_of: Callable[[str], int]) -> npt.NDArray[np.int64]:
        """(n,) a number of its own for every word."""
        return np.fromiter(map(number_of, self.words), np.int64, len(self.words))[self.numbers]


class Samples(Sequence[Sample]):
    """Samples in order, kept as columns; a `Sample` is made when one is asked for."""

    def __init__(self, ids: Texts, paths: Texts, labels: Words, splits: Words, groups: Words) -> None:
        self.ids, self.paths, self.labels, self.splits, self.groups = ids, paths, labels, splits, groups

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """Take samples, themselves if they are columns already."""
        if isinstance(samples, Samples):
            return samples
        listed = samples if isinstance(samples, Sequence) else tuple(samples)
        column = [map(operator.itemgetter(k), listed) for k in range(5)]
        return cls(Texts.of(column[0]), Texts.of(column[1]), *map(Words.of, column[2:]))

    @property
    def columns(self) -> tuple[Texts | Words, ...]:
        """Ids, paths, labels, splits and groups."""
        return self.ids, self.paths, self.labels, self.splits, self.groups

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, at: int | slice) -> Sample | tuple[Sample, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        i = _position(at, len(self))
        return Sample(self.ids[i], self.paths[i], self.labels[i], self.splits[i], self.groups[i])

    def __iter__(self) -> Iterator[Sample]:
        return map(Sample._make, zip(*self.columns, strict=True))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Samples | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    def __hash__(self) -> int:
        return hash((len(self), self.ids.whole()))

    def __add__(self, others: Iterable[Sample]) -> tuple[Sample, ...]:
        return (*self, *others)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:2])) + (", …" if len(self) > 2 else "")
        return f"<{len(self):,} samples: {shown}>"

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """All samples of several, in order."""
        return cls(
            Texts.joined([part.ids for part in parts]), Texts.joined([part.paths for part in parts]),
            Words.joined([part.labels for part in parts]), Words.joined([part.splits for part in parts]),
            Words.joined([part.groups for part in parts]),
        )  # fmt: skip

    def take(self, at: IntArray) -> Samples:
        """Those at some positions."""
        return Samples(
            self.ids.take(at), self.paths.take(at), self.labels.take(at), self.splits.take(at), self.groups.take(at)
        )


def is_utf8(text: str) -> bool:
    """False for bytes of a file's name that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _position(at: int, n: int) -> int:
    i = operator.index(at)
    if not -n <= i < n:
        raise IndexError(f"position {at} of {n}")
    return i % n if n else i
