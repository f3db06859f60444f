"""The samples of a manifest as columns: a hundred bytes a sample, where an object and five texts take seven hundred.

Ids and paths are the bytes of all of them with where each ends; labels, splits and groups, which repeat, are numbers of
words. What else is known of samples are numbers, in as few bytes as hold them. A `Sample` is made when it is asked for.
"""

from __future__ import annotations

import hashlib
import operator
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ...kit.text import is_utf8, is_utf8_data, number_of, number_text
from .sample import Knowing, Sample

IntArray = npt.NDArray[np.integer[Any]]
Letters = npt.NDArray[np.uint8]
"""Bytes of UTF-8."""
_CHUNK = 8192
_MARKED_BYTES = 256
"""At the beginning of a text, by which texts are told apart at first."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([2 ** (8 * count) - 1 for count in range(9)], np.uint64)
_BLANKS = [chr(code).encode() for code in range(0x3001) if chr(code).isspace()]
_IS_BLANK = np.isin(np.arange(256), [blank[0] for blank in _BLANKS if len(blank) == 1])
_BLANKS_OF_TWO, _BLANKS_OF_THREE = ([int.from_bytes(blank) for blank in _BLANKS if len(blank) == n] for n in (2, 3))
_QUOTED = b',"\r\n'
"""What a cell may hold that is written in quotes; the csv module of Python 3.11 leaves a lone return out."""


_POWERS = np.array([float(10**k) for k in range(16)])


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
        return cls(b"".join(parts), _short(np.cumsum(np.concatenate(sizes)) if sizes else np.empty(0, np.int64)))

    @classmethod
    def between(cls, data: Letters, starts: IntArray, ends: IntArray) -> Texts:
        """Those that stand between these places of valid UTF-8."""
        sizes = ends - starts
        return cls(data[_each_byte(starts, sizes)].tobytes(), _short(np.cumsum(sizes)))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """All texts of several, in order."""
        data = b"".join([part._data for part in parts])
        ends: IntArray = np.empty(sum(map(len, parts)), np.uint32 if len(data) < 2**32 else np.int64)
        at = start = 0
        for part in parts:
            np.add(part._ends, np.int64(start), out=ends[at : at + len(part)], casting="unsafe")
            at, start = at + len(part), start + len(part._data)
        return cls(data, ends)

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
        begins = ends - np.diff(ends, prepend=0)
        data, sizes = np.frombuffer(self._data, np.uint8), (ends - begins)[at]
        parts = [
            data[_each_byte(begins[at[first : first + _CHUNK]], sizes[first : first + _CHUNK])].tobytes()
            for first in range(0, len(at), _CHUNK)
        ]
        return Texts(b"".join(parts), _short(np.cumsum(sizes)))

    def differs(self, other: Texts) -> npt.NDArray[np.bool_]:
        """(n,) where another column of as many texts has another."""
        found = np.zeros(len(self), bool)
        for first in range(0, len(self), _CHUNK):
            (data, sizes), (others, of_others) = (one.of_rows(first, first + _CHUNK) for one in (self, other))
            if data != others or not np.array_equal(sizes, of_others):
                at = slice(first, first + _CHUNK)
                found[at] = list(map(operator.ne, self[at], other[at]))
        return found

    def first_empty(self) -> int | None:
        """The first position of an empty text; None if there is none."""
        empty = np.flatnonzero(np.diff(self._ends, prepend=self._ends.dtype.type(0)) == 0)
        return int(empty[0]) if len(empty) else None

    def odd(self) -> Iterator[tuple[int, str]]:
        """Position and text of each that begins or ends with a blank, or that UTF-8 cannot hold, in order."""
        for first, data, starts, ends in self._chunks():
            odd = begins_or_ends_blank(data, starts, ends)
            if not is_utf8_data(data.tobytes()):
                odd |= [not is_utf8(self[first + i]) for i in range(len(starts))]
            yield from ((first + i, self[first + i]) for i in np.flatnonzero(odd).tolist())

    def stripped(self) -> Texts:
        """The same without blanks around them, as `str.strip` has them; itself where there are none."""
        if not any(begins_or_ends_blank(data, starts, ends).any() for _, data, starts, ends in self._chunks()):
            return self
        return Texts.of(map(str.strip, self))

    def first_repeat(self) -> tuple[int, int] | None:
        """The first position of a text that stood before, and where it did; None if all differ."""
        marks = np.empty(len(self), np.uint64)
        for first, data, starts, ends in self._chunks():
            marks[first : first + _CHUNK] = marks_of(data, starts, ends)
        ordered = np.sort(marks)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(twice):
            return None
        seen: dict[str, int] = {}
        for i in np.flatnonzero(np.isin(marks, twice)).tolist():  # few: equal texts, or equal marks
            if (before := seen.setdefault(self[i], i)) != i:
                return i, before
        return None

    def sha256(self) -> str:
        """Digest in hex of the texts in their order, a NUL between them."""
        digest = hashlib.sha256()
        for first, data, starts, ends in self._chunks():
            sizes = ends - starts
            letters = np.zeros(len(data) + len(starts), np.uint8)  # a NUL before each
            letters[_each_byte(starts + np.arange(1, len(starts) + 1), sizes)] = data
            digest.update(letters[first == 0 :].tobytes())
        return digest.hexdigest()

    def of_rows(self, first: int, last: int) -> tuple[bytes, IntArray]:
        """The bytes of those from one position to before another, and how many each has."""
        begin = int(self._ends[first - 1]) if first else 0
        ends = self._ends[first:last].astype(np.int64)
        return self._data[begin : ends[-1] if len(ends) else begin], np.diff(ends, prepend=begin)

    def _chunks(self) -> Iterator[tuple[int, Letters, IntArray, IntArray]]:
        """Some at a time: the position of the first, their bytes, and where among these each begins and ends."""
        for first in range(0, len(self), _CHUNK):
            data, sizes = self.of_rows(first, first + _CHUNK)
            ends = np.cumsum(sizes)
            yield first, np.frombuffer(data, np.uint8), ends - sizes, ends

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
    def blank(cls, n: int) -> Words:
        """Nothing at every place."""
        return cls(("",), np.zeros(n, np.int32))

    @classmethod
    def between(cls, data: Letters, starts: IntArray, ends: IntArray) -> Words:
        """Those that stand between these places of valid UTF-8; only a word that is new to it becomes an object."""
        if not len(starts) or int((ends - starts).max()) > _MARKED_BYTES:
            return cls.of(Texts.between(data, starts, ends))
        eights = list(_eight_bytes_each(data, starts, ends))
        marks = _mixed(eights, ends - starts)
        heads = np.flatnonzero(np.diff(marks, prepend=~marks[:1]))  # of runs of the same word
        _, first, number = np.unique(marks[heads], return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        firsts = heads[first[order]]
        numbers = np.repeat(place[number], np.diff(heads, append=len(marks)))
        same_as = firsts[numbers]
        if any((eight != eight[same_as]).any() for eight in (*eights, ends - starts)):  # equal marks of two words
            return cls.of(Texts.between(data, starts, ends))
        return cls(tuple(Texts.between(data, starts[firsts], ends[firsts])), numbers)

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

    def renamed(self, names: Mapping[str, str]) -> Words:
        """The same with other words in place of some; words that nowhere stand may be left out of the names."""
        place: dict[str, int] = {}
        used = np.zeros(len(self.words), bool)
        used[self.numbers] = True
        numbers = [
            place.setdefault(names.get(word, word), len(place)) if is_used else 0
            for word, is_used in zip(self.words, used.tolist(), strict=True)
        ]
        return Words(tuple(place), np.array(numbers, np.int32)[self.numbers])

    def differs(self, other: Words) -> npt.NDArray[np.bool_]:
        """(n,) where another column of as many texts has another."""
        place: dict[str, int] = {}
        own, others = (one.numbered(lambda word: place.setdefault(word, len(place))) for one in (self, other))
        return np.not_equal(own, others)

    def where(self, words: Collection[str]) -> IntArray:
        """The positions of some words, ascending."""
        return np.flatnonzero(self.numbered(lambda word: word in words))

    def numbered(self, number_of: Callable[[str], int]) -> npt.NDArray[np.int64]:
        """(n,) a number of its own for every word."""
        return np.fromiter(map(number_of, self.words), np.int64, len(self.words))[self.numbers]


class Numbers:
    """Numbers in order, NaN where nothing is known; kept as the shortest floats that hold all of them exactly."""

    def __init__(self, values: npt.NDArray[np.floating[Any]]) -> None:
        self._values = _short_floats(values)

    @classmethod
    def of(cls, cells: Iterable[str]) -> Numbers:
        """Read texts, empty ones as not known; raises ValueError as `number_of` does."""
        words = cells if isinstance(cells, Words) else Words.of(cells)
        return cls(np.array(list(map(number_of, words.words)), np.float64)[words.numbers])

    @classmethod
    def between(cls, data: Letters, starts: IntArray, ends: IntArray) -> Numbers:
        """Those between these places of valid UTF-8."""
        plain = _plain_decimals(data, starts, ends)
        return cls.of(Words.between(data, starts, ends)) if plain is None else cls(plain)

    @classmethod
    def unknown(cls, n: int) -> Numbers:
        """Nothing at every place."""
        return cls(np.full(n, np.nan, np.float16))

    @classmethod
    def joined(cls, parts: Sequence[Numbers]) -> Numbers:
        """All numbers of several, in order."""
        return cls(np.concatenate([part._values for part in parts]) if parts else np.empty(0, np.float16))

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, i: int) -> float:
        return float(self._values[i])

    def __iter__(self) -> Iterator[float]:
        for first in range(0, len(self), _CHUNK):
            yield from self._values[first : first + _CHUNK].tolist()

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """(n,) the numbers, a copy."""
        return self._values.astype(np.float64)

    def take(self, at: IntArray) -> Numbers:
        """Those at some positions."""
        return Numbers(self._values[at])

    def differs(self, other: Numbers) -> npt.NDArray[np.bool_]:
        """(n,) where another column of as many has another number, or one alone has any."""
        own, others = self._values, other._values
        found: npt.NDArray[np.bool_] = np.not_equal(own, others) & ~(np.isnan(own) & np.isnan(others))
        return found

    def of_rows(self, first: int, last: int) -> tuple[bytes, IntArray]:
        """As that of `Texts`: the shortest decimals that are read back as these numbers."""
        different, at = np.unique(self._values[first:last], return_inverse=True)
        return Texts.of(map(number_text, different.tolist())).take(at).of_rows(0, len(at))


def _plain_decimals(data: Letters, starts: IntArray, ends: IntArray) -> npt.NDArray[np.float64] | None:
    """(n,) decimals such as `-0.25` as `float` reads them, NaN of empty cells; None where any other cell stands.

    Up to 15 digits are a quotient of two floats that are exact, rounded once (Clinger 1990, "How to read floating …").
    """
    sizes = ends - starts
    if int(sizes.max(initial=0)) > 15:
        return None
    whole, places = np.zeros((2, len(sizes)), np.int64)
    pointed, minus = np.zeros((2, len(sizes)), bool)
    for k in range(int(sizes.max(initial=0))):
        letter = data[np.minimum(starts + k, len(data) - 1)]
        there, digit = sizes > k, letter - np.uint8(ord("0"))
        is_digit, is_point = there & (digit < 10), there & (letter == ord(".")) & ~pointed
        minus |= there & (letter == ord("-")) & (k == 0)
        if (there & ~is_digit & ~is_point & ~(minus & (k == 0))).any():
            return None
        whole = np.where(is_digit, whole * 10 + digit, whole)
        places += is_digit & pointed
        pointed |= is_point
    if ((sizes > 0) & (sizes == minus.astype(int) + pointed)).any():  # no digit
        return None
    return np.where(sizes > 0, np.where(minus, -1, 1) * whole / _POWERS[places], np.nan)


def _short_floats(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    with np.errstate(over="ignore"):
        tried = (values.astype(kind) for kind in ("f2", "f4") if values.dtype == np.float64)
        return next((short for short in tried if np.array_equal(short, values, equal_nan=True)), values)


Column: TypeAlias = Texts | Words | Numbers
Kinds = Mapping[str, type[Texts] | type[Words] | type[Numbers]]
"""The columns of a table that are known, and what keeps each."""


class Samples(Sequence[Sample]):
    """Samples in order, kept as columns; a `Sample` is made when one is asked for."""

    def __init__(
        self,
        ids: Texts,
        paths: Texts,
        labels: Words,
        splits: Words,
        groups: Words,
        further: Mapping[str, Numbers] | None = None,
    ) -> None:
        self.ids, self.paths, self.labels, self.splits, self.groups = ids, paths, labels, splits, groups
        self.further = dict(further or {})

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """Take samples, themselves if they are columns already."""
        if isinstance(samples, Samples):
            return samples
        listed = samples if isinstance(samples, Sequence) else tuple(samples)
        column = [map(operator.itemgetter(k), listed) for k in range(5)]
        known: dict[str, list[float]] = defaultdict(lambda: [np.nan] * len(listed))
        if Knowing in set(map(type, listed)):
            for i, sample in enumerate(listed):
                for title, number in sample.further:
                    known[title][i] = number
        further = {title: Numbers(np.array(numbers, np.float64)) for title, numbers in known.items()}
        labels, splits, groups = map(Words.of, column[2:])
        return cls(Texts.of(column[0]), Texts.of(column[1]), labels, splits, groups, further)

    @property
    def columns(self) -> tuple[Texts | Words, ...]:
        """Ids, paths, labels, splits and groups."""
        return self.ids, self.paths, self.labels, self.splits, self.groups

    def but(self, **columns: Any) -> Samples:
        """The same samples with other columns in place of some: `labels`, `further`, …"""
        return Samples(**{**vars(self), **columns})

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
        sample = Sample(self.ids[i], self.paths[i], self.labels[i], self.splits[i], self.groups[i])
        return self._with_known(sample, [numbers[i] for numbers in self.further.values()]) if self.further else sample

    def __iter__(self) -> Iterator[Sample]:
        samples = map(Sample._make, zip(*self.columns, strict=True))
        return map(self._with_known, samples, zip(*self.further.values(), strict=True)) if self.further else samples

    def _with_known(self, sample: Sample, row: Iterable[float]) -> Sample:
        return sample.knowing({t: number for t, number in zip(self.further, row, strict=True) if number == number})

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
        """All samples of several, in order; columns of numbers that some lack are not known there."""
        titles = dict.fromkeys(title for part in parts for title in part.further)
        return cls(
            Texts.joined([part.ids for part in parts]), Texts.joined([part.paths for part in parts]),
            Words.joined([part.labels for part in parts]), Words.joined([part.splits for part in parts]),
            Words.joined([part.groups for part in parts]),
            {title: Numbers.joined([part.further.get(title) or Numbers.unknown(len(part)) for part in parts])
             for title in titles},
        )  # fmt: skip

    def take(self, at: IntArray) -> Samples:
        """Those at some positions."""
        return Samples(
            self.ids.take(at), self.paths.take(at), self.labels.take(at), self.splits.take(at), self.groups.take(at),
            {title: numbers.take(at) for title, numbers in self.further.items()},
        )  # fmt: skip

    def csv_blocks(self, rows: int) -> Iterator[bytes]:
        """As many rows at a time as lines of a CSV file; cells are quoted where they must be."""
        words = [(Texts.of(column.words), column.numbers) for column in (self.labels, self.splits, self.groups)]
        for first in range(0, len(self), rows):
            last = min(len(self), first + rows)
            columns = [column.of_rows(first, last) for column in (self.ids, self.paths)]
            columns += [known.take(numbers[first:last]).of_rows(0, last - first) for known, numbers in words]
            columns += [numbers.of_rows(first, last) for numbers in self.further.values()]
            if any(len(data) != len(data.translate(None, _QUOTED)) for data, _ in columns):
                cells = (Texts(data, np.cumsum(sizes)) for data, sizes in columns)
                yield "".join(",".join(map(quoted, row)) + "\n" for row in zip(*cells, strict=True)).encode()
                continue
            sizes = np.stack([sizes for _, sizes in columns], axis=1)  # (n, 5 + further)
            ends = np.cumsum(sizes + 1).reshape(sizes.shape)
            starts = ends - 1 - sizes
            letters = np.full(ends[-1, -1], ord(","), np.uint8)
            letters[ends[:, -1] - 1] = ord("\n")
            for k, (data, _) in enumerate(columns):
                letters[_each_byte(starts[:, k], sizes[:, k])] = np.frombuffer(data, np.uint8)
            yield letters.tobytes()


def quoted(cell: str) -> str:
    """A cell as it stands in a CSV file."""
    return '"' + cell.replace('"', '""') + '"' if any(letter in cell for letter in _QUOTED.decode()) else cell


def begins_or_ends_blank(data: Letters, starts: IntArray, ends: IntArray) -> npt.NDArray[np.bool_]:
    """(n,) which texts between these places of UTF-8 begin or end with what `str.strip` takes away."""
    found = np.zeros(len(starts), bool)
    at = np.flatnonzero(starts < ends)
    if not len(at):
        return found
    first, last = starts[at], ends[at] - 1
    blank = _IS_BLANK[data[first]] | _IS_BLANK[data[last]]
    if data.max() >= 128:
        end = len(data) - 1
        a, b, c = (data[np.minimum(first + k, end)].astype(np.int32) for k in range(3))
        blank |= np.isin(a << 8 | b, _BLANKS_OF_TWO) | np.isin(a << 16 | b << 8 | c, _BLANKS_OF_THREE)
        a, b, c = (data[np.maximum(last - k, 0)].astype(np.int32) for k in (2, 1, 0))
        blank |= np.isin(b << 8 | c, _BLANKS_OF_TWO) | np.isin(a << 16 | b << 8 | c, _BLANKS_OF_THREE)
    found[at] = blank
    return found


def marks_of(data: Letters, starts: IntArray, ends: IntArray) -> npt.NDArray[np.uint64]:
    """(n,) a number for each text between these places, equal for equal texts, and seldom for others."""
    ends = np.minimum(ends, starts + _MARKED_BYTES)
    return _mixed(_eight_bytes_each(data, starts, ends), ends - starts)


def _mixed(eights: Iterable[npt.NDArray[np.uint64]], sizes: IntArray) -> npt.NDArray[np.uint64]:
    """Add up a mix of each eight bytes and their place; those behind a text's end add nothing."""
    marks = sizes.astype(np.uint64)
    for place, eight in enumerate(eights):
        mixed = eight * (_FACTOR + np.uint64(2 * place))
        mixed ^= mixed >> np.uint64(32)
        mixed *= _FACTOR
        marks += mixed
    return marks


