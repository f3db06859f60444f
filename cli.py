"""The front door: two Typer apps, `cer-feat` for features and `cer-fuse` for heads.

Parse, call, print. The command groups live in `commands/`; an `if` about data belongs in a package. Nothing heavy is
imported until a command runs, so that `--help` answers at once.
"""

from __future__ import annotations


def feat_main() -> None:
    """Run `cer-feat`."""
    from commands.feat import app

    app(prog_name="cer-feat")


def fuse_main() -> None:
    """Run `cer-fuse`."""
    from commands.fuse import app

    app(prog_name="cer-fuse")
