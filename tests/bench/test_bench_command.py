"""The command `bench` on small models: what it prints and writes. No figure is looked at for its size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.export import export_checkpoint
from pixelsnail_infer.runtime.bench import alone
from pixelsnail_infer.runtime.bench.bench import bench
from pixelsnail_infer.runtime.bench.drawing import Drawing, Times, spread_rows
from pixelsnail_infer.runtime.bench.plot import plot
from pixelsnail_infer.runtime.bench.report import columns, report, short

QUICK = ("--seconds", "0.05", "--threads", "1")


def run(*arguments: object) -> int:
    return main(["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def found(digits_graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "out.json"
    assert run(digits_graphs["step"], "--batch", "1,3", *QUICK, "--json", out) == 0
    told: dict[str, Any] = json.loads(out.read_text())
    return told


def test_the_json_is_complete(found: dict[str, Any], digits_graphs: dict[str, Path]) -> None:
    assert found["format"] == 1 and found["model"]["parameters"]["total"] == 238_170
    sizes = [digits_graphs[part].stat().st_size for part in ("step", "row", "prologue")]
    assert found["model"]["file_bytes"] == sum(sizes)
    assert {"processor", "cores", "memory_bytes", "system", "versions"} == set(found["machine"])
    assert "onnxruntime" in found["machine"]["versions"] and found["threads"] == 1
    assert [batch["batch"] for batch in found["batches"]] == [start["batch"] for start in found["starts"]] == [1, 3]
    assert found["starts"][0]["first_images_s"] > found["starts"][0]["first_row_s"] > 0
    assert found["starts"][1]["first_images_s"] is None
    for batch in found["batches"]:
        assert batch["seconds_per_image"] * batch["images_per_second"] == pytest.approx(1)
        assert batch["rows"] == 8 and 3 <= batch["rows_timed"] <= 8
        for part in ("row", "step"):
            for which in ("graph", "loop"):
                told = batch[part][which]
                assert 0 < told["best"] <= told["p50"] <= told["p95"] <= told["p99"]
            assert batch[part]["loop"]["count"] == batch[part]["graph"]["count"]
            assert batch["floor"][part]["floor_ms"] > 0 and batch["floor"]["time_over_floor"][part] > 0
            assert batch["floor"]["best_over_floor"][part] <= batch["floor"]["time_over_floor"][part]
        assert batch["step"]["loop"]["count"] == 8 * batch["row"]["loop"]["count"]
        assert batch["memory"]["state_bytes"] > 0 and batch["floor"]["memory_gb_per_s"] > 0
    one, three = (batch["memory"]["state_bytes"] for batch in found["batches"])
    assert three == 3 * one


def test_the_table_says_what_the_json_says(found: dict[str, Any]) -> None:
    text = report(found)
    assert "238,170 parameters" in text and found["machine"]["processor"] in text
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "row"] in [row[:2] for row in rows] and ["3", "step"] in [row[:2] for row in rows]
    assert short(found["batches"][1]["seconds_per_image"]) in next(row for row in rows if row[:1] == ["3"])


def test_the_plot_of_an_archive_is_a_picture(counted: tuple[Path, Path], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    out = tmp_path / "out.png"
    assert run(counted[1], "--batch", "2", *QUICK, "--plot", out) == 0
    with image.open(out) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300


def test_rows_partly_timed_and_no_floor_are_said(found: dict[str, Any]) -> None:
    some = found["batches"][0] | {"rows_timed": 3, "floor": None, "other_processes_cores": 1.5}
    for part in ("row", "step"):
        some[part] = {"loop": some[part]["loop"]}
    told = found | {"batches": [some], "starts": found["starts"][:1], "load_average_before": None, "device": "cuda"}
    text = report(told)
    assert "extrapolated to all: 3 at batch 1" in text and "No floor" in text and "up to 1.5 cores busy" in text
    assert plot(told).startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_is_refused_before_the_work(
    digits_graphs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(Drawing, "measure", None)  # must not be reached
    assert run(digits_graphs["step"], "--plot", tmp_path / "a.png") == 1
    assert "pip install matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--batch", "0"], "'0' is not an integer of at least 1"),
        (["--batch", "1,1"], "a batch size is there twice"),
        (["--batch", ""], "is not an integer"),
        (["--seconds", "0"], "no number of seconds"),
        (["--seconds", "nan"], "no number of seconds"),
        (["--json", "a.txt"], "should end in .json"),
        (["--plot", "a.jpg"], "should end in .png"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("a.onnx", *arguments)
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_what_cannot_be_done_is_one_line(
    digits_graphs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = digits_graphs["step"]
    for arguments, says in (
        ([tmp_path / "none.onnx"], "does not exist"),
        ([digits_graphs["row"]], "is the row part"),
        ([step, "--json", tmp_path / "no" / "a.json"], "there is no folder"),
        ([step, "--batch", "1000000000000"], "give smaller batches"),
        ([step, "--threads", "5000"], "give at most"),
        ([step, "--backend", "torch"], "is an ONNX file"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1


def test_an_interrupt_leaves_nothing(
    digits_graphs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Drawing, "measure", stop)
    kept = tmp_path / "old.json"
    kept.write_text("old")
    assert run(digits_graphs["step"], *QUICK, "--json", kept, "--plot", tmp_path / "a.png") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"] and kept.read_text() == "old"


def test_a_process_that_fails_says_why(digits_graphs: dict[str, Path]) -> None:
    with pytest.raises(alone.BackendError, match="for a batch of 2 failed .*does not exist"):
        alone.draw_alone("none.onnx", 2, {}, whole=False)


def test_a_row_is_parted_without_rest() -> None:
    """What the loop sees adds up to the whole row: row graph with what is before it, and steps."""
    times = Times()
    times.add(5, 1.0, 2.0, [("row", 1.1, 1.4), ("step", 1.5, 1.6), ("step", 1.7, 1.9)])
    assert sum(times.loop["row"]) + sum(times.loop["step"]) == pytest.approx(1.0)
    assert times.loop["row"] == pytest.approx([0.5]) and times.loop["step"] == pytest.approx([0.2, 0.3])
    assert times.graph["row"] == pytest.approx([0.3]) and times.graph["step"] == pytest.approx([0.1, 0.2])
    assert times.part("step")["python_ms"] == pytest.approx(100)
    times.add(5, 0.0, 3.0, [("row", 0.0, 1.0), ("step", 1.0, 2.0)])
    times.add(6, 0.0, 6.0, [("row", 0.0, 1.0), ("step", 1.0, 2.0)])
    assert times.image(10) == pytest.approx(10 * (2.0 + 6.0) / 2), "rows count the same, each by its median"


@pytest.mark.parametrize("height", [1, 2, 7, 32, 64])
def test_rows_are_spread(height: int) -> None:
    rows = spread_rows(height)
    assert sorted(rows) == list(range(height))
    for count in range(1, height + 1):
        assert abs(sum(rows[:count]) / count - (height - 1) / 2) <= 0.5 + height / 4


def test_numbers_are_short() -> None:
    assert [short(value) for value in (None, 0.0, 1234.5, 12.345, 0.12345, 0.00012345)] == [
        "-", "0", "1,234", "12.3", "0.123", "0.000123"]  # fmt: skip
    assert list(columns([("a", "bb"), ("ccc", "d")])) == ["  a  bb", "ccc   d"]


def test_the_command_is_told_in_the_help() -> None:
    done = subprocess.run([sys.executable, "-m", "pixelsnail_infer", "bench", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "floor" in done.stdout and "--seconds" in done.stdout


def test_other_numbers_than_float32_have_no_floor(tmp_path: Path) -> None:
    """The floor is products of float32, which int8 falls below."""
    path = tmp_path / "digits.onnx"
    export_checkpoint(Path(__file__).parents[2] / "examples" / "digits.pt", path, precision="int8")
    found = bench(str(path), [1], seconds=0.01, threads=1)
    assert found["batches"][0]["floor"] is None
    assert "No floor: it is that of float32, and this model's products are of int8." in report(found)
