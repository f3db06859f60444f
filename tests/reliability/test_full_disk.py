"""P4: a full disk is told with folder, bytes needed and free, and the run goes on when there is room."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import CommitError
from tests.featstore.conftest import ToyEmbedder
from tests.reliability import toy
from tests.reliability.mounts import CannotMountError, mounted
from tests.reliability.processes import Forker

resource = pytest.importorskip("resource", reason="limits on file sizes are a matter of POSIX systems")
SHARD_ROWS = 32
SIZES = re.compile(r"in folder: (.+)\n  needed: ([\d,]+) bytes, free: ([\d,]+) bytes")


class WideEmbedder(ToyEmbedder):
    """Rows of 6 KiB, so that a few shards fill a small disk."""

    def __init__(self) -> None:
        super().__init__("toy")
        self.blocks = {"wide": 1536}

    def embed(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        return {"wide": np.tile(pictures.astype(np.float32) / 7, 96)}


def extract_in_child(manifest: str, store: str, limit: int, told: str) -> None:
    """In a child: a run that may not write files larger than `limit`; what it says goes to `told`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        toy.embed(Manifest.read(manifest), Path(store), shard_rows=SHARD_ROWS, embedder=WideEmbedder())
    except CommitError as error:
        Path(told).write_text(str(error))


def test_a_full_disk_is_told_with_sizes_and_the_run_completes_when_there_is_room(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 320)
    toy.embed(manifest, tmp_path / "whole", shard_rows=SHARD_ROWS, embedder=WideEmbedder())
    expected, names = toy.rows(tmp_path / "whole"), toy.names(tmp_path / "whole")
    runs, kept, chance = scaled(20, 3), 0, random.Random(0)
    try:
        with mounted(tmp_path / "disk", "3m") as disk:
            for _ in range(runs):
                ballast = disk / "ballast"
                ballast.write_bytes(bytes(chance.randrange(1_200_000, 2_900_000)))
                with pytest.raises(CommitError, match="No space left on device") as caught:
                    toy.embed(manifest, disk / "store", shard_rows=SHARD_ROWS, embedder=WideEmbedder())
                told = SIZES.search(str(caught.value))
                assert told, str(caught.value)
                assert told[1].startswith(str(disk))
                assert int(told[2].replace(",", "")) > int(told[3].replace(",", "")), "there was room"
                found = toy.rows_so_far(disk / "store")
                assert toy.wrong(found, expected) == []
                assert toy.temporaries(disk) == []
                kept += len(found)
                ballast.unlink()
                toy.embed(manifest, disk / "store", shard_rows=SHARD_ROWS, embedder=WideEmbedder())
                assert toy.names(disk / "store") == names
                assert toy.wrong(toy.rows(disk / "store"), expected) == []
                shutil.rmtree(disk / "store")
    except CannotMountError as reason:
        pytest.skip(f"no small file system can be mounted: {reason}")
    text = f"{runs} runs on a full 3 MB file system ({kept:,} rows kept): 0 crashes, 0 wrong, folder and sizes told"
    figure("P4", f"{text}, {runs}/{runs} complete when there is room")


def test_a_limit_on_file_sizes_is_told_as_one(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 80)
    toy.embed(manifest, tmp_path / "whole", shard_rows=SHARD_ROWS, embedder=WideEmbedder())
    largest = max((tmp_path / "whole").rglob("shard-*"), key=lambda path: path.stat().st_size).stat().st_size
    runs, chance = scaled(20, 3), random.Random(0)
    store, told = tmp_path / "store", tmp_path / "told"
    with Forker(__name__, tmp_path / "log") as forker:
        for _ in range(runs):
            shutil.rmtree(store, ignore_errors=True)
            forker.call(extract_in_child, tmp_path / "m.csv", store, chance.randrange(8_192, largest), told)
            message = told.read_text()
            assert os.strerror(errno.EFBIG) in message
            assert SIZES.search(message), message
            assert "ulimit -f" in message
            assert toy.temporaries(store) == []
            toy.embed(manifest, store, shard_rows=SHARD_ROWS, embedder=WideEmbedder())
            assert toy.names(store) == toy.names(tmp_path / "whole")
    figure("P4", f"{runs} runs under RLIMIT_FSIZE: 0 crashes, {runs}/{runs} complete when the limit is gone")
