"""Facial action units and what each compound expression does with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from ..kit.errors import nearest
from .errors import UnitError, UnknownCompoundError


@dataclass(frozen=True, kw_only=True)
class ActionUnits:
    """How strongly each drawn action unit of the Facial Action Coding System (FACS) is active, 0 (rest) to 1."""

    inner_brow_raise: float = 0.0
    """AU1: the inner ends of the brows go up."""
    outer_brow_raise: float = 0.0
    """AU2: the outer halves of the brows go up."""
    brow_lower: float = 0.0
    """AU4: the brows go down and towards each other."""
    upper_lid_raise: float = 0.0
    """AU5: the upper lids open, white shows above the iris."""
    cheek_raise: float = 0.0
    """AU6: the cheeks push the lower lids up."""
    lid_tighten: float = 0.0
    """AU7: both lids close to a narrower, straighter slit."""
    nose_wrinkle: float = 0.0
    """AU9: wrinkles beside the bridge of the nose, nostrils up."""
    upper_lip_raise: float = 0.0
    """AU10: the middle of the upper lip goes up, the nasolabial fold deepens."""
    lip_corner_pull: float = 0.0
    """AU12: the lip corners go up and out (a smile)."""
    lip_corner_depress: float = 0.0
    """AU15: the lip corners go down."""
    chin_raise: float = 0.0
    """AU17: the chin pushes the lower lip up."""
    lip_stretch: float = 0.0
    """AU20: the lip corners go straight out."""
    lips_part: float = 0.0
    """AU25: the lips come apart."""
    jaw_drop: float = 0.0
    """AU26: the jaw falls."""

    def __post_init__(self) -> None:
        """Refuse an intensity outside 0..1.

        Raises
        ------
        UnitError
            If any intensity is not a number from 0 to 1.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value <= 1.0:
                raise UnitError(f"an action unit's intensity must lie in 0..1, however: {field.name}={value!r}")

    @classmethod
    def from_numbers(cls, intensities: Mapping[int, float]) -> ActionUnits:
        """Build from FACS numbers, e.g. ``{1: 1.0, 26: 0.5}``.

        Raises
        ------
        UnitError
            If a number is not one of `FACS_NUMBERS`, or an intensity is not in 0..1.
        """
        strangers = sorted(set(intensities) - set(FACS_NUMBERS))
        if strangers:
            raise UnitError(f"action units {strangers} are not drawn; drawn are {sorted(FACS_NUMBERS)}")
        return cls(**{FACS_NUMBERS[number]: float(value) for number, value in intensities.items()})

    def by_number(self) -> dict[int, float]:
        """Intensities keyed by FACS number, in numerical order."""
        return {number: getattr(self, name) for number, name in FACS_NUMBERS.items()}


FACS_NUMBERS: dict[int, str] = dict(
    zip((1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 25, 26), (f.name for f in fields(ActionUnits)), strict=True)
)
"""FACS number -> field of `ActionUnits`."""


@dataclass(frozen=True, kw_only=True)
class Compound:
    """One compound expression: its RAF-DB id and its prototype in action units."""

    name: str
    """RAF-DB's name for it, e.g. ``Happily Surprised``."""
    rafdb_id: int
    """RAF-DB's 1-based id of the compound set."""
    always: tuple[int, ...]
    """FACS numbers that more than 70 % of the paper's subjects used."""
    sometimes: Mapping[int, float]
    """FACS number -> share of subjects who used it, for the less regular units."""

    @property
    def often(self) -> tuple[int, ...]:
        """Those of the less regular units that at least 35 % of the subjects used."""
        return tuple(number for number, share in self.sometimes.items() if share >= 0.35)


# Du, Tao & Martinez, "Compound facial expressions of emotion", PNAS 111(15), E1454-E1462 (2014),
# doi:10.1073/pnas.1322355111, Table 1, as secondary listings give it: check the shares against the paper before quoting
# them. AU11 and AU24 are not drawn.
COMPOUNDS: tuple[Compound, ...] = (
    Compound(name="Happily Surprised", rafdb_id=1, always=(1, 2, 12, 25), sometimes={5: 0.64, 26: 0.67}),
    Compound(name="Sadly Fearful", rafdb_id=3, always=(1, 4, 20, 25), sometimes={2: 0.46, 5: 0.24, 6: 0.34, 15: 0.30}),
    Compound(name="Sadly Angry", rafdb_id=4, always=(4, 15), sometimes={6: 0.26, 7: 0.48, 17: 0.50}),
    Compound(name="Sadly Surprised", rafdb_id=5, always=(1, 4, 25, 26), sometimes={2: 0.27, 6: 0.31}),
    Compound(name="Fearfully Surprised", rafdb_id=8, always=(1, 2, 5, 20, 25), sometimes={4: 0.47, 10: 0.35, 26: 0.51}),
    Compound(name="Angrily Surprised", rafdb_id=9, always=(4, 25, 26), sometimes={5: 0.35, 7: 0.50, 10: 0.34}),
    Compound(name="Disgustedly Surprised", rafdb_id=11, always=(1, 2, 5, 10), sometimes={4: 0.45, 9: 0.37, 17: 0.66}),
)
"""The seven compounds of the ABAW challenge, by RAF-DB id."""


def compound(name: str) -> Compound:
    """Look a compound up by its RAF-DB name.

    Raises
    ------
    UnknownCompoundError
        If there is none of that name; the message lists the nearest.
    """
    for candidate in COMPOUNDS:
        if candidate.name == name:
            return candidate
    raise UnknownCompoundError(f"no compound is called {name!r}; {nearest(name, [c.name for c in COMPOUNDS])}")


def prototype(expression: Compound) -> ActionUnits:
    """Draw the textbook face: the regular units in full, the frequent ones (`Compound.often`) at 0.7."""
    intensities = dict.fromkeys(expression.always, 1.0)
    intensities.update(dict.fromkeys(expression.often, 0.7))
    return ActionUnits.from_numbers(intensities)


def sample_units(expression: Compound, rng: np.random.Generator) -> ActionUnits:
    """Draw one person's version of a compound.

    The regular units are active at 0.6..1.0 of full strength. Each other unit of the prototype appears in the share of
    people the paper reports. Every drawn unit then gets a little activity of its own, so that classes overlap.
    """
    strength = rng.uniform(0.6, 1.0)
    values = {number: abs(rng.normal(0.0, 0.05)) for number in FACS_NUMBERS}
    for number in expression.always:
        values[number] += strength * rng.uniform(0.8, 1.0)
    for number, share in expression.sometimes.items():
        present = rng.random() < share
        values[number] += present * strength * rng.uniform(0.5, 0.9)
    return ActionUnits.from_numbers({number: min(float(value), 1.0) for number, value in values.items()})
