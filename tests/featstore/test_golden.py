from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Store, verify

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())
EXPECTED = np.arange(20, dtype=np.float32).reshape(4, 5) / 4


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_store_of_every_released_format_opens_with_the_same_rows(folder, mapped):
    store = Store(folder)
    assert store.datasets() == ["faces"]
    for dtype in ("float32", "float16"):
        view = store.view([f"toy_{dtype}"], mapped=mapped)
        assert view.ids == ("s0", "größe/1", "s2", "s3")
        np.testing.assert_array_equal(view.join(), EXPECTED)
        np.testing.assert_array_equal(view.y, [0, 1, 2, 3])
        assert view.groups == ("s0", "größe/1", "g", "g")
    assert verify(store).problems == ()


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_the_fingerprints_of_released_formats_do_not_drift(folder):
    found = {f.name: f.spec.fingerprint[:12] for f in Store(folder).features()}
    assert found == {"toy_float32": "c2db831bed4e", "toy_float16": "c891f99fe6b4"}


def test_the_reader_of_the_format_page_works_as_printed(monkeypatch, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features").symlink_to(GOLDEN[0])
    code = code.replace("resnet50@*", "toy_float32@*").replace("bottleneck512", "left")
    found: dict[str, object] = {}
    exec(code, found)
    assert list(found["ids"]) == ["s2", "s3"]
    np.testing.assert_array_equal(found["rows"], EXPECTED[2:, :3])
