"""How to smooth: the method, its window, and their notation on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from cer_fusion.fusion.errors import TimelineError, nearest

Method: TypeAlias = Literal["none", "box", "gaussian", "median", "exponential", "hmm", "viterbi"]
Stickiness: TypeAlias = Literal["window", "labels", "em"]

METHODS: tuple[str, ...] = get_args(Method)
"""Every method, plainest first."""
CHAINS = ("hmm", "viterbi")
"""Methods whose window is how long a class stays on average."""
STICKINESS: tuple[str, ...] = get_args(Stickiness)
MOST_WINDOW, MOST_SETTINGS = 1_000_001, 1_000

_CENTRED = ("box", "gaussian", "median")


@dataclass(frozen=True)
class Smoothing:
    """One way to smooth; checked once when made."""

    method: Method = "none"
    """Mean (box, gaussian, exponential) or median over a window; a hidden Markov model's posterior (hmm) or its single
    most likely path (viterbi)."""
    window: int | None = None
    """Frames: the whole width (box, gaussian, median; odd), the span (exponential), or how long a class stays on
    average (hmm, viterbi). None where there is nothing to give."""
    stickiness: Stickiness = "window"
    """Where a hidden Markov model has its transitions from: the window, labelled videos, or EM without labels."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.method not in METHODS:
            raise TimelineError(f"there is no smoothing method {self.method!r}; {nearest(self.method, METHODS)}")
        if self.stickiness not in STICKINESS:
            raise TimelineError(f"there is no stickiness {self.stickiness!r}; {nearest(self.stickiness, STICKINESS)}")
        if self.stickiness != "window" and self.method not in CHAINS:
            raise TimelineError(f"method {self.method!r} learns no stickiness: only {' and '.join(CHAINS)} do")
        if (self.method == "none" or self.stickiness != "window") != (self.window is None):
            given = "no window" if self.window is None else f"window {self.window}"
            raise TimelineError(f"{self.text} needs {'a' if self.window is None else 'no'} window, however: {given}")
        if self.window is not None:
            _check_window(self.method, self.window)

    @property
    def text(self) -> str:
        """The setting in its notation: ``box:51``, ``hmm:em``, ``none``."""
        detail = self.window if self.stickiness == "window" else self.stickiness
        return self.method if detail is None else f"{self.method}:{detail}"

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """Read ``METHOD:FRAMES``, ``hmm:labels``, ``hmm:em`` (viterbi likewise) or ``none``."""
        method, _, detail = text.strip().partition(":")
        if detail in STICKINESS[1:]:
            return cls(method=method, stickiness=detail)  # type: ignore[arg-type]
        if method in METHODS[1:] and not re.fullmatch("[0-9]{1,8}", detail):
            raise TimelineError(
                f"cannot read the smoothing {text!r}\n  write METHOD:FRAMES, for example box:51, or hmm:em"
            )
        return cls(method=method, window=int(detail) if detail else None)  # type: ignore[arg-type]


def parse_windows(text: str) -> tuple[int, ...]:
    """Read ``51``, ``5,25,51`` or ``5:101:8`` (both ends and the step, in frames); rising, each once.

    Raises
    ------
    TimelineError
        Quoting the part that cannot be read.
    """
    found: set[int] = set()
    for part in text.split(","):
        numbers = part.strip().split(":")
        if len(numbers) not in (1, 3) or not all(re.fullmatch("[0-9]{1,8}", number) for number in numbers):
            raise TimelineError(
                f"cannot read the window {part.strip()!r}\n  write frames (51), several (5,25,51), or start:stop:step"
            )
        start, stop, step = map(int, numbers if len(numbers) == 3 else (*numbers, *numbers, "1"))
        if step < 1 or stop < start:
            raise TimelineError(f"a range of windows needs start <= stop and a step of 1 or more, however: {part!r}")
        if (stop - start) // step + 1 + len(found) > MOST_SETTINGS:
            raise TimelineError(f"more than {MOST_SETTINGS:,} windows in {text!r}\n  take a larger step")
        found.update(range(start, stop + 1, step))
    return tuple(sorted(found))


def settings_of(
    methods: Sequence[str], windows: Sequence[int] = (), stickiness: Sequence[str] = ("window",)
) -> tuple[Smoothing, ...]:
    """Every method with every window it takes; hidden Markov models with every source of stickiness as well.

    Raises
    ------
    TimelineError
        If there is no method, or a method needs a window and none is given.
    """
    found: list[Smoothing] = []
    for method in methods:
        learned = [source for source in stickiness if source != "window"] if method in CHAINS else []
        found += [Smoothing(method=method, stickiness=source) for source in learned]  # type: ignore[arg-type]
        if method == "none":
            found.append(Smoothing())
        elif method not in CHAINS or "window" in stickiness:
            found += [Smoothing(method=method, window=window) for window in windows or (None,)]  # type: ignore[arg-type]
    if not found:
        raise TimelineError(f"no smoothing method is given; known: {', '.join(METHODS)}")
    return tuple(dict.fromkeys(found))


def _check_window(method: str, window: int) -> None:
    least = 2 if method in CHAINS else 1
    if not least <= window <= MOST_WINDOW:
        raise TimelineError(f"a window of {method} lies between {least} and {MOST_WINDOW:,} frames, however: {window}")
    if method in _CENTRED and window % 2 == 0:
        raise TimelineError(
            f"a window of {method} is centred on its frame and so an odd number of frames, however: {window}\n"
            f"  take {window - 1} or {window + 1}; in a range start with an odd number and step by an even one"
        )
