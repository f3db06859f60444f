"""Do intervals, tests and confidence sets hold what they say? Simulated answers of heads to videos of mostly one class.

Prints a JSON line a row of the tables in RESULTS.md: how often the 95 % intervals of macro F1 and accuracy hold the
truth, before (percentiles of resampled groups) and now; how often two heads that are equally good are told apart at
5 %; how often one of many equal ones is; and the optimism of the best of them over what it really was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from benchmarks.timing import report
from cer_fusion.fusion.judging.resampling import Interval, bootstrap, jackknife, percentile, signs, wilson
from cer_fusion.fusion.judging.significance import bootstrap_p, exchange, not_worse, optimism

EVEN = (1 / 7,) * 7
UNEVEN = (0.30, 0.22, 0.16, 0.12, 0.09, 0.07, 0.04)
"""Shares of seven classes, as unbalanced as those of compound expressions in videos."""
GOOD, POOR = (0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5), (0.45, 0.4, 0.35, 0.3, 0.3, 0.25, 0.2)


@dataclass(frozen=True, kw_only=True)
class World:
    """How rows and answers come about; a group has a class of its own, and heads err in it together."""

    groups: int | None = 30
    """Groups drawn; None draws ``rows`` independent rows."""
    rows: int = 400
    """Independent rows."""
    size: float = 20.0
    """Rows a group on average; sizes are log-normal, at least 2."""
    spread: float = 0.8
    """Standard deviation of the logarithm of the sizes."""
    shares: tuple[float, ...] = UNEVEN
    """Shares of the classes."""
    recall: tuple[float, ...] = GOOD
    """Per-class accuracy in a group of middling difficulty."""
    own: float = 0.9
    """Share of a group's rows that are sure to be of its own class."""
    difficulty: float = 1.2
    """Standard deviation of a group's difficulty, in logits."""
    fixed: bool = False
    """Whether the classes' numbers of independent rows are always the same."""
    smooth: bool = False
    """Whether neighbouring heads err nearly alike, in a circle, as weight vectors of a sweep do; else all alike."""

    def draw(self, rng: np.random.Generator, heads: int = 1, groups: int | None = None) -> Drawn:
        """Draw rows and the answers of equally good heads."""
        g, k = groups or self.groups, len(self.shares)
        if g is None:
            counts = np.round(self.rows * np.asarray(self.shares)).astype(int)
            y = np.repeat(np.arange(k), counts) if self.fixed else rng.choice(k, self.rows, p=self.shares)
            member = np.arange(y.size)
        else:
            sizes = rng.normal(np.log(self.size) - self.spread**2 / 2, self.spread, g)
            member = np.repeat(np.arange(g), np.maximum(2, np.round(np.exp(sizes))).astype(int))
            of_group = rng.choice(k, g, p=self.shares)[member]
            y = np.where(rng.random(member.size) < self.own, of_group, rng.choice(k, member.size, p=self.shares))
        n, units = y.size, int(member.max()) + 1
        lean = np.log(np.asarray(self.recall) / (1 - np.asarray(self.recall)))
        logit = (
            lean[y] + self.difficulty * self._errors(rng, heads, units)[:, member] + 1.6 * self._errors(rng, heads, n)
        )
        habit, other = rng.integers(0, k, units)[member], rng.integers(0, k, n)
        wrong = np.where(rng.random(n) < 0.6, habit, other)
        wrong = np.where(wrong == y, (y + rng.integers(1, k, n)) % k, wrong)
        return Drawn(y, np.where(logit > 0, y, wrong), member, g is not None)

    def _errors(self, rng: np.random.Generator, heads: int, n: int) -> np.ndarray:
        """Standard normal, (heads, n): half of the variance is that of the row or group, whichever head answers."""
        if self.smooth:
            angle = np.outer([1, 2, 3], np.arange(heads) / heads * 2 * np.pi)
            own = np.concatenate([np.cos(angle), np.sin(angle)]).T / np.sqrt(3) @ rng.normal(size=(6, n))
        else:
            own = rng.normal(size=(heads, n))
        return np.sqrt(0.5) * (rng.normal(size=n) + own)

    def truth(self, seed: int = 99) -> tuple[float, float]:
        """Macro F1 and accuracy of a head on very many groups or rows."""
        rng, k = np.random.default_rng(seed), len(self.shares)
        right, whole = np.zeros(k), np.zeros(k)
        for _ in range(40):
            one = self.draw(rng, groups=1000) if self.groups else self.draw(rng)
            for _ in range(1 if self.groups else 25):
                one = one if self.groups else self.draw(rng)
                right += np.bincount(one.y[one.p[0] == one.y], minlength=k)
                whole += np.bincount(one.y, minlength=k) + np.bincount(one.p[0], minlength=k)
        return float((2 * right / whole).mean()), float(2 * right.sum() / whole.sum())


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows and answers."""

    y: np.ndarray
    """(n,) truths."""
    p: np.ndarray
    """(heads, n) answers."""
    member: np.ndarray
    """(n,) the group of each row."""
    grouped: bool
    """Whether rows share groups."""

    @property
    def groups(self) -> list[str] | None:
        """As the statistics take them."""
        return [f"{i:05d}" for i in self.member] if self.grouped else None


WORLDS = {
    "even classes": World(shares=EVEN),
    "7 unbalanced classes": World(),
    "unbalanced, poor head": World(recall=POOR),
    "unbalanced, sure head": World(recall=(0.95,) * 7),
    "groups of one class only": World(shares=EVEN, own=1.0),
    "very uneven group sizes": World(spread=1.3),
    "groups of mixed classes": World(shares=EVEN, own=0.4),
}
INDEPENDENT = {
    "independent, 400 even": World(groups=None, shares=EVEN, fixed=True),
    "independent, 400 unbalanced": World(groups=None, fixed=True),
    "independent, 400 unbalanced, poor head": World(groups=None, recall=POOR, fixed=True),
}


def with_groups(world: World, groups: int) -> World:
    """Return the same world with another number of groups."""
    return replace(world, groups=groups)


def coverage(world: World, runs: int, *, before: bool = True, resamples: int = 400, seed: int = 0) -> dict[str, float]:
    """How often intervals hold the truth, how wide they are, and how often those of before did."""
    rng, k = np.random.default_rng(seed), len(world.shares)
    truth = dict(zip(("macro_f1", "accuracy"), world.truth(), strict=True))
    hits: dict[str, list[float]] = {}
    for run in range(runs):
        one = world.draw(rng)
        draws = bootstrap(one.y, one.p, k, groups=one.groups, resamples=resamples if before or not one.grouped else 2,
                          seed=run)  # fmt: skip
        for metric in ("macro_f1", "accuracy"):
            found = draws.interval(metric, 0)
            if metric == "accuracy" and not one.grouped:
                found = wilson(int((one.p[0] == one.y).sum()), one.y.size)
            held: dict[str, Interval] = {metric: found}
            if before:
                held[f"{metric}_before"] = percentile(getattr(draws, metric)[:, 0])
            for name, interval in held.items():
                hits.setdefault(name, []).append(truth[metric] in interval)
                hits.setdefault(f"{name}_width", []).append(interval.high - interval.low)
    return {name: round(float(np.mean(found)), 3) for name, found in hits.items()}


def differences(world: World, runs: int, *, seed: int = 0) -> float:
    """How often the interval of the difference of two equal heads holds zero."""
    rng = np.random.default_rng(seed)
    factors, held = np.array([1.0, -1.0]), []
    for _ in range(runs):
        one = world.draw(rng, heads=2)
        held.append(0 in jackknife(one.y, one.p, len(world.shares), one.member)["macro_f1"].contrast(factors))
    return float(np.mean(held))


def rejections(world: World, runs: int, *, draws: int = 399, before: bool = False, seed: int = 0) -> float:
    """How often two equal heads are told apart at 5 %, by exchanges, or by resampled groups as before."""
    rng, k, found = np.random.default_rng(seed), len(world.shares), []
    for run in range(runs):
        one = world.draw(rng, heads=2)
        if before:
            resampled = bootstrap(one.y, one.p, k, groups=one.groups, resamples=draws, seed=run).macro_f1
            found.append(bootstrap_p(resampled[:, 0] - resampled[:, 1]) <= 0.05)
        else:
            tested = exchange(one.y, one.p[:, None], k, [(0, 1)], groups=one.groups, draws=draws, seed=run)
            found.append(float(tested.p()[0]) <= 0.05)
    return float(np.mean(found))


def false_letters(world: World, heads: int, runs: int, *, draws: int = 399, seed: int = 0) -> float:
    """How often any two of so many equal heads get different letters."""
    rng, pairs, found = np.random.default_rng(seed), list(combinations(range(heads), 2)), []
    for run in range(runs):
        one = world.draw(rng, heads=heads)
        tested = exchange(one.y, one.p[:, None], len(world.shares), pairs, groups=one.groups, draws=draws, seed=run)
        found.append(bool((tested.adjusted() <= 0.05).any()))
    return float(np.mean(found))


def noises(world: World, heads: int, runs: int, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield macro F1 of equal heads, (h,), and its noise, (draws, h)."""
    rng = np.random.default_rng(seed)
    for run in range(runs):
        one = world.draw(rng, heads=heads)
        left = jackknife(one.y, one.p, len(world.shares), one.member)["macro_f1"]
        yield left.whole, signs(draws, len(left.left_out), run) @ left.parts


