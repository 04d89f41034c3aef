"""The C++ example: configured, built and run as its README says, it draws Python's codes from the same noise."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.export.writing.torch_archive import with_manifest
from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.files.archive import read_archive

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "examples" / "cpp" / "README.md"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `build` of a checkout in which every line of the README was run."""
    missing = [names for names in (("cmake",), ("c++", "g++", "clang++"), ("make", "ninja"))
               if not any(map(shutil.which, names))]
    if missing:
        pytest.skip(f"this machine has no {' or '.join(missing[0])}")
    top = tmp_path_factory.mktemp("cpp")
    (top / "examples").symlink_to(ROOT / "examples")
    lines = "\n".join(re.findall(r"^    (.*)$", README.read_text(), re.MULTILINE))
    assert "cmake --build" in lines and "--temperature" in lines
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                   "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"set -euo pipefail\n{lines}"], cwd=top, env=environment,
                          capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "warning" not in done.stdout, done.stdout
    return top / "build"


def draw(built: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([built / "cpp" / "draw", *arguments], cwd=built, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def write_noise(path: Path, n: int, seed: int) -> str:
    keys = image_keys(seed, n)
    np.save(path, np.stack([gumbel_row(keys, i, 8, 17) for i in range(8)], axis=1))
    return str(path)


def test_the_lines_of_the_readme_draw_what_the_command_draws(built: Path) -> None:
    codes = np.load(built / "codes.npy")
    assert codes.dtype == np.int64 and codes.shape == (3, 8, 8)
    assert np.array_equal(codes, np.load(built / "same.npy"))


def test_the_codes_are_pythons(built: Path, tmp_path: Path) -> None:
    """Few tests, not many: every process of a run builds the program anew."""
    with load(built / "digits.pt", threads=1) as sampler:
        for n, temperature, label in itertools.product((1, 3), (1, 0.5, 0), ([3, 1, 4], [5])):
            noise, label = write_noise(tmp_path / "noise.npy", n, 7), label[:n]
            done = draw(built, "digits.pt", noise, str(tmp_path / "codes.npy"), "--label",
                        ",".join(map(str, label)), "--temperature", str(temperature))
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            expected = sampler.sample(n, seed=7, temperature=temperature, label=np.resize(label, n))
            assert np.array_equal(np.load(tmp_path / "codes.npy"), expected), (n, temperature, label)
            assert len(np.unique(expected)) > 3


WRONG = (
    ("", "0 files are given, expected three; use: draw ARCHIVE.pt NOISE.npy CODES.npy"),
    ("digits.pt noise.npy", "2 files are given, expected three"),
    ("digits.pt noise.npy c.npy --seed", "--seed is no option; use: draw"),
    ("digits.pt noise.npy c.npy --label", "--label needs a value"),
    ("digits.pt noise.npy c.npy --label 1,", "--label is '1,', expected classes such as 0,1,2"),
    ("digits.pt noise.npy c.npy --label 1 --temperature -1", "--temperature is '-1', expected a number of at least 0"),
    ("digits.pt noise.npy c.npy", "0 labels are given for 3 images; give --label with one, or one for each"),
    ("digits.pt noise.npy c.npy --label 1,2", "2 labels are given for 3 images"),
    ("digits.pt noise.npy c.npy --label 10", "label 10 is not below 10"),
    ("digits.pt noise.npy digits.pt --label 1", "digits.pt would be written over; name another"),
    ("digits.pt noise.npy no/c.npy --label 1", "no/c.npy cannot be written"),
    ("none.pt noise.npy c.npy", "none.pt cannot be read as a TorchScript archive"),
    ("digits.pt none.npy c.npy", "none.npy cannot be read"),
    ("digits.pt digits.pt c.npy", "digits.pt is no .npy file of version 1"),
    ("digits.pt codes.npy c.npy", "codes.npy does not hold float32 numbers in C order"),
    ("digits.pt cut.npy c.npy", "cut.npy has another length than its shape tells"),
    ("digits.pt wide.npy c.npy", "wide.npy is [3, 8, 9, 17], expected [images, 8, 8, 17]"),
    ("digits.pt empty.npy c.npy", "empty.npy is [0, 8, 8, 17], expected [images, 8, 8, 17]"),
    ("newer.pt noise.npy c.npy", "newer.pt has no manifest of format version 1"),
    ("bare.pt noise.npy c.npy", "the manifest has no initial of 'state.pixels.0'"),
    ("promising.pt noise.npy c.npy --label 50", "RuntimeError: index out of range in self"),
)  # fmt: skip


def test_what_is_wrong_is_told_in_one_line(built: Path) -> None:
    np.save(built / "wide.npy", np.zeros((3, 8, 9, 17), np.float32))
    np.save(built / "empty.npy", np.zeros((0, 8, 8, 17), np.float32))
    (built / "cut.npy").write_bytes((built / "noise.npy").read_bytes()[:-4])
    held = (built / "digits.pt").read_bytes()
    manifest = read_archive(held).manifest
    for name, old, new in (("newer", '"format_version": 1', '"format_version": 2'), ("bare", '"initial"', '"first"'),
                           ("promising", '"levels": 10}', '"levels": 99}')):
        assert old in manifest
        (built / f"{name}.pt").write_bytes(with_manifest(held, manifest.replace(old, new)))
    for arguments, says in WRONG:
        done = draw(built, *arguments.split())
        assert done.returncode == 1 and done.stdout == "" and not (built / "c.npy").exists(), arguments
        assert done.stderr.startswith(f"draw: {says}") and done.stderr.count("\n") == 1, (arguments, done.stderr)
    assert (built / "digits.pt").read_bytes() == held
