"""P6: a damaged or hostile head, report or store file is refused before its parser runs, within bounded memory."""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cer_fusion.featstore import FeatstoreError, Store, verify
from cer_fusion.featstore.exchange.foreign_files import read_array
from cer_fusion.featstore.pictures.pictures import PictureSource
from cer_fusion.fusion import FusionError, Report, compare, installed_heads, load_head, make_head, save_head
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.heads import head_class
from cer_fusion.fusion.judging.report import FORMAT_VERSION
from cer_fusion.kit.documents import read_sealed, seal
from tests.featstore.rows.test_shard import rewritten
from tests.fusion.heads.conftest import CLASSES, QUICK, Faces, quick_head
from tests.fusion.keeping.test_saved import resealed
from tests.reliability import attacks
from tests.reliability.corruption import damaged
from tests.reliability.isolation import MIB, Memory, begin_case, run_apart
from tests.reliability.nesting import changed, leaves
from tests.reliability.samples import filled
from tests.reliability.watching import Watch

HERE = "tests.reliability.test_hostile_files"
OURS = (FeatstoreError, FusionError)
MOST = 500 * MIB
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (4,), "epochs": 1},
    "xgboost": {"trees": 2},
    "histgb": {"trees": 2},
    **{name: {"epochs": 1} for name in ("gated", "bilinear", "tokens", "tabm")},
}
BATCH = 1_000
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, -1e308, "", "x",
    "x" * 5000, "../..", "/etc/passwd", "NaN", "\0", "\u202e", [], [[]], [0], [None], {}, {"": {}},
    {"pairs": 1}, {"pairs": [[[], 1]]},
)  # fmt: skip


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with a kept head of every kind, a report, and a store."""
    faces = Faces(n=40)
    for name in installed_heads():
        small = {"trees": 2} if "trees" in QUICK[name] else SMALL.get(name, {})
        head = quick_head(name, blocks=faces.widths, **small).fit(faces.X, faces.y)
        save_head(head, tmp_path / "good" / "heads" / name, fingerprints={"vit": "ab"}, class_set=CLASSES)
    rows = Rows(blocks=faces.blocks, y=faces.y, classes=CLASSES)
    report = compare({"linear": make_head("linear")}, rows, rows, singles=False, resamples=20)
    report.save(tmp_path / "good" / "report.json")
    filled(tmp_path / "good", 24, shard_rows=8)
    return tmp_path / "good"


@pytest.mark.slow
def test_damaged_heads_and_reports_are_refused_before_they_are_parsed(good, scaled, figure):
    cases = scaled(8_000, 300)
    found: Counter[str] = Counter()
    for start in range(0, cases, BATCH):
        found.update(run_apart(f"{HERE}:damage", str(good), start, min(BATCH, cases - start)))
    assert found.pop("parsed") == 0
    assert found["refused"] > cases * 0.9
    counts = ", ".join(f"{count:,} {what}" for what, count in found.items())
    figure("P6", f"{cases:,} damaged heads and reports: {counts}, 0 parsed, 0 crash")


@pytest.mark.slow
def test_contents_that_make_no_sense_are_refused_or_harmless_even_with_right_digests(good, scaled, figure):
    """Any single value of any document replaced by something nasty: an error of ours, or nothing bad happens."""
    cases = scaled(2_000, 300)
    found: Counter[str] = Counter()
    for start in range(0, cases, BATCH):
        done = run_apart(f"{HERE}:forge", str(good), start, min(BATCH, cases - start))
        assert not done["faults"], "\n".join(done["faults"])
        assert done["peak"] < MOST
        found.update(done["found"])
    counts = f"{found['refused']:,} refused, {found['read']:,} read without harm"
    figure("P6", f"{cases:,} forged values with right digests: {counts}, 0 crash, 0 code run")


@pytest.mark.slow
def test_attacks_made_by_hand_are_refused(good, figure):
    done = run_apart(f"{HERE}:attack", str(good))
    assert not done["faults"], "\n".join(done["faults"])
    figure(
        "P6", f"{done['tried']} attacks made by hand: all refused, 0 code run, most memory {done['peak'] // MIB} MiB"
    )


def damage(path: str, first: int, count: int) -> dict[str, int]:
    """Damage heads and reports; how many were refused, and how often a parser of arrays or trees was reached."""
    import safetensors.numpy
    import xgboost

    good = Path(path)
    heads = sorted((good / "heads").iterdir())
    report = Report.load(good / "report.json").to_dict()
    parsed: list[str] = []
    safetensors.numpy.load = noted(parsed, safetensors.numpy.load)
    xgboost.Booster.load_model = noted(parsed, xgboost.Booster.load_model)
    if "lightgbm" in installed_heads():
        import lightgbm

        lightgbm.Booster.model_from_string = noted(parsed, lightgbm.Booster.model_from_string)
    found: Counter[str] = Counter()
    for number in range(first, first + count):
        draw = random.Random(number)
        folder = heads[number % len(heads)]
        target = draw.choice(sorted(folder.iterdir())) if number % 5 else good / "report.json"
        other = draw.choice(sorted(good.rglob(f"*{target.suffix}")))
        whole = target.read_bytes()
        way, data = damaged(whole, other.read_bytes(), draw)
        begin_case(f"case {number}: {way} of {target.relative_to(good)}")
        target.write_bytes(data)
        try:
            if number % 5:
                load_head(folder)
                raise AssertionError(f"case {number}: a damaged head was loaded")
            assert Report.load(target).to_dict() == report, f"case {number}: a damaged report was read"
            found["the same but for blanks"] += 1
        except OURS:
            found["refused"] += 1
        target.write_bytes(whole)
    found["parsed"] = len(parsed)
    return found


def noted(calls: list[str], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with each call noted."""

    def call(*args: Any, **more: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **more)

    return call


