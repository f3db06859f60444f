"""One row of a manifest, as a tuple of its texts; what else is known of it goes along wherever it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, cast

Known: TypeAlias = tuple[tuple[str, float], ...]
"""Title of a column of numbers, and the number."""


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

    @property
    def further(self) -> Known:
        """What else is known of it, `(("au.12", 1.0), ("time_s", 0.04))`: columns of `manifests.targets`."""
        return ()

    def knowing(self, further: Mapping[str, float]) -> Sample:
        """The same sample of which this, and no more, is known besides."""
        if not further:
            return Sample(*self)
        sample = Knowing(*self)
        sample.__dict__["known"] = tuple((title, float(number)) for title, number in further.items())
        return sample


class Knowing(Sample):
    """A sample of which something further is known, which is no item of the tuple."""

    @property
    def further(self) -> Known:
        return cast(Known, self.__dict__.get("known", ()))

    def _replace(self, **columns: Any) -> Sample:  # type: ignore[override]
        return super()._replace(**columns).knowing(dict(self.further))

    __replace__ = _replace

    def __repr__(self) -> str:
        return f"{Sample(*self)!r}.knowing({dict(self.further)!r})"

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) is True and self.further == getattr(other, "further", ())

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Sample.__hash__
