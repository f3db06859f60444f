from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cer_fusion.fusion.judging.comparison import Members
from tests.fusion.page.browsing import started

CLASSES = ("Fearfully_Surprised", "<script>window.hacked = 1</script>", "Sadly & 'Angry'", 'x" onload="y')


@pytest.fixture(scope="module")
def members() -> Members:
    """Three members that disagree, about 64 rows of classes whose names try to be markup; 16 rows a class make ties."""
    rng = np.random.default_rng(3)
    y = np.repeat(np.arange(4), 16)
    right = np.eye(4)[y] * np.array([2.0, 1.2, 0.8])[:, None, None]
    scores = np.exp(right + rng.normal(size=(3, 64, 4)))
    proba = (scores / scores.sum(axis=2, keepdims=True)).astype(np.float32).astype(np.float64)
    return Members(names=("vit", "<img src=x onerror=window.hacked=2>", "resnet50"), classes=CLASSES, proba=proba, y=y)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(str(tmp_path_factory.mktemp("profile")))
    yield driver
    driver.quit()
