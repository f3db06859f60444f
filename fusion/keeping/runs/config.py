"""Everything that was chosen for a run, so that it can be read, compared and done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from cer_fusion.fusion.errors import ReportError
from cer_fusion.kit.documents import known_keys


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The choices behind a run, whether a user made them or the program did."""

    head: str
    """The name that `make_head` knows."""
    estimator: str
    """The head's class name."""
    params: Mapping[str, Any]
    """All its parameters as JSON values, defaults included."""
    preset: str | None
    """The preset that the parameters started from."""
    seed: int
    """Seed of the head and of the bootstrap."""
    blocks: tuple[tuple[str, int], ...]
    """Names and widths in column order."""
    features: tuple[str, ...]
    """The backbones that the blocks are from."""
    fingerprints: Mapping[str, str]
    """Feature -> fingerprint."""
    classes: tuple[str, ...]
    """Class names in their declared order."""
    class_set: str
    """The name of that order."""
    dataset: str
    """Name of the dataset in the store."""
    store: str
    """The store, as the user named it."""
    train_split: str
    """Split that was learned from."""
    train_supports: tuple[int, ...]
    """Its rows per class."""
    test_split: str
    """Split that was judged on."""
    missing: str
    """What was done about samples without a row: ``error`` or ``drop``."""
    in_memory: bool
    """Whether rows were loaded whole; else they were read from the store piece by piece."""

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if len(self.train_supports) != len(self.classes) or len(set(self.classes)) < len(self.classes):
            raise ReportError(
                f"a run needs different classes with their training rows, however: {len(self.classes)} classes, "
                f"{len(self.train_supports)} numbers of rows"
            )
        if not self.blocks or not self.features:
            raise ReportError("a run needs at least one block of at least one feature, however: there is none")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a configuration; unknown keys are refused."""
        known_keys(plain, {field.name for field in fields(cls)}, "the configuration of the run", error=ReportError)
        try:
            return cls(
                **plain
                | {
                    "blocks": tuple((str(name), int(width)) for name, width in plain["blocks"]),
                    "features": tuple(plain["features"]),
                    "fingerprints": dict(plain["fingerprints"]),
                    "params": dict(plain["params"]),
                    "classes": tuple(plain["classes"]),
                    "train_supports": tuple(int(count) for count in plain["train_supports"]),
                }
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, ReportError):
                raise
            raise ReportError(f"the configuration of the run holds a value of the wrong kind: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
