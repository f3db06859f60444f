"""From predictions to the file that a challenge wants: every row of its template answered, in order, once.

`read_template` and `answer` make a `Submission`; `check` finds every fault of any file; `difference` sets two side by
side; `choose_by_prior` ranks candidates without labels. What the challenge fixes (classes and their ids, header, known
class prior) is data: `abaw_ce()`.
"""

from __future__ import annotations

from cer_fusion.challenge.submission.answering import Answers, Coverage, answer
from cer_fusion.challenge.submission.challenge import Challenge, abaw_ce
from cer_fusion.challenge.submission.checking import Fault, check
from cer_fusion.challenge.submission.choosing import Candidate, choose_by_prior
from cer_fusion.challenge.submission.difference import Difference, difference
from cer_fusion.challenge.submission.submitted import Submission, read_submission
from cer_fusion.challenge.submission.template import Template, read_template

__all__ = [
    "Answers",
    "Candidate",
    "Challenge",
    "Coverage",
    "Difference",
    "Fault",
    "Submission",
    "Template",
    "abaw_ce",
    "answer",
    "check",
    "choose_by_prior",
    "difference",
    "read_submission",
    "read_template",
]
