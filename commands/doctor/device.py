"""What there is to compute with: GPU, threads, memory, bfloat16."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ...kit import machine
from ...kit.machine import bound_cores, cores, whole_cores
from ..console import size_text
from . import Check, guarded, ok, one_line, warn

_LITTLE_MEMORY = 2 * 10**9


def checks() -> list[Check]:
    """All checks of what there is to compute with; imports torch."""
    return [
        *guarded("gpu", _gpu),
        *guarded("threads", _threads),
        *guarded("waiting threads", _waiting),
        *guarded("bfloat16", _bfloat16),
        *guarded("memory", _memory),
    ]


def _gpu() -> list[Check]:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return [_one_gpu(torch, number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [ok("gpu", "Apple GPU (mps), used with --device auto")]
    seen = _driver_sees()
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    if not seen:
        return [ok("gpu", f"none found (torch {torch.__version__} has {built}): the CPU is used")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.version.cuda:
        return [warn("gpu", f"{seen}, but torch {torch.__version__} is built without CUDA",
                     "install a CUDA build of torch and torchvision to use it")]  # fmt: skip
    if hidden is not None:
        return [warn("gpu", f"{seen}, but CUDA_VISIBLE_DEVICES={hidden!r} hides it", "unset it to use the GPU")]
    return [warn("gpu", f"{seen}, but torch (built for {built}) cannot use it: {_cuda_refusal(torch)}",
                 "upgrade the driver, or install a torch built for an older CUDA")]  # fmt: skip


def _one_gpu(torch: Any, number: int) -> Check:
    name = f"gpu cuda:{number}"
    free, total = torch.cuda.mem_get_info(number)
    major, minor = torch.cuda.get_device_capability(number)
    text = (
        f"{torch.cuda.get_device_name(number)}, {size_text(free)} of {size_text(total)} free, CUDA {torch.version.cuda}"
    )
    try:
        torch.ones(2, device=f"cuda:{number}").sum().item()
    except RuntimeError as error:  # what CUDA raises when a build has no kernels for a card
        return warn(name, f"{text}; it does not compute: {one_line(error)}",
                    f"install a torch with kernels for compute capability {major}.{minor}")  # fmt: skip
    if free < _LITTLE_MEMORY:
        return warn(name, text, "somebody else uses it; a smaller --batch-size, or another --device")
    return ok(name, text)


def _cuda_refusal(torch: Any) -> str:
    try:
        torch.cuda.init()
    except Exception as error:  # the boundary: drivers raise nearly anything
        return one_line(error)
    return "no reason is given"


def _driver_sees() -> str:
    """What the NVIDIA driver's own tool sees; nothing where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = told.stdout.strip().splitlines()
    return f"the driver sees {lines[0]}" if told.returncode == 0 and lines else ""


def _threads() -> Check:
    torch = importlib.import_module("torch")
    usable = cores()
    pools = {"torch": torch.get_num_threads()}
    for library in importlib.import_module("threadpoolctl").threadpool_info():
        if library["user_api"] == "blas":
            pools["BLAS"] = max(pools.get("BLAS", 1), int(library["num_threads"]))
    used = ", ".join(f"{name} {count}" for name, count in pools.items())
    text = f"threads: {used}; this process may use {usable:g} cores"
    if max(pools.values()) > whole_cores():
        advice = f"more threads than cores slow each other down: set {machine.NUMBER}={whole_cores()}"
        return warn("threads", text, advice)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > bound_cores():
        return ok("threads", f"{text}, which {load:.1f} threads compete for", "other work slows this one down")
    return ok("threads", text)


def _waiting() -> Check:
    """How threads of OpenMP wait, and who says so."""
    found = machine.settings()
    own = {name: value for name, value in found.items() if name not in machine.chosen}
    told = ", ".join(f"{name}={value} ({'yours' if name in own else 'this command'})" for name, value in found.items())
    if machine.came_late:
        return warn("waiting threads", told, machine.late_text())
    if not found:
        text = "spin for as long as OpenMP likes: this program did not come through cer-feat, which says for how long"
        return warn("waiting threads", text, f"set {machine.advice()} before Python starts")
    if any(_is_long(name, value) for name, value in own.items()):
        return warn("waiting threads", f"spin for long: {told}", "beside other work that slows both down: unset it")
    how = f"in programs of your own, set {machine.advice()} before Python starts"
    return ok("waiting threads", f"{'wait as you say' if own else 'spin briefly, then sleep'}: {told}", how)


def _is_long(name: str, value: str) -> bool:
    """Whether a thread spins for as long as it would unless told otherwise, or longer."""
    if name == machine.RULES_ALL:
        return value.strip().upper() == "ACTIVE"
    usual = {"GOMP_SPINCOUNT": 300_000, "KMP_BLOCKTIME": 200}[name]
    return value.strip().lower().startswith("inf") or (value.strip().isdigit() and int(value) >= usual)


def _bfloat16() -> Check:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported()
        where = "the GPU"
    else:
        where = f"the CPU ({platform.machine()})"
        flags = _first_line(Path("/proc/cpuinfo"), ("flags", "Features")).split()
        able = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
    if able:
        return ok("bfloat16", f"{where} computes in it: --precision bfloat16 is faster")
    return ok("bfloat16", f"{where} does not compute in it: --precision bfloat16 works, but is not faster")


def _memory() -> Check:
    room, total, limit = machine.memory_available(), machine.memory_total(), machine.memory_limit()
    if room is None or total is None:
        return ok("memory", "not known on this system")
    text = f"{size_text(room)} of {size_text(limit or total)} available"
    text += f": this process is limited to so much of {size_text(total)}" if limit else ""
    if room < _LITTLE_MEMORY:
        return warn("memory", text, "a smaller --batch-size and --workers 1 need less")
    return ok("memory", text)


def _first_line(path: Path, starts: tuple[str, ...]) -> str:
    """The rest of the first line that begins with one of some words."""
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            for start in starts:
                if line.startswith(start):
                    return line.removeprefix(start).lstrip("\t :")
    except OSError:
        pass
    return ""
