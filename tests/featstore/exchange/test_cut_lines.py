"""Stores in buckets over a line that is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from cer_fusion.featstore import Store
from cer_fusion.featstore.errors import (
    BucketError,
    FormatError,
)
from cer_fusion.featstore.exchange import bucket as module
from cer_fusion.featstore.exchange.bucket import Bucket
from cer_fusion.featstore.exchange.pushing import plan_pull, plan_push, pull, push
from cer_fusion.featstore.rows import files
from tests.featstore.exchange.conftest import put, same_rows, shards_in, take

pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")


class Line:
    """Passes bytes on to a server.

    `cut_after` bytes of a connection, in either direction, it cuts it, `cuts` times; after `ends_after` bytes in all
    it cuts every one.
    """

    def __init__(self, endpoint: str) -> None:
        self.cut_after, self.cuts, self.made, self.ends_after = 10**12, 0, 0, 10**12
        host, port = endpoint.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            budget = [self.cut_after]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(a, b, budget), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, budget: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1024):
                if (self.cuts and budget[0] < len(data)) or self.ends_after < len(data):
                    target.sendall(data[: max(0, min(budget[0], self.ends_after))])
                    self.cuts, self.made = self.cuts - 1, self.made + 1
                    break
                budget[0] -= len(data)
                self.ends_after -= len(data)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def line(s3, monkeypatch) -> Iterator[Line]:
    made = Line(s3.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    made.close()


def test_a_line_that_is_cut_now_and_then_costs_tries_and_no_row(filled, s3, line, tmp_path):
    line.cut_after, line.cuts = 6000, 3
    put(filled, s3.url)
    assert line.made == 3
    line.cut_after, line.cuts = 6000, 3
    take(tmp_path / "other", s3.url)
    assert line.made == 6
    same_rows(filled, Store(tmp_path / "other"))


def test_a_push_whose_line_stays_cut_is_told_refused_to_readers_and_goes_on(filled, s3, line, tmp_path, monkeypatch):
    plan = plan_push(filled, s3.url)
    line.ends_after = 30_000
    with pytest.raises(BucketError, match=r"could not put d/.*\n  what is there stays; run the same command again"):
        push(filled, plan)
    line.ends_after = 10**12
    sent = [name for name in Bucket(s3.url).names() if "shard-" in name]
    assert 0 < len(sent) < 7
    with pytest.raises(FormatError, match="is half pushed"):
        plan_pull(tmp_path / "other", s3.url)
    plan = plan_push(filled, s3.url)
    assert plan.already == len(sent)
    push(filled, plan)
    take(tmp_path / "other", s3.url)
    same_rows(filled, Store(tmp_path / "other"))


def test_a_pull_whose_line_stays_cut_leaves_whole_shards_and_goes_on(filled, s3, line, tmp_path):
    put(filled, s3.url)
    plan = plan_pull(tmp_path / "other", s3.url)
    line.ends_after = 20_000
    with pytest.raises(BucketError, match="could not"):
        pull(tmp_path / "other", plan)
    line.ends_after = 10**12
    taken = shards_in(tmp_path / "other")
    assert taken < shards_in(filled.path)
    assert not [path for path in (tmp_path / "other").rglob("*") if files.is_temporary(path.name)]
    again = take(tmp_path / "other", s3.url)
    assert again.already == len(taken)
    same_rows(filled, Store(tmp_path / "other"))


def test_a_bucket_that_is_not_there_is_told_at_once(filled, s3, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 100.0)  # it would be noticed
    with pytest.raises(BucketError, match="NoSuchBucket"):
        plan_push(filled, "s3://nobody-has-this/faces")
