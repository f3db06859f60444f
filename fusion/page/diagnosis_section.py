"""A section of why a comparison came out as it did."""

from __future__ import annotations

from cer_fusion.fusion.judging.diagnosis.figure import draw_diagnosis
from cer_fusion.fusion.judging.diagnosis.result import Diagnosis
from cer_fusion.fusion.judging.diagnosis.tables import diagnosis_tables
from cer_fusion.fusion.page.picture import Picture
from cer_fusion.fusion.page.section import Section


def diagnosis_section(found: Diagnosis) -> Section:
    """Return what a diagnosis found: its picture and all its tables."""
    caption = (
        "What each block brings (Shapley values of macro F1), how alike the blocks are (CKA), and how far the head's "
        "probabilities can be believed (reliability)."
    )
    return Section(
        title="Why",
        prose=(f"{found.head} fitted on every subset of {', '.join(found.players)}.",),
        pictures=(Picture.of(draw_diagnosis(found), caption),),
        tables=diagnosis_tables(found),
    )