def false_sets(world: World, heads: int, runs: int, *, draws: int = 500, seed: int = 0) -> float:
    """How often the set of those that cannot be told from the best lacks one of so many equal heads."""
    return float(np.mean([not not_worse(f, z, 0.05).all() for f, z in noises(world, heads, runs, draws, seed)]))


def flattery(world: World, heads: int, runs: int, *, draws: int = 300, seed: int = 0) -> tuple[float, float]:
    """What the best of equal heads shows above them all, on average, and what its optimism says, in macro F1."""
    shown, said, level = [], [], []
    for f, z in noises(world, heads, runs, draws, seed):
        shown.append(f.max())
        level.append(f.mean())
        said.append(optimism(z, f))
    return float(np.mean(shown) - np.mean(level)), float(np.mean(said))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="of intervals; the other tables scale with it")
    parser.add_argument("--only", choices=("intervals", "tests", "sets", "optimism"), help="one of the tables")
    asked = parser.parse_args()
    parts = {"intervals": _intervals, "tests": _tests, "sets": _sets, "optimism": _optimism}
    for name, part in parts.items():
        if asked.only in (None, name):
            part(asked.runs)


def _intervals(runs: int) -> None:
    for name, world in WORLDS.items():
        for groups in (15, 30, 56):
            report("coverage", world=name, groups=groups, runs=runs, **coverage(with_groups(world, groups), runs))
    for name, world in INDEPENDENT.items():
        report("coverage", world=name, groups=None, runs=runs, **coverage(world, runs))


