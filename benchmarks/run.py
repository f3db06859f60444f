"""All benchmarks, one after the other: `make bench`. Each prints a JSON line; a ratio stands beside its limit."""

from __future__ import annotations

import subprocess
import sys

RUNS = (
    ("startup",),
    ("view_loading",),
    ("decision_sweep",),
    ("mlp_head", "--runs", "5"),
    ("mlp_head", "--runs", "3", "--precision", "float32"),
    ("extraction", "--backbone", "resnet50", "--batch-sizes", "4", "8", "16", "32"),
    ("extraction", "--backbone", "manet", "--batch-sizes", "8", "16", "32"),
)


def main() -> None:
    """Run them in processes of their own, so that none inherits another's threads or memory."""
    for name, *options in RUNS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
