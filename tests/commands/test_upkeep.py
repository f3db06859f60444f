from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cer_fusion.featstore import FeatureSpec, Manifest, Store, extract
from tests.featstore.conftest import CLASSES, ToyEmbedder
from tests.featstore.history import holdings, make_older


@pytest.fixture
def toys(run, tmp_path):
    """Two features `toy` of other options in the default store; one grew in five steps, its first picture changed."""
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(10):
        (root / f"{i}.png").write_bytes(b"picture %d" % i)
    store = Store.create("features")
    samples = [{"sample_id": f"s{i}", "path": f"{i}.png"} for i in range(10)]
    (tmp_path / "d.csv").write_text("sample_id,path\n" + "".join(f"{s['sample_id']},{s['path']}\n" for s in samples))
    manifest = Manifest.read("d.csv", root=root)
    for n in range(2, 11, 2):
        extract(ToyEmbedder(), manifest.keep(i < n for i in range(10)), store, dataset="d", shard_rows=2)
    (root / "0.png").write_bytes(b"another")
    (root / "1.png").write_bytes(b"changed")
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=2)
    assert CLASSES.labels
    return store


def add_other(store, manifest=None, name="toy", **options):
    extract(ToyEmbedder(name, **options), manifest or store.manifest(), store, dataset="d", name="toy")
    return FeatureSpec(
        name="toy", identity=ToyEmbedder(name, **options).spec(), blocks={"left": 4, "right": 3}
    ).fingerprint[:12]


def one_line(result):
    return " ".join(result.output.split())


def test_diff_names_the_fields_old_and_new_and_ends_with_1(run, toys):
    old = toys.feature("toy").label
    new = f"toy@{add_other(toys, tap=2, weights='ab' * 32)}"
    result = run(f"cer-feat diff {old} {new}", code=1)
    assert f"{old} -> {new}" in one_line(result)
    assert "options.tap │ (none) │ 2" in one_line(result)
    assert "abababababab…" in result.stdout
    found = json.loads(run(f"cer-feat diff {old} {new} --json", code=1).stdout)
    assert found["differences"] == [
        {"field": "options.tap", "old": None, "new": 2},
        {"field": "options.weights", "old": None, "new": "ab" * 32},
    ]
    assert (found["equal"], found["names_equal"], found["described"]) == (False, True, [])


def test_diff_ends_with_0_when_only_names_and_descriptions_differ(run, toys, tmp_path):
    spec = toys.feature("toy").spec
    other = FeatureSpec(
        name="renamed", identity=spec.identity, blocks=spec.blocks, described={"versions": {"toy": "2"}, "source": "x"}
    )
    other.write(tmp_path / "feature.json")
    result = run(f"cer-feat diff toy {tmp_path}/feature.json")
    assert "are the same feature" in result.stdout
    assert "only the names differ, toy -> renamed" in result.stdout
    assert "not part of the identity" in one_line(result)
    assert "versions.toy │ 1 │ 2" in one_line(result)
    found = json.loads(run(f"cer-feat diff toy {tmp_path} --json").stdout)
    assert (found["equal"], found["names_equal"], found["differences"]) == (True, False, [])
    assert found["described"][0] == {"field": "versions.toy", "old": "1", "new": "2"}


def test_diff_sees_values_that_compare_equal_but_are_spelt_differently(run, toys, tmp_path):
    for name, value in (("a", 1), ("b", 1.0)):
        (tmp_path / name).mkdir()
        FeatureSpec(name="x", identity={"tap": value}, blocks={"rows": 2}).write(tmp_path / name / "feature.json")
    assert "tap │ 1 │ 1.0" in one_line(run("cer-feat diff a b", code=1))


