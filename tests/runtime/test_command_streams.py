"""The commands as processes, with standard streams that are full, closed, not UTF-8, or a terminal."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COMMAND = f"{shlex.quote(sys.executable)} -m pixelsnail_infer"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


def shell(line: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run `line`, in which `infer` is the command, with `folder` as the working folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    line = line.replace("infer ", f"{COMMAND} ")
    return subprocess.run(["sh", "-c", line], cwd=folder, env=clean | settings, capture_output=True, timeout=60)


@pytest.fixture
def sample(toy: Path) -> str:
    return f"infer sample {shlex.quote(str(toy))} --label 0-2 --threads 1 -o"


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_loses_no_work(sample: str, tmp_path: Path, unbuffered: str) -> None:
    done = shell(f"{sample} a.npy >/dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered)
    says = b"pixelsnail-infer: done, but the standard output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, says) and np.load(tmp_path / "a.npy").shape == (3, 4, 5)
    done = shell("infer --help >/dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (1, says)


@pytest.mark.parametrize("closed, code", [(">&-", 1), ("2>&-", 0), (">&- 2>&-", 1), ("<&- >&- 2>&-", 1)])
def test_closed_streams_lose_no_work(sample: str, tmp_path: Path, closed: str, code: int) -> None:
    done = shell(f"{sample} a.npy {closed}", tmp_path)
    assert done.returncode == code and np.load(tmp_path / "a.npy").shape == (3, 4, 5), "nothing else went into the file"
    says = b"pixelsnail-infer: done, but the standard output cannot be written (it is closed)\n"
    assert done.stderr == (says if closed == ">&-" else b"")
    failed = shell(f"{sample} no/a.npy {closed}", tmp_path)
    assert failed.returncode == 1 and failed.stderr.count(b"\n") == (0 if "2>&-" in closed else 1)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Or what the engine prints, from below Python, would go into it."""
    code = """
import os
from pixelsnail_infer.commandline import run_command
run_command("prog", lambda: os.write(os.open("a", os.O_CREAT | os.O_WRONLY), b"data") and os.write(1, b"noise") and 0)
"""
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&-"
    assert shell(line, tmp_path).returncode == 0 and (tmp_path / "a").read_bytes() == b"data"


@FULL
def test_full_errors_change_no_exit_code(sample: str, tmp_path: Path) -> None:
    assert shell(f"{sample} a.npy 2>/dev/full", tmp_path).returncode == 0
    assert shell(f"{sample} no/a.npy 2>/dev/full", tmp_path).returncode == 1
    assert shell("infer paint 2>/dev/full", tmp_path).returncode == 2


def test_a_reader_that_is_gone(sample: str, tmp_path: Path) -> None:
    done = shell(f"({sample} a.npy; echo $? >code) | true", tmp_path)
    assert done.stderr == b"" and (tmp_path / "code").read_text() in ("0\n", "1\n") and (tmp_path / "a.npy").exists()


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"},
     {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["ascii", "latin-1", "C"],
)  # fmt: skip
def test_any_encoding(toy: Path, sample: str, tmp_path: Path, settings: dict[str, str]) -> None:
    done = shell(f"{sample} 'π×.npy' && infer sample --help", tmp_path, **settings)
    assert done.returncode == 0 and done.stderr == b"" and (tmp_path / "π×.npy").exists()
    assert b"5 in " in done.stdout and b"usage: " in done.stdout
    done = shell(f"infer info {toy} --json", tmp_path, **settings)
    assert done.returncode == 0 and json.loads(done.stdout.decode("ascii"))["kind"] == "prior"
    failed = shell(f"{sample} 'no/π.npy'", tmp_path, **settings)
    assert failed.returncode == 1 and failed.stderr.count(b"\n") == 1


def test_a_path_that_is_no_utf8_goes_into_the_csv(toy: Path, tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"\xff \xc3\xa9.npy")
    with open(name, "wb") as file:
        np.save(file, np.zeros((4, 5), np.int64))
    score = f"infer score {toy} --label 0 \"$(printf '\\377 \\303\\251.npy')\" --csv"
    printed = shell(f"{score} -", tmp_path, PYTHONIOENCODING="ascii")
    written = shell(f"{score} \"$(printf '\\377.csv')\"", tmp_path)
    assert printed.returncode == written.returncode == 0
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.csv"), "rb") as file:
        assert file.read() == printed.stdout
    assert printed.stdout.splitlines()[1].startswith(b"\xff \xc3\xa9.npy,0,-")
    assert written.stdout.splitlines()[1] == b"wrote \\xff.csv"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_progress_bar_on_any_terminal(sample: str, tmp_path: Path, encoding: str) -> None:
    pty, termios, fcntl = (pytest.importorskip(name) for name in ("pty", "termios", "fcntl"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")  # 24 lines of 80 columns
    line = f"{sample} a.npy".replace("infer", COMMAND, 1)
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    streams = {"stdout": subprocess.DEVNULL, "stderr": slave}
    with subprocess.Popen(["sh", "-c", line], cwd=tmp_path, env=environment, **streams) as it:
        os.close(slave)
        seen = b""
        try:
            while piece := os.read(master, 1 << 16):
                seen += piece
        except OSError:  # the last one has closed the terminal
            pass
        assert it.wait(60) == 0
    os.close(master)
    assert b"pixels" in seen and b"\\x1b" not in seen and seen.decode(encoding).count("\r") > 0


def test_the_exporter_as_a_module(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    line = f"{shlex.quote(sys.executable)} -m pixelsnail_infer.export a.pt out.txt"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    prog = "python -m pixelsnail_infer.export"
    wrong = f"{prog}: the file to write is 'out.txt'; in the format onnx its name must end in .onnx."
    assert done.stderr == f"{wrong}\nTry '{prog} --help'.\n"
