"""Plugins of other distributions: found, lazy, weaker than what is built in, named when broken, kept in provenance."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cer_fusion import backbones
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests import adapters
from cer_fusion.frames import OptionError, detector_named
from cer_fusion.frames.detectors import detector_again
from cer_fusion.fusion import (
    head_names,
    installed_heads,
    load_head,
    make_head,
    read_head_info,
    save_head,
)
from cer_fusion.fusion.heads import heads_in_pieces
from cer_fusion.kit import plugins as table
from cer_fusion.kit.plugins import PluginError
from cer_fusion.testing import check_backbone, check_detector, check_head, check_reader
from tests.pages import Page

READER = """
from cer_fusion.featstore.manifests.adapters.folder import read_folder


def read(root, *, shout=False):
    return read_folder(root)
"""
DETECTOR = """
import numpy as np

from cer_fusion.frames import Face


class Reds:
    def __init__(self, file, *, min_face_px, min_score, device):
        self.file = file

    def detect(self, picture):
        red = (picture[..., 0] > 200) & (picture[..., 1] < 60)
        if not red.any():
            return []
        rows, columns = np.nonzero(red)
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        return [Face(box=box, score=1.0, landmarks=((0.0, 0.0),) * 5)]

    def identity(self):
        return {"method": "reds"}

    def versions(self):
        return {"numpy": np.__version__}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a distribution of modules and entry points into a folder on the path."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delenv("CER_PLUGINS", raising=False)
    modules: set[str] = set()

    def install(name: str, points: str, *, version: str = "1.2", **files: str) -> Path:
        info = place / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
        for module, text in files.items():
            (place / f"{module}.py").write_text(text)
            modules.add(module)
        table.forget()
        return place

    yield install
    for module in modules:
        sys.modules.pop(module, None)
    adapters.KINDS.pop("theirs", None)
    table.forget()


def test_a_head_of_a_plugin_is_listed_made_kept_and_read_back_with_its_distribution(install, tmp_path, monkeypatch):
    source = Page("CONTRIBUTING.md").file("fusion/heads/prior.py").replace("from .", "from cer_fusion.fusion.heads.")
    source = source.replace("from cer_fusion.fusion.heads..", "from cer_fusion.fusion.")
    install("priors", "[cer_fusion.heads]\nprior = their_prior:PriorHead\n", their_prior=source)
    assert head_names()[-1] == "prior"
    assert "their_prior" not in sys.modules  # known by name alone
    assert "prior" in installed_heads()
    assert "prior" in heads_in_pieces()
    check_head(lambda **params: make_head("prior", **params), learns=None)
    X, y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2
    for name, params in (("prior", {}), ("late", {"member": "prior"})):
        head = make_head(name, blocks={"a": 3}, **params).fit(X, y)
        save_head(head, tmp_path / name, fingerprints={"a": "ab"})
        assert read_head_info(tmp_path / name).versions["priors"] == "1.2"
        np.testing.assert_array_equal(load_head(tmp_path / name).predict_proba(X), head.predict_proba(X))
    monkeypatch.setenv("CER_PLUGINS", "0")
    assert "prior" not in head_names()
    for name in ("prior", "late"):  # itself, and by a head inside it
        with pytest.raises(
            PluginError, match=r"needs the plugin 'prior' \(heads\) of priors 1.2(?s:.)*unset it"
        ) as told:
            load_head(tmp_path / name)
        assert "not whole" not in str(told.value)
        assert "damaged" not in str(told.value)
    monkeypatch.delenv("CER_PLUGINS")
    table.forget()
    monkeypatch.setattr(table, "entry_points", lambda group: ())
    with pytest.raises(PluginError, match=r"which is not here\n  install it: pip install 'priors==1.2'"):
        load_head(tmp_path / "prior")


