"""A challenge's side of things: predictions of videos smoothed over time, corrected for other priors, and handed in.

`Timeline.of(ids)` finds videos, frames and gaps in sample ids; `smoothed(predictions, Smoothing.parse("box:51"))`
answers with predictions of the same frames, `sweep_smoothing` chooses a setting by leaving videos out. `correct`
re-weighs probabilities for another class prior. `read_template` and `answer` make a `Submission` in which every row is
answered once; `check` finds every fault of any file. `read_table` and `check_table` turn published tables into whole
numbers.
"""

from __future__ import annotations

from .answering import Answers, Candidate, Coverage, answer, choose_by_prior
from .checking import Difference, Fault, check, difference, read_submission
from .prior_shift import CORRECTIONS, PriorCorrection, Validation, bbse_prior, calibrate, correct, em_prior
from .published_check import check_report, check_table, find_supports
from .published_table import PublishedTable, read_table
from .smoothing import (
    METHODS,
    STICKINESS,
    Smoothing,
    learned_transitions,
    over_time,
    parse_windows,
    settings_of,
    smoothed,
)
from .smoothing_sweep import SmoothingSweep, sweep_smoothing
from .task import Challenge, Submission, Template, abaw_ce, read_template
from .timeline import Frame, Timeline, Track, counted_from_zero, frame_name, parse_frame

__all__ = [
    "CORRECTIONS",
    "METHODS",
    "STICKINESS",
    "Answers",
    "Candidate",
    "Challenge",
    "Coverage",
    "Difference",
    "Fault",
    "Frame",
    "PriorCorrection",
    "PublishedTable",
    "Smoothing",
    "SmoothingSweep",
    "Submission",
    "Template",
    "Timeline",
    "Track",
    "Validation",
    "abaw_ce",
    "answer",
    "bbse_prior",
    "calibrate",
    "check",
    "check_report",
    "check_table",
    "choose_by_prior",
    "correct",
    "counted_from_zero",
    "difference",
    "em_prior",
    "find_supports",
    "frame_name",
    "learned_transitions",
    "over_time",
    "parse_frame",
    "parse_windows",
    "read_submission",
    "read_table",
    "read_template",
    "settings_of",
    "smoothed",
    "sweep_smoothing",
]
