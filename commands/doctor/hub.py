"""Where pretrained weights come from: caches on this machine, and the hub."""

from __future__ import annotations

import importlib
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from cer_fusion.commands.console import size_text
from cer_fusion.commands.doctor.check import Check, guarded, ok, one_line, warn

_ANSWER_S = 3.0
_WALK_S = 1.0
_WITHOUT = "without it: weights in the cache, files (--weights FILE) and --weights random work"


def checks() -> list[Check]:
    """Caches, and whether the hub answers."""
    return [
        *guarded("hub cache", _hub_cache, limit_s=10),
        *guarded("torch cache", _torch_cache, limit_s=10),
        *_answer(),
    ]


def _hub_cache() -> Check:
    constants = importlib.import_module("huggingface_hub.constants")
    return _folder("hub cache", Path(constants.HF_HUB_CACHE), "HF_HOME moves it")


def _torch_cache() -> Check:
    torch = importlib.import_module("torch")
    return _folder("torch cache", Path(torch.hub.get_dir()), "TORCH_HOME moves it")


def _folder(name: str, folder: Path, how: str) -> Check:
    if not folder.is_dir():
        return ok(name, f"{folder}, empty so far; {how}")
    nbytes, whole = _size(folder)
    return ok(name, f"{folder}, {'' if whole else 'more than '}{size_text(nbytes)}; {how}")


def _size(folder: Path) -> tuple[int, bool]:
    """Bytes in a folder, links not followed, and False where counting took too long."""
    started, nbytes = time.monotonic(), 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                nbytes += (Path(parent) / name).lstat().st_size
            except OSError:  # removed meanwhile
                continue
        if time.monotonic() - started > _WALK_S:
            return nbytes, False
    return nbytes, True


def _answer() -> list[Check]:
    found = guarded("hub", _hub, limit_s=2 * _ANSWER_S)
    # a lookup of names has no time limit of its own; no answer is a warning here, since much works without the hub
    return [c if c.status != "fail" else warn("hub", c.found, _WITHOUT) for c in found]


def _hub() -> Check:
    constants = importlib.import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        return warn("hub", "HF_HUB_OFFLINE is set: nothing is downloaded", f"unset it to download; {_WITHOUT}")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            return warn("hub", f"{constants.ENDPOINT} answers with status {error.code}", f"try later; {_WITHOUT}")
    except (OSError, ValueError) as error:  # no network, no name, no route, a proxy that refuses, a malformed endpoint
        return warn("hub", f"{constants.ENDPOINT} does not answer: {one_line(error)}", _WITHOUT)
    return ok("hub", f"{constants.ENDPOINT} answers ({time.monotonic() - started:.1f} s)")
