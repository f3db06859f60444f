from __future__ import annotations

import getpass
import json
import platform
from types import SimpleNamespace

from cer_fusion.fusion.keeping.runs import LIBRARIES, device_of, environment


def test_the_environment_names_versions_threads_and_device_and_nobody():
    found = environment(threads={"blas": 2}, device="cuda:0")
    assert set(found["libraries"]) == set(LIBRARIES)
    assert found["libraries"]["numpy"][0].isdigit()
    assert (found["threads"], found["device"]) == ({"blas": 2}, "cuda:0")
    text = json.dumps(found)
    assert platform.node() not in text
    assert getpass.getuser() not in text
    assert "/" not in text


def test_the_device_is_that_of_the_head_or_of_what_is_inside_it():
    gpu, plain = SimpleNamespace(device_="cuda:0"), SimpleNamespace()
    assert device_of(plain) == "cpu"
    assert device_of(gpu) == "cuda:0"
    assert device_of(SimpleNamespace(head_=gpu)) == "cuda:0"
    assert device_of(SimpleNamespace(members_={"a": plain, "b": gpu})) == "cuda:0"
