"""Heads on videos: choices made on rows kept aside against choices made on whole videos kept aside.

Sixty made-up videos of eight faces, four classes; one block tells the class a little (`sound`), one tells which video a
face is of, and nothing about new ones (`identity`). Judged on 80 new videos, over several worlds. Prints markdown.

    python -m benchmarks.groups_in_heads [--worlds 8]
"""

from __future__ import annotations

import argparse
import os

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from cer_fusion.fusion import installed_heads, make_head

WIDTHS = {"sound": 8, "identity": 24}
CLASSES, ROWS = 4, 8
SETTINGS = {"weighted": {"weights": "learned"}, "late": {"calibrate": True}}


def videos(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return rows (n, 32), classes and videos (n,)."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), ROWS)
    y = (np.arange(count) % CLASSES)[groups]
    centres = np.random.default_rng(99).normal(size=(CLASSES, WIDTHS["sound"]))
    sound = centres[y] * 0.9 + random.normal(size=(len(y), WIDTHS["sound"]))
    identity = 3 * random.normal(size=(count, WIDTHS["identity"]))[groups]
    identity = identity + 0.3 * random.normal(size=identity.shape)
    return np.hstack([sound, identity]).astype(np.float32), y, groups


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=8)
    options = parser.parse_args()
    print("| head | sound alone | told nothing | told the groups | log loss, told nothing | told the groups |")
    print("|---|---|---|---|---|---|")
    for name in installed_heads():
        found = np.array([judged(name, world) for world in range(options.worlds)]).mean(axis=0)
        print(f"| `{name}` | " + " | ".join(f"{value:.3f}" for value in found) + " |", flush=True)
    print(f"\n{options.worlds} worlds; load of the machine at the end {os.getloadavg()[0]:.1f}")


def judged(name: str, world: int) -> tuple[float, float, float, float, float]:
    """Return three accuracies and two log losses on new videos."""
    X, y, groups = videos(60, world)
    new_X, new_y, _ = videos(80, 1000 + world)
    settings = SETTINGS.get(name, {})
    sound = slice(0, WIDTHS["sound"])
    alone = make_head(name, **{key: value for key, value in settings.items() if key != "weights"})
    alone_found = alone.fit(X[:, sound], y, groups=groups).score(new_X[:, sound], new_y)
    blind = make_head(name, blocks=WIDTHS, **settings).fit(X, y)
    told = make_head(name, blocks=WIDTHS, **settings).fit(X, y, groups=groups)
    losses = [float(log_loss(new_y, head.predict_proba(new_X))) for head in (blind, told)]
    return alone_found, blind.score(new_X, new_y), told.score(new_X, new_y), losses[0], losses[1]


if __name__ == "__main__":
    main()
