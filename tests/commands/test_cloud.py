"""`cer-feat push`, `pull` and `cache` on a folder, which holds the same contract as a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cer_fusion.commands import feat
from cer_fusion.featstore import Store

pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")


@pytest.fixture
def url(tmp_path) -> str:
    return f"file://{tmp_path}/bucket/faces"


def words(result):
    return " ".join(result.stderr.replace("│", " ").split())


def test_a_push_says_first_what_leaves_and_a_pull_brings_it_back(run, filled, url, tmp_path):
    pushed = run(f"cer-feat push --store features {url} --yes")
    said = words(pushed)
    assert f"to {url}: 2 shards (84 rows," in said
    assert "2 documents" not in said
    assert "6 documents" in said
    assert "the manifest of 42 samples holds: sample ids, paths, labels, splits; no groups" in said
    assert "shards hold: rows, sample ids, digests of pictures" in said
    assert "no picture and no weights are sent, nor where they lie" in said
    assert pushed.stdout.startswith("sent 2 shards, 84 rows, ")
    pulled = run(f"cer-feat pull {url} --store other --features two")
    assert "took 1 shards, 42 rows" in pulled.stdout
    assert "pictures are expected in other/faces" in words(pulled)
    np.testing.assert_array_equal(Store("other").view(["two"]).join(), Store("features").view(["two"]).join())
    assert [feature.name for feature in Store("other").features()] == ["two"]


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 2)])
def test_nothing_leaves_without_an_answer(run, filled, url, answer, code):
    result = CliRunner().invoke(feat.app, ["push", "--store", "features", url], input=answer)
    assert result.exit_code == code, result.output
    assert Path(url.removeprefix("file://")).exists() == (code == 0)
    assert "may all that leave this machine?" in result.stderr
    if code == 2:
        assert "say it with --yes" in words(result)


def test_a_dry_run_sends_and_takes_nothing(run, filled, url, tmp_path):
    assert "this sends 2 shards" in run(f"cer-feat push {url} --dry-run").stdout
    assert not (tmp_path / "bucket").exists()
    run(f"cer-feat push {url} --yes")
    assert "this takes 2 shards" in run(f"cer-feat pull {url} --store other --dry-run").stdout
    assert not (tmp_path / "other").exists()


def test_again_nothing_is_asked_and_nothing_moves(run, filled, url):
    run(f"cer-feat push {url} --yes")
    again = run(f"cer-feat push {url} --json")
    assert "nothing is sent" in words(again)
    assert json.loads(again.stdout) == {
        "url": url, "datasets": ["faces"], "features": [f"faces/{f.label}" for f in Store("features").features()],
        "shards": 0, "rows": 0, "nbytes": 0, "already": 2, "dry_run": False,
    }  # fmt: skip
    run(f"cer-feat pull {url} --store other")
    assert json.loads(run(f"cer-feat pull {url} --store other --json").stdout)["already"] == 2


def test_what_is_refused_is_told_in_words(run, filled, url, tmp_path):
    assert "there is no store at" in run(f"cer-feat pull {url} --store other", code=1).stderr
    assert "is no place for a store" in run("cer-feat push ftp://host/x --yes", code=1).stderr
    run(f"cer-feat push {url} --yes")
    [shard] = (tmp_path / "bucket" / "faces" / "faces").glob("one@*/shard-*.h5")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    result = run(f"cer-feat pull {url} --store other", code=1)
    assert "is not what was pushed" in result.stderr
    assert shard.name in words(result).replace(" ", "")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("line", ["cer-feat ls", "cer-fuse train --head linear", "cer-feat push file:///tmp/x"])
def test_a_bucket_where_a_folder_is_named_is_refused(run, line):
    assert "is a bucket, and a folder is named here" in words(run(f"{line} --store s3://bucket/faces", code=2))


def test_the_cache_is_listed_and_removed(run, filled, url, tmp_path, monkeypatch):
    monkeypatch.setenv("CER_CACHE", str(tmp_path / "cache"))
    assert run("cer-feat cache").stdout == "nothing is kept\n"
    run(f"cer-feat push {url} --yes")
    opened = Store.open(url)
    opened.view(["one"])
    assert opened.path.is_relative_to(tmp_path / "cache")
    listed = run("cer-feat cache --json")
    [entry] = json.loads(listed.stdout)["stores"]
    assert (entry["url"], entry["shards"], entry["folder"]) == (url, 1, str(opened.path))
    assert str(tmp_path / "cache") in words(run("cer-feat cache")).replace(" ", "")
    assert "is not in" in words(run("cer-feat cache --delete s3://other", code=2))
    (tmp_path / "cache" / "mine").mkdir()
    assert "removed 1 stores" in run(f"cer-feat cache --delete {url}").stdout
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine"]
    assert run("cer-feat cache --delete all").stdout == "nothing is kept\n"