def test_a_backbone_of_a_plugin_is_listed_without_running_it_and_its_version_is_in_its_identity(install, monkeypatch):
    source = Page("CONTRIBUTING.md").file("backbones/zoo/two.py").replace("from ...", "from cer_fusion.")
    source = source.replace("from ..", "from cer_fusion.backbones.")
    place = install("twos", "[cer_fusion.backbones]\ntwo = their_two\n", their_two=source)
    assert "two" in backbones.names()
    assert [row["size_px"] for row in backbones.catalogue() if row["name"] == "two"] == [16]
    assert "their_two" not in sys.modules
    made = backbones.create("two", weights="random")
    check_backbone(made)
    assert made.spec()["plugin"] == {"distribution": "twos", "version": "1.2"}
    from cer_fusion.backbones.making import recreate

    again = recreate("two", json.loads(json.dumps(made.spec())), made.describe())
    assert again.spec() == made.spec()
    (place / "twos-1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: twos\nVersion: 1.3\n")
    table.forget()
    with pytest.raises(backbones.OptionError, match=r"plugin was .*'1\.2'.*, is .*'1\.3'"):
        recreate("two", made.spec(), made.describe())
    monkeypatch.setenv("CER_PLUGINS", "0")
    assert "two" not in backbones.names()


def test_ours_have_no_plugin_in_their_identity():
    assert "plugin" not in backbones.create("timm:test_vit", weights="random").spec()


def test_a_reader_of_a_plugin_makes_manifests_that_say_whose_it_was(install, tmp_path):
    install("readers", "[cer_fusion.manifests]\ntheirs = their_reader:read\n", their_reader=READER)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "data" / label / "1.png")
    found = adapters.build("theirs", tmp_path / "data", shout=True)
    assert found.manifest.ids == ("a/1", "b/1")
    assert found.manifest.origin["plugin"] == {"distribution": "readers", "version": "1.2"}
    check_reader(adapters.KINDS["theirs"].read, tmp_path / "data")
    with pytest.raises(ManifestError, match="did you mean 'theirs'"):
        adapters.build("their", tmp_path / "data")


def test_a_detector_of_a_plugin_finds_and_says_whose_it_is(install):
    install("reds", "[cer_fusion.detectors]\nreds = their_reds:Reds\n", their_reds=DETECTOR)
    detector = detector_named("reds:file.bin")
    assert detector.identity() == {"method": "reds", "plugin": {"distribution": "reds", "version": "1.2"}}
    assert detector.versions()["reds"] == "1.2"
    picture = np.full((40, 60, 3), 90, np.uint8)
    picture[10:30, 20:45] = (250, 0, 0)
    check_detector(detector, picture, (20, 10, 45, 30))
    assert detector_again(detector.identity(), "reds").identity() == detector.identity()
    older = {**detector.identity(), "plugin": {"distribution": "reds", "version": "1.1"}}
    with pytest.raises(OptionError, match=r"--detector NAME:FILE, of reds 1\.1"):
        detector_again(older, "reds")
    with pytest.raises(OptionError, match="a detector is mtcnn"):
        detector_named("blues")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_library", "no_such_library"),
        ("PriorHead = 3", "no subclass"),
        ("1 / 0", "Zero"),
    ],
)
def test_a_broken_head_is_named_left_out_of_lists_and_an_error_when_asked_for(install, caplog, source, why):
    install("priors", "[cer_fusion.heads]\nprior = their_broken:PriorHead\n", their_broken=source)
    assert "prior" not in installed_heads()
    assert "prior" not in installed_heads()
    [told] = caplog.messages
    assert "the plugin 'prior' (heads, their_broken:PriorHead) of priors 1.2 cannot be used" in told
    with pytest.raises(PluginError, match=why):
        make_head("prior")
    assert make_head("ridge").name == "ridge"


@pytest.mark.parametrize(
    ("source", "why"),
    [("x = 1", "RECIPE"), ("def (", "literals"), ("RECIPE = Recipe(name='three')", "'three'"), (None, "no module")],
    ids=["none", "no Python", "another name", "no file"],
)
def test_a_broken_backbone_is_named_and_left_out(install, caplog, source, why):
    files: dict[str, Any] = {} if source is None else {"their_broken_two": source}
    install("twos", "[cer_fusion.backbones]\ntwo = their_broken_two\n", **files)
    assert "two" not in backbones.names()
    assert "vit" in backbones.names()
    assert len(caplog.messages) == 1
    assert "of twos 1.2 cannot be used" in caplog.messages[0]
    assert why in caplog.messages[0]
    with pytest.raises(PluginError, match=r"the plugin 'two' \(backbones.* of twos 1.2 cannot be used"):
        backbones.create("two", weights="random")


