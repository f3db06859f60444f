"""All benchmarks, one after the other: `make bench`. Each prints a JSON line; a ratio stands beside its limit.

`--long` adds those that take many minutes and many gigabytes of disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

RUNS = (
    ("startup",),
    ("view_loading",),
    ("store_access",),
    ("store_peers",),
    ("decision_sweep",),
    ("bootstrap",),
    ("simplex_sweep",),
    ("mlp_head", "--runs", "5"),
    ("mlp_head", "--runs", "3", "--precision", "float32"),
    ("fitting",),
    ("extraction", "--backbone", "resnet50", "--batch-sizes", "4", "8", "16", "32"),
    ("extraction", "--backbone", "manet", "--batch-sizes", "8", "16", "32", "--pictures", "128"),
    ("one_pass",),
    ("contention",),
)
LONG_RUNS = (("bounded_memory",), ("face_detectors",), ("video_line",))


def main() -> None:
    """Run them in processes of their own, so that none inherits another's threads or memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="the long ones too")
    for name, *options in RUNS + (LONG_RUNS if parser.parse_args().long else ()):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
