"""Hashes of texts, sample ids above all: ten million in two arrays, compared and looked up without a Python object.

A text becomes two independent 64-bit hashes, and two texts are one when both agree: of ten million ids the odds that
any two are confused are below 1e-24.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ..manifests.columns import Texts

Keys = npt.NDArray[np.uint64]
"""(2, n): the hash that is sorted by, and the one that confirms."""
IntArray = npt.NDArray[np.int64]
Mark = tuple[int, int]
"""Both hashes of one text."""
SUMMED = 1024
"""Samples of a manifest from one sum of hashes to the next."""
_AT_A_TIME, _BLOCK_BYTES = 1 << 14, 1 << 20
"""Texts are hashed so many, and about so many bytes, at a time, which stay in the processor's cache."""


def keys_of(ids: Sequence[str]) -> Keys:
    """Hash sample ids.

    Parameters
    ----------
    ids : sequence of n str
        Those of a manifest (`Texts`) are hashed as they lie in memory.

    Returns
    -------
    uint64 array of shape (2, n)
    """
    if isinstance(ids, Texts):
        data, starts, ends = ids.in_one_piece()
        if data.all():  # no NUL among them
            return keys_of_utf8(data, starts, ends)
    out = np.zeros((2, len(ids)), dtype=np.uint64)
    for first in range(0, len(ids), _AT_A_TIME):
        part = ids[first : first + _AT_A_TIME]
        text = "\0".join(part)
        if text.count("\0") != len(part) - 1:  # an id that holds a NUL is none of the store's, and hashed to nothing
            text = "\0".join("" if "\0" in one else one for one in part)
        data = np.frombuffer(text.encode("utf-8", "surrogatepass") + b"\0", dtype=np.uint8)
        ends = np.flatnonzero(data == 0)
        out[:, first : first + len(part)] = keys_of_utf8(data, np.append(0, ends[:-1] + 1), ends)
    return out


