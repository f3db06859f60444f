"""One row of a challenge's files: ``01/00001.jpg``, and after a comma the class id."""

from __future__ import annotations

import re

from cer_fusion.challenge.timeline.frame import Frame

_LOCATION = re.compile(r"([0-9]{2})/([0-9]{5})\.jpg")


def location(text: str) -> Frame | str:
    """Return the frame that a row names, or what is wrong with its name: two-digit video, five-digit frame from 1."""
    found = _LOCATION.fullmatch(text)
    if found is None:
        return f"{text!r} is no frame: expected two digits, a slash, five digits and .jpg, as in 01/00001.jpg"
    if int(found[2]) == 0:
        return f"{text!r} is frame 0, but frames are counted from 1"
    return Frame(found[1], int(found[2]))
