"""Places for stores: a folder, and S3, of which moto is a stand-in on the loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cer_fusion.featstore import Store, extract
from cer_fusion.featstore.exchange import bucket as module
from cer_fusion.featstore.exchange.bucket import Bucket
from cer_fusion.featstore.exchange.pushing import plan_pull, plan_push, pull, push
from tests.featstore.conftest import ToyEmbedder

MOTO = os.environ.get("CER_MOTO", "")
"""A folder with moto's modules, where it is not installed beside the rest: it wants older versions of some."""
no_moto = "" if MOTO or all(map(importlib.util.find_spec, ("moto", "flask", "flask_cors"))) else "moto[server]"
_SERVE = """
import os, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
os._exit(0)
"""
"""Serves until whoever started it is gone."""


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    if no_moto:
        pytest.skip(f"no S3 on the loopback: not installed: {no_moto}")
    environment = {**os.environ, "PYTHONPATH": MOTO}
    command = [sys.executable, "-W", "ignore", "-c", _SERVE]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        watch = threading.Timer(60, server.kill)
        watch.start()
        said = server.stdout.readline().split()
        watch.cancel()
        if len(said) != 2:
            pytest.skip("no S3 on the loopback: moto did not start")
        yield f"http://{said[0]}:{said[1]}"
        server.stdin.close()


@pytest.fixture
def s3(endpoint, monkeypatch, request) -> SimpleNamespace:
    """A new bucket, and this process's credentials for it."""
    name = re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-40:] + f"{abs(hash(request.node.nodeid)) % 10**8:08d}"
    for key in [key for key in os.environ if key.upper().startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key, value in {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return SimpleNamespace(url=f"s3://{name}/faces", endpoint=endpoint, name=name)


class Objects:
    """What is in a bucket, as a test looks at it and spoils it."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.url, self.folder = url, folder

    def names(self) -> list[str]:
        return sorted(Bucket(self.url).names())

    def find(self, pattern: str) -> str:
        return next(name for name in self.names() if re.search(pattern, name))

    def get(self, name: str) -> bytes:
        return Bucket(self.url).read(name, Bucket(self.url).names()[name])

    def overwrite(self, name: str, data: bytes) -> None:
        import obstore

        obstore.put(Bucket(self.url)._store(making=True), name, data)

    def remove(self, name: str) -> None:
        import obstore

        obstore.delete(Bucket(self.url)._store(), name)


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path) -> Objects:
    if request.param == "s3":
        return Objects(request.getfixturevalue("s3").url, None)
    return Objects(f"file://{tmp_path}/bucket/faces", tmp_path / "bucket" / "faces")


@pytest.fixture
def in_folder(tmp_path) -> Objects:
    return Objects(f"file://{tmp_path}/bucket/faces", tmp_path / "bucket" / "faces")


@pytest.fixture
def filled(store, make_manifest) -> Store:
    manifest = make_manifest(30)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=8)
    extract(ToyEmbedder("other", tap=1), manifest, store, dataset="d", shard_rows=11)
    return store


def put(store: Store, url: str, **options):
    return push(store, plan_push(store, url, **options))


def take(folder: Path, url: str, **options):
    return pull(folder, plan_pull(folder, url, **options))


def shards_in(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.rglob("shard-*.h5")}


def same_rows(a: Store, b: Store, features=("toy", "other"), dataset="d") -> None:
    one, other = a.view(features, dataset=dataset), b.view(features, dataset=dataset)
    assert one.ids == other.ids
    assert one.splits == other.splits
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.join(), other.join())


def half_pushed(filled: Store, url: str, monkeypatch) -> None:
    """Push until the last document, and die."""

    real = Bucket.put_new

    def killed(self: Bucket, name: str, data: bytes) -> bool:
        if "/pushed-" in name:
            raise KeyboardInterrupt
        return real(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_new", killed)
        with pytest.raises(KeyboardInterrupt):
            put(filled, url)
