"""`cer-fuse --help` against `python -c "import typer"`. Limit: 3 times as long."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import interleaved, report

HELP = "import sys; sys.argv = ['cer-fuse', '--help']; from cer_fusion.cli import fuse_main; fuse_main()"


def main() -> None:
    """Measure and print a JSON line."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    taken = interleaved({"typer": lambda: run("import typer"), "help": lambda: run(HELP)}, repeats=15)
    report(
        "startup",
        import_typer_s=round(taken["typer"], 3),
        help_s=round(taken["help"], 3),
        ratio=round(taken["help"] / taken["typer"], 2),
        limit=3.0,
    )


if __name__ == "__main__":
    main()
