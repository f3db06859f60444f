"""What CI runs: an installation that fails or hangs costs the tests of what it would have brought, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = ["lint", "test", "docs", "test-pythons", "test-lowest"]
_ANSWERS = {"works": "exit 0", "fails": "echo no network >&2; exit 100", "hangs": "trap '' TERM INT; sleep 600; exit 0"}


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("timeout") is None, reason="no bash, or no timeout")
@pytest.mark.parametrize("answer", list(_ANSWERS))
def test_every_step_runs_whatever_installations_do(tmp_path, answer):
    tools, log = tmp_path / "tools", tmp_path / "log"
    script(tmp_path / ".ci" / "run", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    for name in ("dirname", "mkdir", "cp", "rm", "sleep"):
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(str(shutil.which(name)))
    script(tools / "id", "echo 0")
    script(tools / "apt-get", f'echo "apt-get $1" >>{log}; {_ANSWERS[answer]}')
    patience_s = 0.2 if answer == "hangs" else 30
    script(
        tools / "timeout",
        f'[[ $1 == --kill-after=* ]] && exec {shutil.which("timeout")} -k 0.1 {patience_s} "${{@:3}}"',
    )
    script(tools / "make", f'echo "make $1 ${{CER_MOTO:-}}" >>{log}; mkdir -p .venv/bin; cp python .venv/bin/python')
    script(
        tmp_path / "python", f'[ "$1" = -c ] && {{ echo .venv; exit 0; }}; echo "pip $3" >>{log}; {_ANSWERS[answer]}'
    )
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = log.read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("make")] == STEPS
    assert any(line.startswith("apt-get update") for line in lines)
    assert lines.index(next(line for line in lines if line.startswith("pip"))) > lines.index("make lint ")
    assert any(line.startswith("make test /") for line in lines) == (answer == "works")
    skipping = ["those tests will skip", "buckets are tested as folders alone"]
    assert all((words in done.stdout) != (answer == "works") for words in skipping), done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a POSIX shell")
def test_a_step_that_fails_ends_the_run_with_its_status(tmp_path):
    script(tmp_path / ".ci" / "run", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    script(tmp_path / "tools" / "make", "exit 7")
    script(tmp_path / "tools" / "id", "echo 1000")
    (tmp_path / "tools" / "dirname").symlink_to(str(shutil.which("dirname")))
    done = subprocess.run([str(tmp_path / ".ci" / "run")], env={"PATH": str(tmp_path / "tools")}, capture_output=True)
    assert done.returncode == 7