def _eight_bytes_each(data: Letters, starts: IntArray, ends: IntArray) -> Iterator[npt.NDArray[np.uint64]]:
    """Of each text its next eight bytes as one number, zeros behind its end, as often as the longest needs."""
    longest = int((ends - starts).max()) if len(starts) else 0
    begin, end = (int(starts.min()), int(ends.max())) if len(starts) else (0, 0)
    padded = np.zeros(end - begin + 8, np.uint8)
    padded[:-8] = data[begin:end]
    eight_from = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    for k in range(0, longest, 8):
        eight = eight_from[np.minimum(starts - begin + k, end - begin)]
        yield eight & _FIRST_BYTES[np.clip(ends - starts - k, 0, 8)]


def _each_byte(starts: IntArray, sizes: IntArray) -> IntArray:
    """(sum of sizes,) where the bytes of all texts of these sizes stand that begin there, text by text."""
    ends = np.cumsum(sizes)
    each = np.repeat(starts - (ends - sizes), sizes)
    each += np.arange(len(each))
    return each


def _short(ends: IntArray) -> IntArray:
    """Places in half the memory where they fit."""
    return ends.astype(np.uint32) if not len(ends) or ends[-1] < 2**32 else ends


def _position(at: int, n: int) -> int:
    i = operator.index(at)
    if not -n <= i < n:
        raise IndexError(f"position {at} of {n}")
    return i % n if n else i
