"""`bide demo`, as a real process: it shows the whole way, and leaves nothing but a picture."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.system.processes import environment, is_alive

LIMIT_S = 60


def _started(directory: Path, *arguments: str, stdout: int) -> "subprocess.Popen[bytes]":
    temporary = directory / "tmp"
    temporary.mkdir()
    # A gateway of the user's own, whose settings must not reach that of the demonstration.
    env = environment(directory, port=1, config=directory / "none.toml") | {"TMPDIR": str(temporary), "TERM": "xterm"}
    return subprocess.Popen(
        [sys.executable, "-m", "bide", "demo", *arguments], cwd=directory, env=env, stdin=subprocess.DEVNULL,
        stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _nothing_is_left(directory: Path) -> None:
    assert list((directory / "tmp").iterdir()) == []
    assert not (directory / "data").exists()


def test_the_demo_ends_with_a_picture_and_leaves_nothing_else(tmp_path: Path) -> None:
    with _started(tmp_path, "--keep", "pictures/new", stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    said = out.decode()
    assert process.returncode == 0, said + err.decode()
    assert err == b""
    assert all(char.isprintable() or char == "\n" for char in said)
    (path,) = (tmp_path / "pictures" / "new").iterdir()
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        width, height = picture.size
    assert f"{path} ({width}x{height} PNG, {path.stat().st_size:,} bytes)" in said
    assert "no result yet" in said
    assert re.search(r"webhook-id [0-9a-f-]{36}, [0-9.]+ s after the submission, success true", said)
    _nothing_is_left(tmp_path)


def test_on_a_terminal_one_line_of_progress_replaces_the_other(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    try:
        with _started(tmp_path, stdout=terminal) as process:
            os.close(terminal)
            said = _read(main)
            assert process.wait(LIMIT_S) == 0, said
    finally:
        os.close(main)
    assert said.count("\r\x1b[Kpoll ") > 1
    assert len(list(tmp_path.glob("bide-demo-*.png"))) == 1
    _nothing_is_left(tmp_path)


def _read(terminal: int) -> str:
    """All that comes until the other side is closed, which a terminal reports as an error."""
    found = bytearray()
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            part = b""
        if not part:
            return found.decode()
        found += part


def test_a_demo_that_is_told_to_end_takes_its_gateway_with_it(tmp_path: Path) -> None:
    with _started(tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert any(line.startswith(b"poll ") for line in process.stdout)
        children = _children(process.pid)
        process.terminate()
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert children
    assert not any(is_alive(pid) for pid in children)
    _nothing_is_left(tmp_path)


def test_a_directory_that_cannot_be_made_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with _started(tmp_path, "--keep", "file/below", stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert out == b""
    assert re.fullmatch(rb"bide: --keep: [^\n]+\n", err)
    _nothing_is_left(tmp_path)
