"""The front door: two Typer apps, `cer-feat` for features and `cer-fuse` for heads.

Parse, call, print. The command groups live in `commands/`; an `if` about data belongs in a package. Nothing heavy is
imported until a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable


def feat_main() -> None:
    """Run `cer-feat`."""
    _choose_threads()
    from .commands.feat import app

    _run(app, "cer-feat")


def fuse_main() -> None:
    """Run `cer-fuse`."""
    _choose_threads()
    from .commands.fuse import app

    _run(app, "cer-fuse")


def _choose_threads() -> None:
    """Say how threads wait for each other, before any library that starts some is loaded: each looks once."""
    from .kit import machine

    machine.choose()
    if machine.came_late:
        from .commands.console import say

        say(f"[dim]{machine.late_text()}[/]")


def _run(app: Callable[..., object], name: str) -> None:
    """Run an app; one that was interrupted ends at once, since taking PyTorch down in good order can take seconds."""
    from .commands.console import INTERRUPTED, PROCESS, end_now

    try:
        app(prog_name=name, obj=PROCESS)
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        end_now(INTERRUPTED)
