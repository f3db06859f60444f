"""Other class frequencies than the head learned from: estimated without labels or known, and corrected for.

`correct` re-weighs probabilities by the ratio of the new class prior to the old one. All of it rests on label shift:
the pictures of a class look the same in both places, only how many there are of each has changed. Every `Correction`
says what else it assumes.
"""

from __future__ import annotations

from cer_fusion.challenge.prior_shift.bbse import bbse_prior
from cer_fusion.challenge.prior_shift.correction import CORRECTIONS, Correction, correct
from cer_fusion.challenge.prior_shift.em import em_prior
from cer_fusion.challenge.prior_shift.validation import Validation

__all__ = ["CORRECTIONS", "Correction", "Validation", "bbse_prior", "correct", "em_prior"]
