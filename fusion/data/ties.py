"""Ties: samples that must stay on one side of every split, beside those of a video or subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError


def tied(rows: Rows, pairs: Iterable[tuple[str, str]]) -> Rows:
    """Return the rows with groups in which both samples of every pair stand together.

    Ties are transitive, through groups too: when a picture of video A stands in video B as well, A and B become one
    group. Rows without a tie keep their group.

    Parameters
    ----------
    rows : Rows
        Rows with sample ids.
    pairs : iterable of (id, id)
        Samples that are not independent: the same picture twice, two crops of one face.

    Raises
    ------
    ReportError
        If a pair names a sample that is not among the rows.
    """
    place = {name: i for i, name in enumerate(rows.names)}
    known = rows.groups or ("",) * rows.n
    leader = list(range(rows.n))

    def lead(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[str, int] = {}
    for i, group in enumerate(known):
        leader[i] = lead(first.setdefault(group, i)) if group else i
    for one, other in pairs:
        unknown = [name for name in (one, other) if name not in place]
        if unknown:
            raise ReportError(f"{one!r} and {other!r} cannot be tied: there is no row {unknown[0]!r}")
        low, high = sorted((lead(place[one]), lead(place[other])))
        leader[high] = low
    sizes = [0] * rows.n
    for i in range(rows.n):
        sizes[lead(i)] += 1
    groups = tuple(
        (known[lead(i)] or f"as {rows.names[lead(i)]}") if sizes[lead(i)] > 1 else known[i] for i in range(rows.n)
    )
    return replace(rows, groups=groups)
