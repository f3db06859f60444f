"""Jobs that tests give to engines: light to import, since every process of an engine imports them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cer_fusion.kit.errors import CerError


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Writes down every time that a part is begun; its result is the part, how many there are, and the process."""

    folder: Path
    dies: tuple[int, ...] = ()
    """Parts whose process is killed amid the first try."""
    doomed: tuple[int, ...] = ()
    """Parts whose process is killed each time."""
    fails: tuple[int, ...] = ()
    """Parts that raise an error of ours."""
    says: str = ""
    sleeps_s: float = 0.0

    def run_part(self, k: int, n: int, progress: Any) -> list[Any]:
        tries = self.tries(k)
        (self.folder / f"{k}-{tries}").write_text(str(os.getpid()))
        progress("embed", 0, 2, 0.5)
        if self.says:
            print(self.says, file=sys.stderr)
            print("printed by a library")
        if k in self.doomed or (k in self.dies and not tries):
            os.kill(os.getpid(), signal.SIGKILL)
        if k in self.fails:
            raise CerError(f"part {k} cannot be done")
        if self.sleeps_s:
            time.sleep(self.sleeps_s)
        progress("embed", 2, 2, 0.5)
        return [k, n, os.getpid(), os.environ.get("LOCAL_RANK"), os.environ.get("OMP_NUM_THREADS")]

    def tries(self, k: int) -> int:
        """How often a part was begun."""
        return len(list(self.folder.glob(f"{k}-*")))


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Embeds with the toy embedder, slowly; writes down what was begun, and by which process the encoder was loaded."""

    manifest: str
    store: str
    notes: str
    shard_rows: int = 3
    batch_s: float = 0.05
    """Seconds that a batch takes besides."""

    def run_part(self, k: int, n: int, progress: Any) -> list[dict[str, Any]]:
        from cer_fusion.featstore import Manifest, Store, extract

        (Path(self.notes) / f"begun-{k}-{os.getpid()}-{time.time_ns()}").touch()
        if not _LOADED:
            _LOADED.append(self._load())
        report = extract(
            _LOADED[0],
            Manifest.read(self.manifest),
            Store.create(self.store),
            dataset="d",
            batch_size=1,
            shard_rows=self.shard_rows,
            part=(k, n),
            progress=lambda stage, done, total: progress(stage, done, total, 0.0),
        )
        return [vars(report)]

    def _load(self) -> Any:
        from tests.featstore.conftest import ToyEmbedder

        job = self

        class Slow(ToyEmbedder):
            def embed(self, pictures: Any) -> Any:
                time.sleep(job.batch_s)
                return super().embed(pictures)

        (Path(self.notes) / f"loaded-{os.getpid()}-{time.time_ns()}").touch()
        return Slow()


_LOADED: list[Any] = []


def begun(notes: Path) -> list[tuple[int, int]]:
    """(part, process) of every try so far, in order."""
    found = [path.name.split("-")[1:] for path in notes.glob("begun-*")]
    return [(int(k), int(pid)) for k, pid, at in sorted(found, key=lambda words: int(words[2]))]


def loads(notes: Path) -> dict[int, int]:
    """How often each process loaded the encoder."""
    pids = [int(path.name.split("-")[1]) for path in notes.glob("loaded-*")]
    return {pid: pids.count(pid) for pid in pids}
