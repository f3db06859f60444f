"""Compound expressions from heads that know basic ones only."""

from __future__ import annotations

from cer_fusion.fusion.judging.zero_shot.columns import ZeroShotColumns
from cer_fusion.fusion.judging.zero_shot.scoring import ZeroShot, compound_proba

__all__ = ["ZeroShot", "ZeroShotColumns", "compound_proba"]