def keys_of_utf8(data: npt.NDArray[np.uint8], starts: IntArray, ends: IntArray) -> Keys:
    """Hash texts that lie one behind the other in memory, as Arrow keeps a column of them; gives what `keys_of` gives.

    Parameters
    ----------
    data : uint8 array
        UTF-8 without NUL, but for one that may stand behind each text.
    starts, ends : integer arrays of shape (n,)
        Where in it each text begins, ascending, and ends.

    Returns
    -------
    uint64 array of shape (2, n)
    """
    out = np.zeros((2, len(starts)), dtype=np.uint64)
    lengths = ends - starts
    first = 0
    while first < len(starts):
        padded = max(8, -(-int(lengths[first : first + _AT_A_TIME].max()) // 8) * 8)
        last = min(len(starts), first + max(1, min(_AT_A_TIME, _BLOCK_BYTES // padded)))
        size = lengths[first:last]
        words = np.zeros((last - first, padded), dtype=np.uint8)
        piece = data[starts[first] : ends[last - 1] + 1]
        step = int(starts[min(first + 1, last - 1)] - starts[first]) or len(piece)
        if size[0] and (size == size[0]).all() and len(piece) >= (last - first) * step:
            words[:, : size[0]] = piece[: (last - first) * step].reshape(-1, step)[:, : size[0]]
        else:
            letters = data[starts[first] : ends[last - 1]]
            words[np.arange(padded) < size[:, None]] = letters[letters != 0]
        _hash_words(words.view("<u8"), out[:, first:last])
        first = last
    return out


def keys_of_texts(texts: npt.NDArray[np.bytes_]) -> Keys:
    """Hash ids as a shard holds them: (n,) fixed-length UTF-8 texts, padded with NUL; gives what `keys_of` gives."""
    out = np.zeros((2, len(texts)), dtype=np.uint64)
    width = texts.dtype.itemsize
    padded = -(-width // 8) * 8
    step = max(1, _BLOCK_BYTES // padded)
    for start in range(0, len(texts), step):
        part = texts[start : start + step]
        words = np.zeros((len(part), padded), dtype=np.uint8)
        words[:, :width] = part.view(np.uint8).reshape(len(part), width)
        _hash_words(words.view("<u8"), out[:, start : start + len(part)])
    return out


def keys_of_first_cells(rows: bytes) -> Keys | None:
    """Hash what stands before the first comma of each line; None where some cell may be quoted.

    Parameters
    ----------
    rows : bytes
        Lines of a CSV file as a manifest's are written, each with its end.
    """
    letters = np.frombuffer(rows, dtype=np.uint8)
    starts = np.append(0, np.flatnonzero(letters == ord("\n"))[:-1] + 1)
    commas = np.flatnonzero(letters == ord(","))
    if any(letter in rows for letter in b'"\r\0') or rows[-1:] != b"\n" or len(commas) < len(starts):
        return None
    lengths = commas[np.searchsorted(commas, starts).clip(max=len(commas) - 1)] - starts
    if (lengths < 0).any() or (starts[1:] <= (starts + lengths)[:-1]).any():  # a line without a comma
        return None
    ends = np.cumsum(lengths)
    together = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)  # one behind the other
    return keys_of_utf8(letters[together], ends - lengths, ends)


def sums_to_text(ids: Sequence[str]) -> str:
    """What the hashes of ids add up to, modulo 2^64: of the first 0, `SUMMED`, 2 · `SUMMED` … and of all of them.

    Of m such places, the m sums of the first hash and then those of the second, 16 hex digits each.
    """
    keys = keys_of(ids)
    sums = np.zeros((2, -(-len(ids) // SUMMED) + 1), dtype=np.uint64)
    if len(ids):
        np.cumsum(np.add.reduceat(keys, np.arange(0, len(ids), SUMMED), axis=1), axis=1, out=sums[:, 1:])
    return sums.astype(">u8").tobytes().hex()


def sums_from_text(text: str, samples: int) -> Keys | None:
    """Undo `sums_to_text`, (2, m); None of what is not the sums of so many samples."""
    try:
        sums = np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)
    except ValueError:
        return None
    places = -(-samples // SUMMED) + 1
    return sums.reshape(2, places) if len(sums) == 2 * places else None


def _hash_words(words: npt.NDArray[np.uint64], out: Keys) -> None:
    """Add up a mix of each word and its place; a word of padding adds nothing, so that padding does not count.

    The mix is the finalizer of MurmurHash3 (A. Appleby), a bijection that maps 0 to 0.
    """
    for place in range(words.shape[1]):
        word = words[:, place]
        for keys, odd in zip(out, _odd_numbers(place), strict=True):
            mixed = word * odd
            mixed ^= mixed >> np.uint64(33)
            mixed *= np.uint64(0xFF51AFD7ED558CCD)
            mixed ^= mixed >> np.uint64(33)
            mixed *= np.uint64(0xC4CEB9FE1A85EC53)
            mixed ^= mixed >> np.uint64(33)
            keys += mixed


@functools.cache
def _odd_numbers(place: int) -> tuple[np.uint64, np.uint64]:
    """Two factors of a word at this place, from the sequence of SplitMix64 (Steele et al., 2014, fig. 17)."""
    found = []
    for step in (2 * place + 1, 2 * place + 2):
        z = step * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        found.append(np.uint64((z ^ z >> 31) | 1))
    return found[0], found[1]


class WantedKeys:
    """A set of keys that is asked about arrays: one look at a table of bits answers nearly all."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys[:, np.argsort(keys[0])]
        self._mask = np.uint64((1 << max(10, int(8 * keys.shape[1]).bit_length())) - 1)
        self._table = np.zeros(int(self._mask) + 1, dtype=bool)
        self._table[keys[0] & self._mask] = True

    def positions(self, keys: Keys) -> IntArray:
        """Positions in `keys` of those that are in the set."""
        maybe = np.flatnonzero(self._table[keys[0] & self._mask])
        return maybe[positions_in(self._keys, keys[:, maybe]) >= 0]


class WantedTexts:
    """A set of texts that is asked about arrays of them; a look at the first letters answers nearly all.

    Meant for digests, whose first eight letters differ where the texts do.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = frozenset(text.encode("utf-8", "surrogatepass") for text in texts if "\0" not in text)
        size = max(10, (8 * len(self._texts)).bit_length())
        self._shift = np.uint64(64 - size)
        self._table = np.zeros(1 << size, dtype=bool)
        self._table[self._places(np.array([*self._texts, b""]))[:-1]] = True

    def positions(self, texts: npt.NDArray[np.bytes_]) -> list[int]:
        """Positions in an array of fixed-length texts of those that are in the set."""
        maybe = np.flatnonzero(self._table[self._places(texts)])
        return [at for at, text in zip(maybe.tolist(), texts[maybe].tolist(), strict=True) if text in self._texts]

    def _places(self, texts: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
        width = min(8, texts.dtype.itemsize)
        letters = np.zeros((len(texts), 8), dtype=np.uint8)
        letters[:, :width] = texts.view(np.uint8).reshape(len(texts), texts.dtype.itemsize)[:, :width]
        places: npt.NDArray[np.uint64] = letters.view("<u8")[:, 0] * _odd_numbers(0)[0] >> self._shift
        return places


class KeyedNumbers:
    """A number for each of many keys, 24 bytes apiece, that more are added to while others are looked up.

    Safe to use from several threads. What is added stays in pieces, each in order, until they are a quarter of the
    whole, or many: so that neither adding nor looking up goes through all.
    """

    _MOST_PIECES = 32

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[tuple[Keys, IntArray]] = []

    def add(self, keys: Keys, numbers: IntArray) -> None:
        """Add keys (2, n) with their numbers (n,)."""
        with self._lock:
            self._pieces.append(_in_order(keys, numbers))
            sizes = [len(piece[1]) for piece in self._pieces]
            if 4 * sum(sizes[1:]) > sizes[0] or len(sizes) > self._MOST_PIECES:
                whole, numbers = (np.concatenate(parts, axis=-1) for parts in zip(*self._pieces, strict=True))
                self._pieces = [_in_order(whole, numbers)]

    def find(self, keys: Keys) -> IntArray:
        """A number of each key (2, m); -1 where there is none."""
        found = np.full(keys.shape[1], -1, dtype=np.int64)
        with self._lock:
            for ordered, numbers in self._pieces:
                at = positions_in(ordered, keys)
                there = (at >= 0) & (found < 0)
                found[there] = numbers[at[there]]
        return found


def _in_order(keys: Keys, numbers: IntArray) -> tuple[Keys, IntArray]:
    order = np.argsort(keys[0], kind="stable")
    return keys[:, order], numbers[order]


def positions_in(ordered: Keys, keys: Keys) -> IntArray:
    """Position of each key in `ordered`, whose first row ascends; -1 where it is not there."""
    if not ordered.shape[1]:
        return np.full(keys.shape[1], -1, dtype=np.int64)
    at_order = np.argsort(keys[0])  # in order, neighbours are found where the one before was
    at = np.empty(keys.shape[1], dtype=np.int64)
    at[at_order] = np.searchsorted(ordered[0], keys[0][at_order])
    last = ordered.shape[1] - 1
    while True:
        here = np.minimum(at, last)
        same = (at <= last) & (ordered[0][here] == keys[0])
        right = same & (ordered[1][here] == keys[1])
        if np.array_equal(right, same):
            return np.where(right, at, -1)
        at[same & ~right] += 1  # another id with the same first hash


def with_first_hash(hashes: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> IntArray:
    """Positions in `hashes` of those that are in `wanted`."""
    ordered = np.unique(wanted)
    mask = np.uint64((1 << max(10, (8 * len(ordered)).bit_length())) - 1)
    table = np.zeros(int(mask) + 1, dtype=bool)
    table[ordered & mask] = True
    maybe = np.flatnonzero(table[hashes & mask])
    at = np.minimum(np.searchsorted(ordered, hashes[maybe]), len(ordered) - 1)
    found: IntArray = maybe[ordered[at] == hashes[maybe]]
    return found


def same_pictures(first: Keys, second: Keys | None = None) -> tuple[list[tuple[int, Mark]], list[tuple[int, Mark]]]:
    """What may stand on both sides: of each side, positions and hashes of the pictures that the other has too.

    Parameters
    ----------
    first, second : uint64 arrays of shape (2, n) and (2, m)
        Hashes of digests, 0 where no picture is known. None for the second compares the first with itself: then those
        are found that stand there more than once.
    """
    if second is None:
        known, counts = np.unique(first[0], return_counts=True)
        shared, second = known[counts > 1], first
    else:
        shared = np.intersect1d(first[0], second[0])
    shared = shared[shared != 0]
    sides = []
    for pictures in (first, second):
        at = np.flatnonzero(np.isin(pictures[0], shared)) if len(shared) else np.empty(0, dtype=np.int64)
        sides.append([(i, (int(pictures[0, i]), int(pictures[1, i]))) for i in at.tolist()])
    return sides[0], sides[1]
