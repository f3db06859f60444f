"""`cer-feat doctor`: does everything here fit and work?"""

from __future__ import annotations

from collections import Counter

import typer
from cer_fusion.commands import options as opt
from cer_fusion.commands.console import FAILED, out_json, out_table, say


def doctor(store: opt.StorePath = opt.DEFAULT_STORE, as_json: opt.Json = False) -> None:
    """Check libraries, device, the store's file system and the hub; exit status 1 if something needed fails.

    Example: cer-feat doctor --store features
    """
    from cer_fusion.commands.doctor import device, libraries, place

    checks = [*libraries.checks(), *device.checks(), *place.checks(store), *libraries.hub_checks()]
    counts = Counter(check.status for check in checks)
    if as_json:
        out_json({"checks": [vars(check) for check in checks], "counts": dict(counts)})
    else:
        rows = [[check.name, check.status, check.found, check.advice] for check in checks]
        out_table(["check", "", "found", "what to do"], rows, left=4)
    say(f"{len(checks)} checks: {counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail")
    if counts["fail"]:
        raise typer.Exit(FAILED)
