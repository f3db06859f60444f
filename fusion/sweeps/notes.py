"""What a reader of a sweep must know, in sentences."""

from __future__ import annotations

from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.keeping.answers import Classifier
from cer_fusion.fusion.sweeps.deciders import Decider
from cer_fusion.fusion.sweeps.identifiability import caveat
from cer_fusion.fusion.sweeps.result import Curve


def notes_of(
    head: Classifier, decider: Decider, on_test: bool, deciding: Curve, folds: int, train: Rows, test: Rows
) -> tuple[str, ...]:
    """Say where the choice was made, what it could not see, how sharp it is, and how the heads were trained."""
    warning = caveat(head)
    notes = [] if warning is None else [warning]
    if on_test:
        notes.append("Chosen on the test rows themselves: the chosen vector's scores are biased upward.")
    else:
        short = [name for name, n in zip(train.classes, train.supports.tolist(), strict=True) if 0 < n < folds]
        if short:
            notes.append(f"Fewer training rows than inner folds in {', '.join(short)}: the choice hardly sees them.")
    for rows, what in ((train, "training"), (test, "test")):
        lacking = [name for name, n in zip(rows.classes, rows.supports.tolist(), strict=True) if not n]
        if lacking:
            notes.append(f"No {what} row of {', '.join(lacking)}: F1 counted as 0 in macro F1.")
    if deciding.alike.size > 1:
        count = int(deciding.alike.sum())
        notes.append(
            f"{count} of {deciding.alike.size} weight vectors cannot be told from the best by a paired bootstrap."
        )
    return (*notes, *decider.notes)
