"""Every image of a bulk is the one that `sample` gives as that number, and its record says which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.noise import numbered_keys
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.bulk.reading import read_shards

from .running import LABELS, bulk, records, shards


@pytest.fixture(scope="module")
def sampler(model: Path) -> Any:
    with load(model, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("n, shard, batch", [(23, 5, 4), (23, 7, 16), (5, 100, 2), (16, 8, 8), (3, 1, 1)])
def test_codes_are_those_of_sample(
    model: Path, sampler: Sampler, tmp_path: Path, n: int, shard: int, batch: int
) -> None:
    options = ["--n", n, "--shard", shard, "--max-batch", batch, "--seed", 3, "--label", "0-9", "--threads", 1]
    assert bulk(model, *options, "-o", tmp_path / "out") == 0
    found = records(tmp_path / "out")
    expected = sampler.sample(n, seed=3, label=np.resize(LABELS, n))
    assert found["codes"].dtype == np.uint8 and np.array_equal(found["codes"], expected)
    assert found["seed"].tolist() == [3] * n and found["index"].tolist() == list(range(n))
    assert found["label"].tolist() == np.resize(LABELS, n).tolist()
    assert [len(held) for held in read_shards(tmp_path / "out")] == [min(shard, n - k) for k in range(0, n, shard)]


def test_the_command_sample_gives_the_same(model: Path, tmp_path: Path) -> None:
    settings = ["--n", "11", "--seed", str(2**64 - 1), "--label", "3,1", "--temperature", "0.7", "--top-k", "5",
                "--top-p", "0.8", "--threads", "1"]  # fmt: skip
    assert main(["sample", str(model), *settings, "-o", str(tmp_path / "codes.npy")]) == 0
    assert bulk(model, *settings, "--shard", 4, "-o", tmp_path / "out") == 0
    found = records(tmp_path / "out")
    assert np.array_equal(found["codes"], np.load(tmp_path / "codes.npy"))
    assert set(found["seed"].tolist()) == {2**64 - 1}


def test_the_key_of_a_record_draws_its_image_again(whole: Path, sampler: Sampler) -> None:
    one = records(whole)[17]
    keys = np.array([[one["seed"], one["index"]]], np.uint64)
    assert np.array_equal(sampler.sample(1, seed=keys, label=int(one["label"]))[0], one["codes"])
    some = sampler.sample(6, seed=numbered_keys(7, 12, 6), label=np.resize(LABELS, 23)[12:18])
    assert np.array_equal(some, records(whole)["codes"][12:18])


@pytest.mark.parametrize("given, expected", [
    (["--label", "all"], LABELS), (["--label", "4"], [4]), (["--label", "8,0-2"], [8, 0, 1, 2]),
    (["--condition", "label=5,6"], [5, 6]),
])  # fmt: skip
def test_labels_are_cycled_over_all_shards(
    model: Path, sampler: Sampler, tmp_path: Path, given: list[str], expected: list[int]
) -> None:
    assert bulk(model, "--n", 13, "--shard", 3, *given, "--threads", 1, "-o", tmp_path / "out") == 0
    found, labels = records(tmp_path / "out"), np.resize(expected, 13)
    assert np.array_equal(found["label"], labels)
    assert np.array_equal(found["codes"], sampler.sample(13, label=labels))


@pytest.mark.parametrize("values", [np.arange(13) % 7, np.array(6)])
def test_a_class_for_each_image_from_a_file(
    model: Path, sampler: Sampler, tmp_path: Path, values: np.ndarray
) -> None:
    np.save(tmp_path / "labels.npy", values)
    options = ["--condition", f"label={tmp_path / 'labels.npy'}", "--threads", 1]
    assert bulk(model, "--n", 13, "--shard", 5, *options, "-o", tmp_path / "out") == 0
    found, labels = records(tmp_path / "out"), np.broadcast_to(values, (13,))
    assert np.array_equal(found["label"], labels) and np.array_equal(found["codes"], sampler.sample(13, label=labels))


def test_numpy_alone_reads_a_shard(whole: Path) -> None:
    held = np.load(shards(whole)[1], mmap_mode="r")
    assert held["codes"].shape == (5, 8, 8) and np.array_equal(held, records(whole)[5:10])
