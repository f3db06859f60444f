"""Why a comparison came out as it did: which blocks carry it, how alike they are, and where it fails.

`diagnose` fits a head on every subset of the blocks and returns a `Diagnosis`: Shapley values, agreement of single
backbones, similarity of blocks (CKA), calibration, confused pairs, hardest samples, near-duplicates across splits.
"""

from __future__ import annotations

from cer_fusion.fusion.judging.diagnosis.diagnosing import diagnose
from cer_fusion.fusion.judging.diagnosis.result import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