@pytest.mark.parametrize("a", ["d/toy", "features/d/{label}", "./features/d/{label}", "{label}", "toy@{short}"])
def test_diff_takes_features_by_every_name_they_have(run, toys, a):
    label = toys.feature("toy").label
    run(f"cer-feat diff {a.format(label=label, short=label[4:8])} toy")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-feat diff toi toy", 1, "did you mean 'toy'"),
        ("cer-feat diff e/toy toy", 1, "no dataset 'e'"),
        ("cer-feat diff ./none toy", 1, "none/feature.json is missing"),
        ("cer-feat diff none.json toy", 1, "none.json is missing"),
        ("cer-feat diff toy", 2, "Missing argument 'B'"),
        ("cer-feat diff toy toy --store none", 1, "no feature store at none"),
        ("cer-feat gc --store none", 1, "no feature store at none"),
        ("cer-feat gc --data e", 1, "no dataset 'e'"),
        ("cer-feat compact toi", 1, "did you mean 'toy'"),
        ("cer-feat compact --shard-rows 0", 2, "Invalid value for '--shard-rows'"),
        ("cer-feat compact --data e", 1, "no dataset 'e'"),
    ],
)
def test_mistakes_are_told_in_words_with_an_exit_status(run, toys, command, code, message):
    result = run(command, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_gc_lists_first_and_removes_only_when_told_to(run, toys):
    before = holdings(toys)
    waiting = run("cer-feat gc")
    assert "nothing to remove" in waiting.stdout
    assert "1 more shards" in waiting.stderr
    make_older(toys.path)
    listed = run("cer-feat gc")
    assert "superseded: newer shards hold all its 2 samples" in one_line(listed)
    assert "would remove 1 files" in listed.stdout
    assert "--delete" in listed.stderr
    assert len(toys.feature("toy").shard_paths()) == 6
    assert "removed 1 files" in run("cer-feat gc --delete").stdout
    assert len(toys.feature("toy").shard_paths()) == 5
    assert holdings(toys) == before


def test_gc_speaks_json(run, toys):
    found = json.loads(run("cer-feat gc --json").stdout)
    assert (found["garbage"], found["nbytes"], found["removed"], found["waiting"]) == ([], 0, False, 1)
    found = json.loads(run("cer-feat gc --now --delete --json").stdout)
    assert (len(found["garbage"]), found["removed"], found["waiting"]) == (1, True, 0)
    assert not Path(found["garbage"][0]["path"]).exists()


def test_gc_removes_shards_of_samples_that_left_the_manifest_on_request(run, toys):
    manifest = toys.manifest()
    toys.use_manifest("d", manifest.keep(i < 4 for i in range(10)))
    assert len(json.loads(run("cer-feat gc --now --json").stdout)["garbage"]) == 1
    assert len(json.loads(run("cer-feat gc --now --unlisted --json").stdout)["garbage"]) == 4


def test_compact_says_what_it_did_and_what_still_takes_room(run, toys):
    before = holdings(toys)
    dry = run("cer-feat compact --dry-run")
    assert "6 shards" in dry.stdout
    assert "would become 1 shards (about" in dry.stdout
    assert len(toys.feature("toy").shard_paths()) == 6
    done = run("cer-feat compact toy")
    assert "became 1 shards" in done.stdout
    assert "6 old shards still take room" in done.stderr
    again = run("cer-feat compact toy")
    assert "already compact, 1 shards" in again.stdout
    assert "6 old shards still take room" in again.stderr
    assert "freed" in run("cer-feat compact toy --now").stderr
    assert len(os.listdir(toys.feature("toy").folder)) == 2  # the shard and feature.json
    assert holdings(toys) == before
    assert "still take room" not in run("cer-feat compact").stderr


def test_compact_now_speaks_json_and_drops_what_is_not_listed(run, toys):
    manifest = toys.manifest()
    toys.use_manifest("d", manifest.keep(i < 4 for i in range(10)))
    (entry,) = json.loads(run("cer-feat compact --drop-unlisted --now --json").stdout)["features"]
    assert (entry["rows"], entry["unlisted"], entry["shards_after"], entry["dry_run"]) == (4, 6, 1, False)
    assert entry["freed"] == entry["nbytes_before"]
    assert set(holdings(toys)) == {"s0", "s1", "s2", "s3"}


def test_compact_keeps_rows_of_samples_that_are_not_listed_and_says_so(run, toys):
    manifest = toys.manifest()
    toys.use_manifest("d", manifest.keep(i < 4 for i in range(10)))
    assert "6 entries are of samples that are not in the manifest: kept" in run("cer-feat compact --now").stderr
    assert len(holdings(toys)) == 10


def test_rm_says_what_goes_and_which_runs_learned_from_it_and_asks(run, filled):
    run("cer-fuse train --head linear --features one,two -o runs/both")
    run("cer-fuse train --head linear --features two -o runs/second")
    for line in ("cer-feat rm one", "cer-feat rm faces/"):
        said = run(line, code=2).stderr.replace("│", " ")
        assert "nobody answered whether all that may go: say it with --yes" in " ".join(said.split())
    told = run("cer-feat rm one --dry-run").stderr
    assert "42 rows of one@" in told
    assert "1 kept run learned from them: runs/both" in " ".join(told.split())
    assert "imported: only another import brings them back" in told
    entry = json.loads(run("cer-feat rm one --yes --json").stdout)
    assert [one["runs"] for one in entry["removed"]] == [["runs/both"]]
    assert [one["feature"].partition("@")[0] for one in json.loads(run("cer-feat ls --json").stdout)["features"]] == [
        "two"
    ]
    assert "1 more shards" in run("cer-feat gc").stderr
    assert json.loads(run("cer-feat gc --now --delete --json").stdout)["nbytes"] == entry["nbytes"]
    run("cer-fuse evaluate --head runs/second --split test")
    assert "has no one@" in run("cer-fuse evaluate --head runs/both --split test", code=1).stderr
    both = run("cer-feat rm two,faces/ --yes")
    assert "2 kept runs" not in both.stdout
    assert "took faces/ out of" in both.stdout
    assert run("cer-feat ls --json").stdout == '{\n  "features": []\n}\n'


def test_renamed_things_are_found_by_what_was_kept_before(run, filled):
    run("cer-fuse train --head linear --features one,two -o runs/both")
    before = json.loads(run("cer-fuse evaluate --head runs/both --split test --json").stdout)
    told = run("cer-feat rename one first")
    assert "first@" in told.stdout
    assert "1 kept run learned from faces/one@" in told.stderr
    assert "they find it by its fingerprint" in told.stderr
    assert "give them --data rafdb" in run("cer-feat rename faces/ rafdb").stderr
    after = json.loads(run("cer-fuse evaluate --head runs/both --split test --data rafdb --json").stdout)
    assert before == after
