"""Runs and features on a Hub of this machine: what leaves is said first, and it is all that leaves."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from typer.testing import CliRunner

from cer_fusion.commands import fuse
from cer_fusion.featstore import Manifest, Store
from cer_fusion.fusion import load_head, read_head_info
from cer_fusion.fusion.errors import SavedHeadError
from cer_fusion.fusion.keeping.runs import environment, read_run, write_run
from cer_fusion.kit.hub import HubError
from tests.fusion.kept import NOISE, config_of, rows
from tests.fusion.kept import trained as trained_once
from tests.hub import TOKEN, Hub, served
from tests.pages import Page

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with served(monkeypatch, tmp_path / "cache") as found:
        yield found


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    report, train, test = trained_once(tuple(NOISE), groups=tuple(f"video{i // 3}" for i in range(21)))
    config = config_of(report, train, store=str(folder), data_digest="d" * 64)
    at = environment(threads={"blas": 1}, device="cpu")
    write_run(folder / "one", config, report, groups=test.clusters, environment=at)
    return folder / "one"


@pytest.fixture
def trained(run, kept_once, hub, tmp_path) -> Hub:
    """`runs/one`, a linear head on two features."""
    shutil.copytree(kept_once, tmp_path / "runs" / "one")
    return hub


def asked_about() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)


def words(result):
    return " ".join(result.stderr.replace("│", " ").split())


def unpacked(data: bytes) -> bytes:
    """Bytes with those inside of a zip file, the texts of a Parquet file, and of JSON without its escapes."""
    with contextlib.suppress(ValueError):
        return data + json.dumps(json.loads(data), ensure_ascii=False).encode()
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return data + b"".join(unpacked(archive.read(name)) for name in archive.namelist())
    if data[:4] == b"PAR1":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(io.BytesIO(data))
        texts = [name for name in table.column_names if "list" not in str(table.schema.field(name).type)]
        return repr((table.select(texts).to_pydict(), table.schema.metadata)).encode()
    return data


def told_of(hub: Hub, tmp_path: Path) -> set[str]:
    """What of this machine and of single samples is in anything that was sent, headers of the commits included."""
    faces = tmp_path / "faces.csv"
    samples = Manifest.read(faces).samples if faces.exists() else ()
    names = [socket.gethostname(), getpass.getuser(), str(Path.home()), str(tmp_path), "runs/one",
             tmp_path.name, *os.environ.get("USER", "").split()]  # fmt: skip
    secrets = {name for name in names if len(name) > 3 and name not in ("root", "/root")} | {
        "/root/",
        "/home/",
        "/tmp/",
    }
    secrets |= {text for one in samples for text in (one.sample_id, one.path, Path(one.path).stem)}
    secrets |= {*rows(21, seed=1, split="test").names}
    sent = b"\n".join(unpacked(data) for data in [*hub.sent, *hub.stored.values(), *hub.everything().values()])
    return {secret for secret in secrets if secret.encode() in sent}


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    ["linear", "xgboost --set trees=3", "lightgbm --set trees=2", "sklearn:sklearn.linear_model.LogisticRegression"],
)
def test_no_byte_that_is_sent_tells_of_a_sample_a_place_or_this_machine(run, filled, hub, tmp_path, head):
    if head.startswith("lightgbm"):
        pytest.importorskip("lightgbm", reason="the extra [lightgbm] is not installed")
    run(f"cer-fuse train --head {head} --store {filled} -o runs/one")
    assert str(filled) in (tmp_path / "runs/one/config.json").read_text()
    pushed = run("cer-fuse push runs/one me/faces --yes")
    assert pushed.stdout.startswith("sent ")
    files = hub.repositories["models/me/faces"].files
    assert {"README.md", "head.json", "head.safetensors", "metrics.json", "environment.json", "confusion.png"} <= {
        *files
    }
    assert not {"predictions.csv", "groups.csv", "report.json", "config.json", "run.json"} & {*files}
    assert told_of(hub, tmp_path) == set()


def test_no_byte_of_a_small_run_tells_of_a_sample_or_a_place_either(trained, run, kept_once, tmp_path):
    assert str(kept_once.parent) in (kept_once / "config.json").read_text()
    run("cer-fuse push runs/one me/faces --yes")
    assert told_of(trained, tmp_path) == set()
    assert str(kept_once.parent).encode() not in b"".join([*trained.sent, *trained.everything().values()])


def test_what_leaves_is_said_first_with_sizes_and_asked(trained, run, tmp_path):
    hub = trained
    result = CliRunner().invoke(fuse.app, ["push", "runs/one", "me/faces"], input="n\n")
    assert result.exit_code == 1
    said = words(result)
    assert "to hf://me/faces, private: 6 files" in said
    assert "head.safetensors" in said
    assert "no sample ids, no labels of samples, no answers" in said
    assert said.index("head.safetensors") < said.index("may all that leave this machine?")
    assert hub.repositories == {}
    assert {method for method, _ in hub.asked} == {"GET"}
    hub.asked.clear()
    dry = run("cer-fuse push runs/one me/faces --dry-run --json")
    found = json.loads(dry.stdout)
    assert found["commit"] is None
    assert set(found["files"]) == {"README.md", "head.json", "head.safetensors", "metrics.json", "environment.json",
                                   "confusion.png"}  # fmt: skip
    assert hub.asked == []


def test_a_pushed_head_answers_as_the_run_s_does_at_every_revision(trained, run, tmp_path, monkeypatch):
    hub, x = trained, asked_about()
    run("cer-fuse push runs/one hf://me/faces --yes")
    first = hub.repositories["models/me/faces"].head
    own = load_head("runs/one/head").predict_proba(x)
    np.testing.assert_array_equal(load_head("hf://me/faces").predict_proba(x), own)
    assert read_head_info("hf://me/faces").blocks == (("vit", 3), ("manet", 3))
    assert "store" in read_head_info("runs/one/head").extra
    assert "store" not in read_head_info("hf://me/faces").extra

    report, train, _ = trained_once(("vit",))
    at = environment(threads={"blas": 1}, device="cpu")
    write_run(tmp_path / "runs/two", config_of(report, train), report, groups=None, environment=at)
    assert "of its files 6 are replaced" in words(run("cer-fuse push runs/two me/faces --yes"))
    assert load_head("hf://me/faces").blocks_ == {"vit": 3}
    np.testing.assert_array_equal(load_head("hf://me/faces", revision=first).predict_proba(x), own)
    hub.asked.clear()
    np.testing.assert_array_equal(load_head(f"hf://me/faces@{first}").predict_proba(x), own)
    assert hub.asked == []  # a commit never changes
    monkeypatch.delattr(huggingface_hub, "constants", raising=False)  # no attribute before somebody imports it
    [code, _] = Page("docs/hub.md").python
    exec(re.sub("[0-9a-f]{40}", first, code.replace("user/rafdb-mlp", "me/faces")), found := {})
    np.testing.assert_array_equal(found["head"].predict_proba(x), own)
    assert load_head("hf://me/faces").blocks_ == {"vit": 3}

    pulled = json.loads(run(f"cer-fuse pull me/faces --revision {first} --json").stdout)
    assert (pulled["head"], pulled["commit"]) == ("runs/faces", first)
    np.testing.assert_array_equal(load_head("runs/faces").predict_proba(x), own)
    assert "holds a head already" in words(run("cer-fuse pull me/faces -o runs/faces", code=1))
    run("cer-fuse pull me/faces -o runs/faces --overwrite")
    assert load_head("runs/faces").blocks_ == {"vit": 3}
    with pytest.raises(SavedHeadError, match="a revision is of the Hub"):
        load_head("runs/one/head", revision=first)


def test_a_new_process_finds_and_fetches_what_was_pushed(trained, run):
    run("cer-fuse push runs/one me/faces --yes")  # this process has imported more of huggingface_hub than a new one
    lines = (
        "from cer_fusion.kit.hub import HubPlace, fetch, pinned\n"
        "place = pinned(HubPlace.parse('hf://me/faces', 'model'))\n"
        "path, commit = fetch(place, 'head.json')\n"
        "print(commit, len(path.read_bytes()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_DISABLE_XET": "1"}
    told = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True, timeout=60)
    there = trained.repositories["models/me/faces"]
    assert told.stdout.split() == [there.head, str(len(there.files["head.json"]))], told.stderr


@pytest.mark.slow
def test_commands_take_a_head_of_the_hub_where_they_take_a_folder(run, filled, hub):
    run("cer-fuse train --head linear -o runs/one")
    run("cer-fuse push runs/one me/faces --yes")
    run("cer-fuse predict --head runs/one --split test -o own.csv")
    run("cer-fuse predict --head hf://me/faces --split test -o there.csv")
    assert Path("own.csv").read_bytes() == Path("there.csv").read_bytes()
    assert "accuracy" in run("cer-fuse evaluate --head hf://me/faces").output.lower()


def test_a_second_push_of_the_same_sends_nothing_and_one_of_less_removes_what_is_no_longer_there(trained, run):
    hub = trained
    run("cer-fuse push runs/one me/faces --yes --with-answers")
    there = hub.repositories["models/me/faces"]
    assert "predictions.csv" in there.files
    assert len(there.commits) == 2
    run("cer-fuse push runs/one me/faces --yes --with-answers")
    assert len(there.commits) == 2
    there.commit({**there.files, "LICENSE": b"mine"})
    assert "and groups.csv, predictions.csv removed" in words(run("cer-fuse push runs/one me/faces --yes"))
    assert "predictions.csv" not in there.files
    assert there.files["LICENSE"] == b"mine"


def test_answers_leave_only_where_they_are_asked_for_and_that_is_said(trained, run, tmp_path):
    said = words(run("cer-fuse push runs/one me/faces --yes --with-answers"))
    assert "sample ids, labels, groups and the answers to them, as --with-answers asks" in said
    sent = trained.repositories["models/me/faces"].files["predictions.csv"]
    assert sent == Path("runs/one/predictions.csv").read_bytes()
    assert told_of(trained, tmp_path) >= {read_run(Path("runs/one")).predictions.ids[0]}
    assert str(tmp_path) not in told_of(trained, tmp_path)


@pytest.mark.slow
def test_a_head_that_holds_rows_is_sent_only_where_that_is_asked_for(run, filled, hub):
    for head in ("knn", "svm", "late --set member=svm", "sklearn:sklearn.neighbors.KNeighborsClassifier"):
        run(f"cer-fuse train --head {head} -o runs/rows --overwrite")
        assert "of the rows that it learned from" in words(run("cer-fuse push runs/rows me/rows --dry-run", code=1))
        run("cer-fuse push runs/rows me/rows --dry-run --with-rows")
    assert hub.asked == []


def test_the_card_says_what_how_good_on_what_and_under_which_licence(trained, run):
    yaml = pytest.importorskip("yaml")
    run("cer-fuse push runs/one me/faces --yes --license cc-by-nc-4.0")
    card = trained.repositories["models/me/faces"].files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    kept = read_run(Path("runs/one"))
    assert (front["library_name"], front["license"]) == ("cer-fusion", "cc-by-nc-4.0")
    [result] = front["model-index"][0]["results"]
    accuracy, f1 = result["metrics"]
    assert accuracy["value"] == kept.scores.accuracy
    assert f1["value"] == kept.scores.macro_f1
    low, high = accuracy["args"]["interval"]
    assert low < kept.scores.accuracy < high
    assert {"cer-fusion", "feature-fusion"} <= set(front["tags"])
    order = re.findall(r"^\| (\d+) \| (\w+) \| (\d+) \| (\d+) \|$", card, re.M)
    assert [name for _, name, _, _ in order] == list(kept.config.classes)
    assert [int(n) for _, _, n, _ in order] == list(kept.config.train_supports)
    assert f"`{kept.config.data_digest}`" in card
    assert f"`{kept.digest}`" in card
    assert all(print_ in card for print_ in kept.config.fingerprints.values())
    assert f"{100 * kept.scores.accuracy:.2f} [" in card
    assert 'load_head("hf://me/faces")' in card
    run("cer-fuse push runs/one me/other --yes")
    assert "\nlicense: unknown\n" in trained.repositories["models/me/other"].files["README.md"].decode()
    assert "no licence" not in words(run("cer-fuse push runs/one me/x --dry-run"))
    assert "a licence is a name such as" in words(run("cer-fuse push runs/one me/x --dry-run --license GPL:3", code=1))


def test_equal_rows_have_one_digest_and_other_labels_or_splits_another():
    from cer_fusion.fusion.keeping.runs import data_digest

    one = data_digest({"train": (["a", "b"], ["x", "y"]), "test": (["c"], ["x"])})
    assert one == data_digest({"test": (["c"], ["x"]), "train": (["b", "a"], ["y", "x"])})
    others = [{"train": (["a", "b"], ["x", "x"]), "test": (["c"], ["x"])},
              {"train": (["a"], ["x"]), "test": (["c", "b"], ["x", "y"])}]  # fmt: skip
    assert one not in map(data_digest, others)


@pytest.mark.parametrize(
    ("there", "option", "message"),
    [
        (False, "", "is public, and a push is private unless asked otherwise; nothing was sent"),
        (True, "--public", "is private, and --public was given; nothing was sent"),
    ],
)
def test_a_repository_of_the_other_visibility_gets_nothing(trained, run, there, option, message):
    hub = trained
    hub.made("models/me/faces", private=there)
    assert message in words(run(f"cer-fuse push runs/one me/faces --yes {option}", code=1))
    assert len(hub.repositories["models/me/faces"].commits) == 1
    assert {method for method, _ in hub.asked} == {"GET"}


def test_a_hub_that_makes_a_public_repository_where_a_private_one_was_asked_for_gets_nothing(trained, run):
    hub = trained
    hub.makes_public = True
    assert "is public, and a push is private" in words(run("cer-fuse push runs/one me/faces --yes", code=1))
    assert len(hub.repositories["models/me/faces"].commits) == 1
    assert not any("preupload" in path or "commit" in path for _, path in hub.asked)


def test_public_is_public(trained, run):
    assert "to hf://me/faces, public: 6 files" in words(run("cer-fuse push runs/one me/faces --yes --public"))
    assert trained.repositories["models/me/faces"].private is False


def test_somebody_else_s_repository_is_left_as_it_is_and_an_empty_one_is_filled(trained, run):
    hub = trained
    hub.made("models/me/faces", files={"pytorch_model.bin": b"theirs", "README.md": b"theirs"})
    said = words(run("cer-fuse push runs/one me/faces --yes", code=1))
    assert "holds files that no push of this kind left (pytorch_model.bin)" in said
    hub.made("models/me/new", files={"README.md": b"made by hand"})
    run("cer-fuse push runs/one me/new --yes")
    assert "head.json" in hub.repositories["models/me/new"].files


def test_without_a_token_it_is_said_how_to_get_one(trained, run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    said = words(run("cer-fuse push runs/one me/faces --yes", code=1))
    assert "needs a token, and there is none log in with: hf auth login, or set HF_TOKEN" in said
    assert trained.asked == []
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "does not accept the token" in words(run("cer-fuse push runs/one me/faces --yes", code=1))
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("where", "status", "message"),
    [
        ("/api/models", 401, "does not accept the token"),
        ("/api/models", 403, "the token may not do that"),
        ("/api/models", 500, "the Hub answered 500, which is a fault of its own"),
        ("/api/models", 0, "the connection failed"),
        ("/api/repos/create", 403, "the token may not do that"),
        ("/api/repos/create", 409, "somebody changed it meanwhile"),
        ("/api/repos/create", 500, "answered 500"),
        ("preupload", 404, "there is no such repository, or the token may not see it"),
        ("preupload", 500, "nothing was committed"),
        ("objects/batch", 403, "nothing was committed"),
        ("/lfs/", 500, "nothing was committed"),
        ("/lfs/", 0, "whether it arrived is not known: the same command again sends what is not there"),
        ("/commit/", 403, "nothing was committed"),
        ("/commit/", 412, "somebody changed it meanwhile"),
        ("/commit/", 500, "the repository is there now, and empty"),
        ("/commit/", 0, "whether it arrived is not known"),
    ],
)
def test_whatever_the_hub_answers_is_told_in_words_and_the_next_push_ends_well(trained, run, where, status, message):
    hub = trained
    hub.faults[where] = status
    said = words(run("cer-fuse push runs/one me/faces --yes", code=1))
    assert message in said
    assert "hf://me/faces could not be" in said
    assert TOKEN not in said
    assert not any("head.json" in name for name in hub.everything())
    hub.faults.clear()
    run("cer-fuse push runs/one me/faces --yes")
    assert load_head("hf://me/faces").name == "linear"


@pytest.mark.parametrize(
    ("where", "status", "message"),
    [
        ("", None, "there is no such repository, or the token may not see it"),
        ("/api/models", 401, "does not accept the token"),
        ("/api/models", 500, "the Hub answered 500"),
        ("/api/models", 0, "the connection failed"),
        ("/resolve/", 403, "the token may not do that"),
        ("/resolve/", 404, "could not be fetched from"),
        ("/resolve/", 500, "the Hub answered 500"),
        ("/resolve/", 0, "the connection failed"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_words_and_nothing_is_left(trained, run, where, status, message):
    hub = trained
    if status is not None:
        run("cer-fuse push runs/one me/faces --yes")
        hub.faults[where] = status
    assert message in words(run("cer-fuse pull me/faces", code=1))
    assert not Path("runs/faces").exists()
    with pytest.raises(HubError, match=re.escape(message)):
        load_head("hf://me/faces")


def test_a_hub_that_is_down_is_no_reason_to_take_what_was_fetched_before_unless_that_is_asked_for(
    trained, run, monkeypatch
):
    run("cer-fuse push runs/one me/faces --yes")
    load_head("hf://me/faces")
    trained.faults[""] = 0
    with pytest.raises(HubError, match="the connection failed"):
        load_head("hf://me/faces")
    assert load_head("hf://me/faces", revision=trained.repositories["models/me/faces"].head).name == "linear"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_head("hf://me/faces").name == "linear"
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        load_head("hf://me/another")


def test_what_is_loaded_is_checked_by_digest_and_nothing_else_is_fetched(trained, run):
    hub = trained
    run("cer-fuse push runs/one me/faces --yes")
    there = hub.repositories["models/me/faces"]
    damaged = bytearray(there.files["head.safetensors"])
    damaged[-1] ^= 1
    there.commit({**there.files, "head.safetensors": bytes(damaged), "head.pkl": b"cos\nsystem\n(S'false'\ntR."})
    with pytest.raises(SavedHeadError, match="is damaged: expected"):
        load_head("hf://me/faces")
    assert "is damaged" in words(run("cer-fuse pull me/faces", code=1))
    assert not Path("runs/faces").exists()
    assert not any(path.endswith(".pkl") for _, path in hub.asked)
    info = json.loads(there.files["head.json"])
    there.commit({**there.files, "head.json": json.dumps({**info, "seed": 1}).encode()})
    with pytest.raises(SavedHeadError, match=r"hf://me/faces: head\.json"):
        load_head("hf://me/faces")
    there.commit({"README.md": b"nothing"})
    with pytest.raises(HubError, match=r"there is no file 'head\.json' in it"):
        load_head("hf://me/faces")
    with pytest.raises(HubError, match="there is no revision 'v9'"):
        load_head("hf://me/faces", revision="v9")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faces", "names no repository of the Hub: expected user/name"),
        ("me/../faces", "names no repository"),
        ("me/a--b", "names no repository"),
        ("me/fa ces", "names no repository"),
        ("hf://datasets/me/faces", "is a repository of another kind"),
        ("hf://spaces/me/faces", "is a repository of another kind"),
        (f"me/{'x' * 100}", "is longer than the 96 letters"),
    ],
)
def test_what_names_no_repository_is_refused_before_anything_is_asked(trained, run, name, message):
    result = CliRunner().invoke(fuse.app, ["push", "runs/one", name])
    assert result.exit_code == 2
    assert message in words(result)
    assert trained.asked == []


def test_features_become_a_dataset_with_named_labels_and_splits(run, filled, hub, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pushed = run("cer-feat push --store features hf://datasets/me/faces --yes")
    assert "no sample ids, no groups, no paths, no pictures" in words(pushed)
    there = hub.repositories["datasets/me/faces"]
    assert there.private
    assert told_of(hub, tmp_path) == set()
    view = Store("features").view(["one", "two"])
    for split in ("train", "test"):
        table = parquet.read_table(io.BytesIO(there.files[f"data/{split}-00000-of-00001.parquet"]))
        assert table.column_names == ["label", "split", "one", "two"]
        part = view.take([one == split for one in view.splits])
        assert table["label"].to_pylist() == part.y.tolist()
        np.testing.assert_array_equal(np.stack(table["two"].to_pylist()), part.blocks["two"])
        named = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]
        assert named == {"names": list(view.classes), "_type": "ClassLabel"}
    card = there.files["README.md"].decode()
    assert "path: data/train-*.parquet" in card
    assert "pretty" not in card
    run("cer-feat push --store features hf://datasets/me/faces --yes --with-paths --with-ids -f one --split test")
    assert set(there.files) == {".gitattributes", "README.md", "export.json", "data/test-00000-of-00001.parquet"}
    table = parquet.read_table(io.BytesIO(there.files["data/test-00000-of-00001.parquet"]))
    assert table.column_names == ["sample_id", "path", "label", "split", "group", "one"]
    path_of = {sample.sample_id: sample.path for sample in Manifest.read(tmp_path / "faces.csv").samples}
    assert [path_of[name] for name in table["sample_id"].to_pylist()] == table["path"].to_pylist()
    assert str(tmp_path) not in told_of(hub, tmp_path)


def test_the_library_datasets_reads_the_parquet_files(run, filled, hub, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    run("cer-feat push --store features hf://datasets/me/faces --yes --with-paths")
    for name, data in hub.repositories["datasets/me/faces"].files.items():
        place = tmp_path / "there" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    found = datasets.load_dataset(str(tmp_path / "there"), cache_dir=str(tmp_path / "ds"))
    view = Store("features").view(["one", "two"])
    assert set(found) == set(view.splits)
    assert found["train"].features["label"].names == list(view.classes)
    assert found["test"].num_rows == view.splits.count("test")
    np.testing.assert_allclose(found["train"].with_format("numpy")["one"][0], view.blocks["one"][0])
    [_, code] = Page("docs/hub.md").python
    exec(code.replace("user/faces", str(tmp_path / "there")), named := {})
    assert named["names"] == list(view.classes)


def test_features_pulled_from_the_hub_and_options_of_the_other_kind_are_told(run, filled, hub):
    assert "read them with datasets.load_dataset" in words(run("cer-feat pull hf://datasets/me/faces", code=2))
    assert "is a repository of another kind" in words(run("cer-feat push hf://spaces/me/faces --yes", code=2))
    assert "expected hf://datasets/user/name" in words(run("cer-feat push hf://datasets/faces --yes", code=2))
    assert hub.asked == []
