"""Decoders and encoders at the runtime, on graphs with a closed form."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.errors import BackendError, GraphFileError, ManifestError, RequestError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY
from pixelsnail_infer.runtime import load, load_decoder, load_encoder, to_uint8
from pixelsnail_infer.runtime.codecs.codec import CODEC_BATCH

from .synthetic import C, H, L, W, build, decode, decoder_graph, encode, manifest, random_codes


def images(n: int) -> np.ndarray:
    return (np.random.default_rng(3).integers(-64, 65, (n, H, W, C)) / 64).astype(np.float32)


@pytest.mark.parametrize("n, max_batch", [(1, None), (3, None), (5, 2), (17, None), (4, 4)])
def test_codes_are_decoded_in_order_whatever_the_batch(n: int, max_batch: int | None) -> None:
    top, bottom = random_codes(n)
    seen: list[tuple[int, int]] = []
    with load_decoder(build(), threads=1) as decoder:
        image = decoder.decode(top, bottom, max_batch=max_batch, progress=lambda *step: seen.append(step))
    assert image.dtype == np.float32 and image.shape == (n, H, W, C)
    np.testing.assert_array_equal(image, decode(top, bottom))
    size = max_batch or CODEC_BATCH
    assert seen == [(min(done, n), n) for done in range(size, n + size, size)]


@pytest.mark.parametrize("n, max_batch", [(1, None), (5, 2)])
def test_images_are_encoded_in_order_whatever_the_batch(n: int, max_batch: int | None) -> None:
    seen: list[tuple[int, int]] = []
    with load_encoder(build("encoder"), threads=1) as encoder:
        found = encoder.encode(images(n), max_batch=max_batch, progress=lambda *step: seen.append(step))
    expected = encode(images(n))
    assert [codes.dtype for codes in found] == [np.int64] * 2 and seen[-1] == (n, n)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_image_and_other_dtypes_are_taken() -> None:
    top, bottom = random_codes(1)
    with load_decoder(build(), threads=1) as decoder:
        image = decoder.decode(top[0].astype(np.uint8), bottom.tolist())
        again = decoder.decode(top, bottom[0].astype(np.int32))
    np.testing.assert_array_equal(image, decode(top, bottom))
    np.testing.assert_array_equal(again, image)
    with load_encoder(build("encoder"), threads=1) as encoder:
        found = encoder.encode(images(1)[0].astype(np.float64))
    np.testing.assert_array_equal(found[1], encode(images(1))[1])


def test_a_result_is_the_callers_own() -> None:
    with load_decoder(build(), threads=1) as decoder:
        first = decoder.decode(*random_codes(2, 0))
        kept = first.copy()
        decoder.decode(*random_codes(2, 1))
    np.testing.assert_array_equal(first, kept)


def test_what_the_network_gives_is_not_clipped() -> None:
    top, bottom = random_codes(8)
    with load_decoder(build(), threads=1) as decoder:
        image = decoder.decode(top, bottom)
    assert image.min() < -1 and to_uint8(image).min() == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda top, bottom: (top,), "got 1 arrays of codes, expected 2: top, bottom, in this order"),
        (lambda top, bottom: (bottom, top), r"top has shape \[2, 4, 6\], expected \[2, 3\] or \[n, 2, 3\]"),
        (lambda top, bottom: (top, bottom[:1]), "The levels top, bottom hold codes of 2, 1 images"),
        (lambda top, bottom: (top.astype(float), bottom), "top has dtype float64, expected integers"),
        (lambda top, bottom: (top, bottom + L), r"bottom\[0, 0, 0\] is \d+, expected codes from 0 to 4"),
        (lambda top, bottom: (top - 9, bottom), r"top\[0, 0, 0\] is -\d+, expected codes from 0 to 3; .*not finished"),
        (lambda top, bottom: ([[0], [0, 1]], bottom), "top is not a regular array"),
        (lambda top, bottom: (top[:0], bottom[:0]), r"top has shape \[0, 2, 3\]"),
    ],
)
def test_wrong_codes_are_refused_before_anything_runs(change: Any, message: str) -> None:
    with load_decoder(build(), threads=1) as decoder, pytest.raises(RequestError, match=message):
        decoder.decode(*change(*random_codes(2)))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[..., :1], r"images has shape \[2, 4, 6, 1\], expected \[4, 6, 3\] or \[n, 4, 6, 3\]"),
        (lambda x: to_uint8(x), "images has dtype uint8, .*from_uint8"),
        (lambda x: x * 2, r"images\[\d, \d, \d, \d\] is .*, expected numbers in \[-1, 1\]"),
        (lambda x: np.where(x > 0.9, np.nan, x), r"is nan, expected numbers in \[-1, 1\]"),
    ],
)
def test_wrong_images_are_refused_before_anything_runs(change: Any, message: str) -> None:
    with load_encoder(build("encoder"), threads=1) as encoder, pytest.raises(RequestError, match=message):
        encoder.encode(change(images(2)))


def test_log_mel_values_need_only_be_finite() -> None:
    spec = ImageSpec(C, (H, W), "log-mel")
    with load_encoder(build("encoder", image=spec), threads=1) as encoder:
        found = encoder.encode(images(2) * 11)
        with pytest.raises(RequestError, match="is inf, expected finite numbers"):
            encoder.encode(np.where(images(2) > 0.5, np.inf, images(2)))
    np.testing.assert_array_equal(found[1], encode(images(2) * 11)[1])


def test_max_batch_must_be_a_positive_integer() -> None:
    with load_decoder(build(), threads=1) as decoder, pytest.raises(RequestError, match="max_batch is 0"):
        decoder.decode(*random_codes(1), max_batch=0)


def test_a_closed_codec_and_a_call_from_a_callback_are_refused() -> None:
    decoder = load_decoder(build(), threads=1)
    with pytest.raises(RequestError, match="This decoder cannot be called from its own callback; call it when"):
        decoder.decode(*random_codes(1), progress=lambda done, total: decoder.decode(*random_codes(1)))
    decoder.decode(*random_codes(1))  # the failed call left nothing locked
    decoder.close()
    decoder.close()
    with pytest.raises(RequestError, match="This decoder is closed"):
        decoder.decode(*random_codes(1))
    with pytest.raises(RequestError, match="This decoder is closed"), decoder:
        pass


def test_threads_wait_for_each_other() -> None:
    results: dict[int, np.ndarray] = {}
    with load_decoder(build(), threads=1) as decoder:
        def work(k: int) -> None:
            results[k] = decoder.decode(*random_codes(1 + k % 3, k), max_batch=2)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for k, image in results.items():
        np.testing.assert_array_equal(image, decode(*random_codes(1 + k % 3, k)))
    assert len(results) == 8


def with_metadata(**entries: str) -> bytes:
    model = decoder_graph()
    helper.set_model_props(model, entries)
    return model.SerializeToString()


def test_each_kind_of_file_names_its_loader(tmp_path: Path) -> None:
    for kind in ("decoder", "encoder"):
        (tmp_path / f"{kind}.onnx").write_bytes(build(kind))
    with pytest.raises(ManifestError, match=r"decoder.onnx is a decoder, not a prior or a denoiser; use load_decoder"):
        load(tmp_path / "decoder.onnx")
    with pytest.raises(ManifestError, match=r"encoder.onnx is an encoder, not a decoder; use load_encoder"):
        load_decoder(tmp_path / "encoder.onnx")
    with pytest.raises(ManifestError, match=r"decoder.onnx is a decoder, not an encoder; use load_decoder"):
        load_encoder(tmp_path / "decoder.onnx")
    with pytest.raises(ManifestError, match="the decoder is a prior, not a decoder; use load for it"):
        load_decoder(with_metadata(**{METADATA_KEY: '{"format_version": 1, "kind": "prior"}'}))


def test_files_that_are_no_codec_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match="does not exist"):
        load_decoder(tmp_path / "none.onnx")
    with pytest.raises(GraphFileError, match="path_or_bytes is a int"):
        load_decoder(3)  # type: ignore[arg-type]
    with pytest.raises(GraphFileError, match="the decoder is not a whole ONNX file"):
        load_decoder(build()[:-7])
    with pytest.raises(ManifestError, match="has no manifest"):
        load_decoder(with_metadata(other="x"))
    with pytest.raises(ManifestError, match="is the row part"):
        load_decoder(with_metadata(**{PART_KEY: "row"}))
    with pytest.raises(ManifestError, match="the decoder: The manifest is not valid JSON"):
        load_decoder(with_metadata(**{METADATA_KEY: "{"}))
    with pytest.raises(BackendError, match="device is 'tpu'"):
        load_decoder(build(), device="tpu")


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"image": ImageSpec(1, (H, W))}, "output 'image' is float32 .*, expected float32 .*1"),
        ({"codes": (CodesSpec("codes", (H, W), L),)}, "input 'codes' is missing"),
        ({"codes": manifest().codes[:1]}, "input 'bottom' is not in the manifest"),
    ],
)
def test_a_graph_that_does_not_fit_its_manifest_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphFileError, match=message):
        load_decoder(build(**changed))


def test_a_fixed_batch_is_refused() -> None:
    model = decoder_graph()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    helper.set_model_props(model, {METADATA_KEY: manifest().to_json()})
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT64
    with pytest.raises(GraphFileError, match=r"'top' is int64 \[2, 2, 3\], expected int64 \[B, 2, 3\]"):
        load_decoder(model.SerializeToString())


def test_info_describes_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("decoder", "encoder"):
        path = tmp_path / f"{kind}.onnx"
        path.write_bytes(build(kind))
        assert main(["info", str(path)]) == 0
        shown = capsys.readouterr().out
        for part in (f"{kind} of family toy", "4×6, 3 channels in [-1, 1]", "top: 2×3, codes 0…3", "bottom: 4×6"):
            assert part in shown
        assert main(["info", str(path), "--json"]) == 0
        assert CodecManifest.from_json(capsys.readouterr().out) == manifest(kind)
