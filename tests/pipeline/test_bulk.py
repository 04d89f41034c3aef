"""A bulk of a pipeline: what `generate` draws, as uint8, with the codes where they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime import Pipeline, to_uint8
from pixelsnail_infer.runtime.bulk.reading import read_shards

from .conftest import LABELS, Trained


def records(folder: Path, *arguments: object) -> np.ndarray:
    assert main(["bulk", *(str(argument) for argument in arguments), "-o", str(folder)]) == 0
    return np.concatenate([*read_shards(folder)])


SETTINGS = ("--n", 7, "--shard", 3, "--max-batch", 2, "--label", "all", "--seed", 9, "--temperature", "0.7,1",
            "--top-k", "off,5", "--threads", 1)  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--codes"]])
def test_images_are_those_of_generate(trained: Trained, pipeline: Pipeline, tmp_path: Path, more: list[str]) -> None:
    found = records(tmp_path / "out", *trained.stages, *SETTINGS, *more)
    labels = np.resize(np.arange(LABELS), 7)
    expected = pipeline.generate(7, seed=9, label=labels, temperature=[0.7, 1], top_k=[None, 5])
    assert found["image"].dtype == np.uint8 and np.array_equal(found["image"], to_uint8(expected.images))
    assert found["index"].tolist() == list(range(7)) and np.array_equal(found["label"], labels)
    names = [*expected.by_name] if more else []
    assert list(found.dtype.names or ()) == ["seed", "index", "label", *names, "image"]
    assert all(np.array_equal(found[name], expected.by_name[name]) for name in names)


def test_priors_without_a_decoder_give_the_codes_of_every_level(
    trained: Trained, pipeline: Pipeline, tmp_path: Path
) -> None:
    found = records(tmp_path / "out", *trained.stages[:2], *SETTINGS)
    expected = pipeline.generate(7, seed=9, label=np.resize(np.arange(LABELS), 7), temperature=[0.7, 1],
                                 top_k=[None, 5])  # fmt: skip
    assert list(found.dtype.names or ()) == ["seed", "index", "label", "codes0", "codes1"]
    assert all(np.array_equal(found[f"codes{k}"], codes) for k, codes in enumerate(expected.codes))


def test_a_condition_of_codes_for_each_image_comes_from_a_file(
    trained: Trained, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = pipeline.generate(5, seed=1, label=2)
    np.save(tmp_path / "top.npy", drawn.codes[0])
    options = ["--n", 5, "--shard", 2, "--seed", 1, "--threads", 1, "--condition", f"condition={tmp_path / 'top.npy'}"]
    found = records(tmp_path / "out", trained.stages[1], *options)
    with_one = found["codes"][3]
    np.save(tmp_path / "top.npy", drawn.codes[0][3])
    shared = records(tmp_path / "shared", trained.stages[1], *options)
    assert np.array_equal(shared["codes"][3], with_one) and not np.array_equal(shared["codes"][0], found["codes"][0])
    words = [str(word) for word in (trained.stages[1], *options, "-o", tmp_path / "out")]
    assert main(["bulk", *words]) == 1  # the file is another one now
    assert "its conditions is" in capsys.readouterr().err
