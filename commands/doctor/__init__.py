"""`cer-feat doctor`: does everything here fit and work?

What it looks at is one concern a module; each check ends in words, and can neither raise nor hang.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import typer

from .. import options as opt
from ..console import FAILED, out_json, say
from ..tables import out_table

Status = Literal["ok", "warn", "fail"]


def doctor(store: opt.StorePath = opt.DEFAULT_STORE, as_json: opt.Json = False) -> None:
    """Check libraries, device, the store's file system, the hub, plugins; exit status 1 if something needed fails.

    Example: cer-feat doctor --store features
    """
    from . import device, libraries, place

    checks = [
        *libraries.checks(),
        *device.checks(),
        *place.checks(store),
        *libraries.hub_checks(),
        *libraries.plugin_checks(),
    ]
    counts = Counter(check.status for check in checks)
    if as_json:
        out_json({"checks": [vars(check) for check in checks], "counts": dict(counts)})
    else:
        rows = [[check.name, check.status, check.found, check.advice] for check in checks]
        out_table(["check", "status", "found", "what to do"], rows, labels=2, words={2, 3})
    say(f"{len(checks)} checks: {counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail")
    if counts["fail"]:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check."""

    name: str
    """What was looked at."""
    status: Status
    """`fail` only where something that is needed does not work."""
    found: str
    """One line."""
    advice: str = ""
    """What to do, where there is something to do."""


def ok(name: str, found: str, advice: str = "") -> Check:
    """All is well."""
    return Check(name=name, status="ok", found=found, advice=advice)


def warn(name: str, found: str, advice: str) -> Check:
    """It works, but less well, or not everything does."""
    return Check(name=name, status="warn", found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Something that is needed does not work."""
    return Check(name=name, status="fail", found=found, advice=advice)


def guarded(name: str, run: Callable[[], Check | list[Check]], *, limit_s: float = 60.0) -> list[Check]:
    """Run a check in a thread of its own: what it raises is reported as a failure, and so is no answer in time.

    A thread that hangs (in a dead network mount, say) is left behind; it does not keep the process alive.
    """
    done: list[Check] = []

    def work() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old libraries warn when they are imported; that is not what is asked
                found = run()
            done.extend(found if isinstance(found, list) else [found])
        except (Exception, SystemExit) as error:  # the boundary: a check reports whatever happens in it
            done.append(fail(name, f"{type(error).__name__}: {one_line(error)}", "see the message; this should work"))

    thread = threading.Thread(target=work, name=f"doctor: {name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        return [fail(name, f"no answer within {limit_s:g} s", "something hangs: a network mount, a driver, a proxy")]
    return done


def one_line(error: object, limit: int = 160) -> str:
    """A message as one short line."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else f"{text[:limit]}…"
