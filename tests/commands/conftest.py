from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cer_fusion.commands import feat, fuse
from cer_fusion.demofaces import write_dataset
from cer_fusion.featstore import class_set


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `cer-feat …` or `cer-fuse …` in an empty folder and check its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CER_STORE", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # which would say how wide tables are

    def run(command: str, *, code: int = 0) -> Result:
        name, *args = command.split()
        result = CliRunner().invoke({"cer-feat": feat.app, "cer-fuse": fuse.app}[name], args)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-two schematic faces in RAF-DB's compound layout, drawn once."""
    root = tmp_path_factory.mktemp("drawn")
    counts = dict.fromkeys(class_set("abaw7").labels, 4)
    write_dataset(root, per_class_train=counts, per_class_test=dict.fromkeys(counts, 2))
    return root


@pytest.fixture
def faces(run: Callable[..., Result], drawn: Path, tmp_path: Path) -> Path:
    """A manifest of the schematic faces in the current folder."""
    run(f"cer-feat manifest rafdb-compound {drawn} -o faces.csv")
    return tmp_path / "faces.csv"


@pytest.fixture
def filled(run: Callable[..., Result], faces: Path, tmp_path: Path) -> Path:
    """The default store with two imported features that a head can learn from: `one`, and `two` with less noise."""
    from cer_fusion.featstore import Manifest

    manifest = Manifest.read(faces)
    rng = np.random.default_rng(0)
    (tmp_path / "names.txt").write_text("\n".join(manifest.ids))
    for name, noise in (("one", 0.9), ("two", 0.6)):
        rows = np.eye(7)[manifest.y] @ rng.normal(size=(7, 12)) + noise * rng.normal(size=(len(manifest), 12))
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float32))
        run(f"cer-feat import {name}.npy --names names.txt --as {name} --data faces.csv")
    return tmp_path / "features"