def _tests(runs: int) -> None:
    for name, world in (WORLDS | INDEPENDENT).items():
        for groups in (15, 30, 56) if world.groups else (None,):
            here = with_groups(world, groups) if groups else world
            report(
                "null rejection at 5 %", world=name, groups=groups, runs=2 * runs,
                exchange=round(rejections(here, 2 * runs), 4),
                resampled=round(rejections(here, 2 * runs, before=True), 4),
                difference_covers=round(differences(here, runs), 4) if groups else None,
            )  # fmt: skip


def _sets(runs: int) -> None:
    for groups in (None, 30, 56):
        for smooth in (True, False):
            world = World(groups=groups, smooth=smooth)
            for heads, share in ((10, 1.0), (66, 0.5), (231, 0.25)):
                wrong = false_sets(world, heads, int(share * runs))
                report("family-wise error of the set", groups=groups, smooth=smooth, heads=heads,
                       runs=int(share * runs), error=round(wrong, 3))  # fmt: skip
            report("family-wise error of letters", groups=groups, smooth=smooth, heads=10, runs=runs // 2,
                   error=round(false_letters(world, 10, runs // 2), 3))  # fmt: skip


def _optimism(runs: int) -> None:
    for groups in (None, 30, 56):
        for smooth in (True, False):
            for heads in (2, 10, 66):
                shown, said = flattery(World(groups=groups, smooth=smooth), heads, runs // 4)
                report(
                    "optimism of the best", groups=groups, smooth=smooth, heads=heads, runs=runs // 4,
                    shown=round(100 * shown, 2), said=round(100 * said, 2), ratio=round(said / shown, 2),
                )  # fmt: skip


if __name__ == "__main__":
    main()