def test_a_plugin_that_ends_the_program_when_it_is_imported_is_broken_as_any_other(install, caplog):
    from cer_fusion.commands.doctor import guarded, libraries

    install(
        "enders",
        "[cer_fusion.heads]\nender = their_end:Head\n[cer_fusion.backbones]\nend = their_ends.two\n"
        "[cer_fusion.manifests]\nends = their_end:read\n[cer_fusion.detectors]\nendless = their_end:Detector\n",
        their_end="raise SystemExit('bye')", their_ends="raise SystemExit('bye')",
    )  # fmt: skip
    assert "ender" not in installed_heads()
    assert "end" not in backbones.names()
    for call in (
        lambda: make_head("ender"),
        lambda: backbones.create("end", weights="random"),
        lambda: adapters.build("ends", "."),
        lambda: detector_named("endless"),
    ):
        with pytest.raises(PluginError, match=r"of enders 1.2 cannot be used: (SystemExit: )?bye"):
            call()
    assert [one.status for one in libraries.plugin_checks()] == ["warn"] * 4

    def bye() -> Any:
        raise SystemExit("bye")

    [told] = guarded("a check", bye, limit_s=5)
    assert (told.name, told.status, told.found) == ("a check", "fail", "SystemExit: bye")


def test_what_is_built_in_wins_and_the_first_of_two_plugins_of_a_name(install, caplog):
    install("ours", "[cer_fusion.heads]\nmlp = nowhere:X\nnew = nowhere:X\n")
    install("zours", "[cer_fusion.heads]\nnew = elsewhere:X\n")
    assert make_head("mlp").name == "mlp"
    assert head_names().count("mlp") == 1
    assert head_names()[-1] == "new"
    assert any("'mlp' is built in, and what is built in wins" in told for told in caplog.messages)
    assert any("zours" in told and "ours has a plugin of that name too" in told for told in caplog.messages)


def test_a_check_says_which_promise_does_not_hold():
    from sklearn.linear_model import LogisticRegression

    class Careless(LogisticRegression):
        def __init__(self, blocks=None, random_state=None):
            super().__init__(random_state=random_state)
            self.blocks = self.blocks_ = blocks

    with pytest.raises(AssertionError, match="a promise does not hold"):
        check_head(Careless)


def test_doctor_lists_the_plugins_with_their_distributions_and_says_which_are_broken_and_why(install, monkeypatch):
    from cer_fusion.commands.doctor import libraries

    install(
        "several",
        "[cer_fusion.heads]\ngone = no_such_module:Head\nnone = their_none:VALUE\nmlp = their_none:VALUE\n"
        "[cer_fusion.manifests]\ntheirs = their_reader:read\n"
        "[cer_fusion.detectors]\nreds = their_reds:Reds\nyunet = their_reds:Reds\n",
        their_none="VALUE = 1\n", their_reader=READER, their_reds=DETECTOR,
    )  # fmt: skip
    install("more", "[cer_fusion.heads]\nnone = their_other:VALUE\n", their_other="VALUE = 2\n")
    found = {(one.name, one.found.partition(" ")[0]): one for one in libraries.plugin_checks()}

    def check(name: str, distribution: str = "several") -> Any:
        return found[f"plugin {name}", distribution]

    assert check("theirs (manifests)").status == check("reds (detectors)").status == "ok"
    assert "1.2, their_reader:read" in check("theirs (manifests)").found
    assert "No module named 'no_such_module'" in check("gone (heads)").found
    assert "no subclass of" in check("none (heads)", "more").found
    assert "more has one of that name" in check("none (heads)").found
    assert all(f"'{n.split()[0]}' is built in" in check(n).found for n in ("mlp (heads)", "yunet (detectors)"))
    assert {one.status for one in found.values()} == {"ok", "warn"}
    monkeypatch.setenv("CER_PLUGINS", "0")
    (left_out,) = libraries.plugin_checks()
    assert "left out by CER_PLUGINS=0" in left_out.found
    assert "reds (several)" in left_out.found
