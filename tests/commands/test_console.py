from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from cer_fusion.commands import console, feat, fuse, tables
from cer_fusion.fusion import ReportError
from cer_fusion.kit.errors import duration

Run = Callable[..., Result]
_TREE = Path(__file__).resolve().parents[2]
_NAMES = (":x: [bold]loud[/] [/]", "déjà vu Δ", "C:\\new\\[/b]")


def started(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None, **more: object
) -> subprocess.Popen[bytes]:
    """A command in a process of its own, as a shell starts it."""
    front = (
        f"import sys; from cer_fusion.cli import {'feat' if command[0] == 'cer-feat' else 'fuse'}_main as main; main()"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("CER_STORE", "PYTHONIOENCODING", "PYTHONUTF8")}
    env |= {"PYTHONPATH": str(_TREE), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(
        [sys.executable, "-c", front, *command[1:]], cwd=folder, env=env, stdin=subprocess.DEVNULL, **more
    )  # type: ignore[call-overload, no-any-return]


def shown(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, code: int = 0
) -> tuple[bytes, bytes]:
    process = started(command, folder=folder, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout, stderr = process.communicate()
    assert b"Traceback" not in stderr, stderr.decode("utf-8", "replace")
    assert process.returncode == code, stderr.decode("utf-8", "replace")
    return stdout, stderr


_ENCODINGS: dict[str, dict[str, str]] = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "a plain C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.fixture
def named_oddly(run: Run, filled: Path, tmp_path: Path) -> Path:
    """A store whose feature, pictures and labels bear names that are words of markup, or no ASCII."""
    from cer_fusion.featstore import ClassSet, Manifest, Store, import_rows

    old = Manifest.read(tmp_path / "faces.csv")
    names = {label: f"{_NAMES[i % 3]} {i}" for i, label in enumerate(old.classes.labels)}
    manifest = Manifest(
        samples=tuple(s._replace(label=names[s.label] if s.label else "") for s in old.samples),
        classes=ClassSet(name="custom", labels=tuple(names[label] for label in old.classes.labels)),
        root=old.root,
    )
    manifest.write(tmp_path / "odd.csv")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        rows = rng.normal(size=(len(manifest), 8)).astype(np.float32)
        import_rows(rows, manifest.ids, manifest, Store.create(tmp_path / "odd"), dataset="odd", name=name)
    return tmp_path


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_a_finished_comparison_is_shown_whatever_the_terminal_can_show(named_oddly: Path, encoding: str) -> None:
    words = "cer-fuse compare --heads ncm,ridge --baseline ncm --store odd --figure none -o kept.json --no-singles"
    stdout, _ = shown(words.split(), named_oddly, _ENCODINGS[encoding])
    assert b"macro F1" in stdout
    assert b":x: [bold]loud[/] [/]" in stdout
    assert b"C:\\new\\[/b]" in stdout
    assert (named_oddly / "kept.json").exists()


def test_a_minus_that_the_terminal_lacks_stays_a_minus(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    console._show_everywhere()
    tables.out_table(["Δ", "figure"], [["a", "\N{MINUS SIGN}1.5"]])
    console.out("0.1 \N{EN DASH} 0.2 … 字 \udce9")
    stdout.flush()
    text = stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "-1.5" in text
    assert "0.1 - 0.2 ... ? \\xe9" in text


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_data_on_stdout_is_utf_8_whatever_the_terminal_can_show(named_oddly: Path, encoding: str) -> None:
    stdout, _ = shown(["cer-feat", "manifest", "check", "odd.csv", "--json"], named_oddly, _ENCODINGS[encoding])
    assert "déjà vu Δ 1" in json.loads(stdout.decode("utf-8"))["counts"]["train"]


def test_a_file_name_that_is_no_text_is_told_and_survives_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    (tmp_path / name).write_bytes(b"sample_id,path\na,\n")
    _, stderr = shown(["cer-feat", "manifest", "check", name], tmp_path, {}, code=1)
    assert b"caf\\xe9.csv" in stderr
    (tmp_path / name).write_bytes(b"sample_id,path\na,a.png\n")
    stdout, _ = shown(["cer-feat", "manifest", "check", name, "--json"], tmp_path, {}, code=1)
    assert name in json.dumps(json.loads(stdout.decode("utf-8")), ensure_ascii=False)


@pytest.mark.parametrize("command", ["cer-feat ls --json", "cer-feat ls", "cer-fuse compare --heads ncm --format csv"])
def test_a_reader_that_has_gone_away_ends_a_command_quietly(filled: Path, tmp_path: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = started(command.split(), folder=tmp_path, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert not re.search(rb"Traceback|[Ee]rror|Broken", stderr)
    assert "compare" not in command or (tmp_path / "runs" / "faces-compare.png").exists()


@pytest.mark.parametrize(
    ("command", "stream", "code"),
    [
        ("cer-feat --help", "stdout", 0),
        ("cer-fuse compare --help", "stdout", 0),
        ("cer-feat manifest csv --help", "stdout", 0),
        ("cer-feat backbones", "stdout", 0),
        ("cer-feat --nonsense", "stderr", 2),
        ("cer-feat manifest check --nonsense", "stderr", 2),
    ],
)
def test_help_and_usage_that_nobody_reads_end_quietly_with_their_own_status(
    tmp_path: Path, command: str, stream: str, code: int
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    other = "stderr" if stream == "stdout" else "stdout"
    process = started(command.split(), folder=tmp_path, **{stream: writing, other: subprocess.PIPE})
    os.close(writing)
    told = b"".join(out for out in process.communicate() if out)
    assert (process.returncode, told) == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told_in_words(filled: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = started(["cer-feat", "ls", "--json"], folder=tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert b"No space left" in stderr
    assert b"Traceback" not in stderr


def test_a_comparison_is_shown_even_if_its_picture_cannot_be_written(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run("cer-fuse compare --heads ncm --features one --figure out.txt --format csv", code=1)
    assert "cannot draw to 'out.txt'" in refused.stderr

    def full(*_: object) -> None:
        raise ReportError("the disk is full")

    monkeypatch.setattr("cer_fusion.fusion.page.figures.draw_confusions", full)
    result = run("cer-fuse compare --heads ncm --features one --figure out.png --format csv", code=1)
    assert "Macro F1 (%)" in result.stdout
    assert "the disk is full" in result.stderr


def test_a_closed_stdout_is_no_traceback(tmp_path: Path) -> None:
    code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], 'backbones'])"
    front = "from cer_fusion.cli import feat_main; feat_main()"
    env = {**os.environ, "PYTHONPATH": str(_TREE)}
    done = subprocess.run(
        [sys.executable, "-c", code, front], cwd=tmp_path, env=env, stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_talk_that_nobody_reads_does_not_end_a_run(filled: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = "cer-fuse train --head ncm --features one -o runs/kept --json"
    process = started(words.split(), folder=tmp_path, stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(stdout)["run"] == "runs/kept"


def test_nothing_that_users_wrote_is_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (*_NAMES, "ends with \\", "two \\\\", "[", "[bold", "\\[red]", "[link=http://x]y[/link]", ":smile:"):
        console.say(f"[bold]{console.escape(name)}[/]: [dim]told[/]")
        assert capsys.readouterr().err == f"{name}: told\n"
        tables.out_table([name], [[name]], title=name, notes=[name])
        assert capsys.readouterr().out.count(name) == 4


def test_codes_that_steer_a_terminal_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[2Jgone\x07\r"
    console.say(console.escape(name))
    console.out(name)
    tables.out_table(["name"], [[name]])
    found = capsys.readouterr()
    assert "\x1b" not in found.out + found.err
    assert (found.out + found.err).count("\\x1b[2Jgone\\x07\\x0d") == 3


def test_a_wrong_option_is_told_as_it_was_written(run: Run) -> None:
    assert ":x:[bold]y[/]" in re.sub(r"[\s│]", "", run("cer-fuse train --:x:[bold]y[/]", code=2).output)


@pytest.mark.parametrize("app", [feat.app, fuse.app])
def test_every_command_tells_of_itself_on_a_terminal_that_shows_ascii_alone(app: object, tmp_path: Path) -> None:
    import typer

    group = typer.main.get_group(app)  # type: ignore[arg-type]
    name = "cer-feat" if app is feat.app else "cer-fuse"
    code = (
        "import sys\nfrom cer_fusion.cli import feat_main, fuse_main\n"
        f"for words in {[[], *([one] for one in group.commands)]!r}:\n"
        f"    sys.argv[1:] = [*words, '--help']\n"
        f"    try:\n        {'feat' if app is feat.app else 'fuse'}_main()\n"
        "    except SystemExit as end:\n        assert end.code == 0, (words, end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"Usage: ") == len(group.commands) + 1, name


def test_no_command_prints_past_the_console() -> None:
    sources = [path for path in (_TREE / "commands").rglob("*.py") if path.name != "console.py"]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"rich\.console|typer\.echo|click\.echo|sys\.stdout|[^.]\bprint\(", text), path


def _in_the_machines_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in words:
        return False
    if name in ("read_text", "write_text"):
        return not (name == "read_text" and call.args)  # ours takes a path
    if name in ("open", "fdopen"):
        given = [*call.args, *([words["mode"]] if "mode" in words else [])]
        texts = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        modes = [text for text in texts if text and set(text) <= set("rwxabt+")]
        return "newline" in words or any("b" not in mode for mode in modes)
    return name in ("run", "Popen", "check_output") and bool({"text", "universal_newlines"} & set(words))


def test_no_text_is_read_or_written_in_the_machines_own_encoding() -> None:
    """On Windows, and in a plain C locale, that is not UTF-8."""
    elsewhere = {"tarfile", "zipfile", "av", "archive"}
    folders = "kit featstore backbones frames fusion challenge demofaces commands benchmarks"
    sources = [path for folder in folders.split() for path in (_TREE / folder).rglob("*.py")]
    assert len(sources) > 150
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _in_the_machines_encoding(node):
                of = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(
                    node.func.value, ast.Name) else ""  # fmt: skip
                assert of in elsewhere, f"{path}:{node.lineno}"


def test_progress_that_takes_long_is_told_in_plain_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = console._Lines(print, first_s=2, next_s=10)
    moments = iter([30.0, 30.0, 330.0, 10_000.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(moments))
    lines._stage_began = 0.0
    assert lines._text("fits", 3, 9, "late") == "fits: 3 of 9 (late), 30 s, about 60 s left"
    assert lines._text("fits", 0, 1, "mlp, epoch 3 of 60") == "fits: 0 of 1 (mlp, epoch 3 of 60), 30 s"
    assert lines._text("reading", 1_000, 3_000, "") == "reading: 1,000 of 3,000, 3.0/s, 6 min, about 11 min left"
    assert lines._text("searching", 0, None, "supports") == "searching: supports, 2 h 47 min"


def test_one_step_that_takes_long_is_told_and_a_short_job_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress_bar() as step:
        step("fits", 0, 2, "mlp")
    assert capsys.readouterr().err == ""
    said = threading.Event()
    monkeypatch.setattr(console, "_FIRST_LINE_S", 0.01)
    monkeypatch.setattr(console, "say", lambda text: (print(text, file=sys.stderr), said.set()))
    with console.progress_bar() as step, console.progress_bar() as inner:
        inner("fits", 0, 2, "mlp")
        assert said.wait(30)
    assert capsys.readouterr().err == "fits: 0 of 2 (mlp), 0 s\n"
    assert step is inner  # a terminal has room for one bar


def test_a_long_job_tells_its_rate_and_time_left_in_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_NOTE_S", 0.01)
    log = tmp_path / "out" / "progress.log"
    with console.progress_bar(log=log) as step:
        for _ in range(3000):  # a busy machine may let the thread wait
            step("embed", 1200, 40_000)
            if log.exists() and log.read_text(encoding="utf-8").endswith("left\n"):
                break
            time.sleep(0.01)
    first = log.read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"[-\d]{10} [:\d]{8} embed: 1,200 of 40,000, [\d,.]+/s, \d+ s, about \d+ s left", first), first


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (91, "2 min"), (5300, "88 min"), (11_100, "3 h 05 min")]
)
def test_lengths_of_time_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