def forge(path: str, first: int, count: int) -> dict[str, Any]:
    """Replace single values in descriptions, with right digests, and read them."""
    good = Path(path)
    readers = {
        **{f"heads/{p.name}/head.json": forge_head for p in sorted((good / "heads").iterdir())},
        "report.json": forge_report,
        **{str(p.relative_to(good)): forge_document for p in sorted((good / "store").rglob("*.json"))},
        **{str(p.relative_to(good)): forge_shard for p in sorted((good / "store").rglob("*.h5"))},
    }
    for name in installed_heads():
        for library in head_class(name).computes_with:  # they are loaded before it is watched what a file loads
            importlib.import_module(library)
    for reader, file in {reader: file for file, reader in readers.items()}.items():
        whole = (good / file).read_bytes()
        with contextlib.suppress(*OURS, ValueError):  # libraries are loaded before memory is measured
            reader(good / file, random.Random(0))
        (good / file).write_bytes(whole)
    memory, found, faults = Memory(), Counter[str](), []
    for number in range(first, first + count):
        draw = random.Random(number)
        file = list(readers)[number % len(readers)]
        whole = (good / file).read_bytes()
        begin_case(f"case {number}: {file}")
        with Watch() as watch:
            try:
                readers[file](good / file, draw)
                found["read"] += 1
            except OURS:
                found["refused"] += 1
            except Exception as error:  # the boundary of the test: whatever it is, it is a finding
                faults.append(f"case {number}: {file}: {type(error).__name__}: {error!s:.200}")
        faults += [f"case {number}: {file}: {event}" for event in watch.seen]
        (good / file).write_bytes(whole)
    return {"found": found, "faults": faults, "peak": memory.grown()}


def forged(body: Any, draw: random.Random) -> Any:
    """One value of it replaced by something nasty."""
    place, _ = draw.choice([leaf for leaf in leaves(body) if leaf[0][0] not in ("digest", "format")])
    return changed(body, place[: draw.randrange(1, len(place) + 1)], draw.choice(NASTY))


def forge_head(path: Path, draw: random.Random) -> None:
    """Read a head whose description has one nasty value."""
    resealed(path.parent, **forged(json.loads(path.read_bytes()), draw))
    load_head(path.parent)


def forge_report(path: Path, draw: random.Random) -> None:
    """Read a report that has one nasty value."""
    body = read_sealed(path, kind="cer-report", version=FORMAT_VERSION)
    path.write_bytes(seal(forged(body, draw), kind="cer-report", version=FORMAT_VERSION))
    Report.load(path)


def forge_document(path: Path, draw: random.Random) -> None:
    """Read a store of which one document has a nasty value."""
    root = next(parent for parent in path.parents if (parent / "heads").exists())
    attacks.document(str(path.relative_to(root)), **forged(json.loads(path.read_bytes()), draw))(root)
    read_store(root)


def forge_shard(path: Path, draw: random.Random) -> None:
    """Read a store of which one shard's header has a nasty value."""
    rewritten(path, lambda header: header.update(forged(dict(header), draw)))
    read_store(path.parents[3])


def read_store(root: Path) -> None:
    """Look at everything, in every way; raises what the first of them raises."""
    errors = []
    for look in (
        lambda: verify(Store(root / "store"), images=True),
        lambda: Store(root / "store").view(["toy"], dataset="d").join(),
        lambda: Store(root / "store").view(["toy"], dataset="d", mapped=True).join(),
        lambda: Store(root / "store").feature("toy", "d").index().image_digests(),
    ):
        try:
            look()
        except OURS as error:
            errors.append(error)
    if errors:
        raise errors[0]


def attack(path: str) -> dict[str, Any]:
    """Walk into every attack; what went wrong, and the most memory that one took."""
    good = Path(path)
    tables: dict[str, tuple[dict[str, attacks.Attack], Callable[[Path], Any]]] = {
        "heads": (attacks.HEADS, lambda root: [load_head(p) for p in sorted((root / "heads").iterdir())]),
        "reports": (attacks.REPORTS, lambda root: Report.load(root / "report.json")),
        "stores": (attacks.STORES, read_store),
        "imports": (attacks.IMPORTS, take_in),
    }
    faults, peak, tried = [], 0, 0
    for kind, (table, walk_into) in tables.items():
        walk_into(good)  # libraries are loaded before memory is measured
        for name, prepare in table.items():
            root = Path(shutil.copytree(good, good.with_name(f"attack{tried}")))
            prepare(root)
            begin_case(f"{kind}: {name}")
            memory, outcome = Memory(), "was not refused"
            with Watch() as watch:
                try:
                    walk_into(root)
                except OURS:
                    outcome = ""
                except Exception as error:  # the boundary of the test: whatever it is, it is a finding
                    outcome = f"{type(error).__name__}: {error!s:.200}"
            grown = memory.grown()
            faults += [f"{name}: {fault}" for fault in (outcome, *watch.seen) if fault]
            faults += [f"{name}: it took {grown // MIB} MiB"] * (grown >= MOST)
            faults += [f"{name}: its code ran"] * (root / "it ran").exists()
            peak, tried = max(peak, grown), tried + 1
            shutil.rmtree(root)
    return {"tried": tried, "faults": faults, "peak": peak}


def take_in(root: Path) -> None:
    """Read rows to import, and a picture out of a zip file."""
    if (root / "rows.npy").exists():
        read_array(root / "rows.npy")
    if (root / "pictures.zip").exists():
        try:
            PictureSource(root).read("pictures.zip/0.png")
        except OSError as error:  # what the quarantine gives as the reason
            raise FeatstoreError(str(error)) from error
