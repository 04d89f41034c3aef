"""Pictures given to the commands: what is not as it should be is refused by its header, before a pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.distributions import from_uint8
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.commands import pictures
from pixelsnail_infer.runtime.commands.pictures import read_picture

IMAGE = pytest.importorskip("PIL.Image")
PHOTO = np.random.default_rng(6).integers(0, 256, (8, 12, 3)).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of RGB pixels that says it is of this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    IMAGE.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decoder of Pillow fails."""

    def load(*_: object) -> None:
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


@pytest.mark.usefixtures("undecoded")
def test_a_size_is_refused_by_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for width, height, fit, says in (
        (13_000, 13_000, False, r"a.png is 13000×13000 pixels, expected 12×8 .width×height."),
        (13_000, 13_000, True, "a.png is 13000×13000 pixels, expected at most 134,217,728 of them"),
        (13, 8, False, "a.png is 13×8 pixels, expected 12×8"),
        (2**31 - 1, 2**31 - 1, True, "cannot be read as a picture .*exceeds limit"),
        (100_000, 1_000, False, "a.png is 100000×1000 pixels, expected 12×8"),
    ):
        path.write_bytes(png(width, height, b""))
        with pytest.raises(RequestError, match=says):
            read_picture(path, 3, (8, 12), fit=fit)
    path.write_bytes(png(12, 8, b""))
    with pytest.raises(RequestError, match="the picture was decoded"):
        read_picture(path, 3, (8, 12))


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("warnings", ["error", "default"])
def test_a_large_picture_gives_no_warning(tmp_path: Path, warnings: str, recwarn: Any) -> None:
    (tmp_path / "a.png").write_bytes(png(11_000, 11_000, b""))
    with pytest.raises(RequestError, match="expected 12×8"):
        read_picture(tmp_path / "a.png", 3, (8, 12))
    assert len(recwarn) == 0


def test_the_commands_refuse_it_in_one_line(chain: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(png(13_000, 13_000, b""))
    models = [chain[name] for name in ("top", "bottom", "decoder")]
    given = ["--label=0", "--encoder", chain["encoder"], "--image", path, "--keep", "0,0,4,8", "-o", tmp_path / "x.npy"]
    for fit, says in (([], "expected 12×8 (width×height); resize it, or add --fit."), (["--fit"], "make it smaller.")):
        assert main(["generate", *map(str, [*models, *given, *fit])]) == 1
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "cannot identify"), (b"hello", "cannot identify"), (png(12, 8, b"")[:30], "cannot identify"),
        (png(12, 8, bytes(50)), "truncated"), (png(12, 8, bytes(37 * 8))[:-30], "cannot identify"),
        (png(12, 8, b"").replace(b"IDAT", b"IDAX"), "cannot identify"), (png(0, 8, b""), "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 8\n", "cannot identify"),
    ],
)  # fmt: skip
def test_damaged_pictures(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(RequestError, match=f"a.png cannot be read as a picture .*({says})"):
        read_picture(tmp_path / "a.png", 3, (8, 12))


def test_prefixes_and_changed_bytes_of_a_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PHOTO)
    data, random = path.read_bytes(), np.random.default_rng(3)
    changed = [bytes([*data[:k], random.integers(256), *data[k + 1 :]]) for k in range(0, len(data), 3)]
    read = 0
    for attempt in [data[:k] for k in range(0, len(data), 5)] + changed:
        path.write_bytes(attempt)
        try:
            read += read_picture(path, 3, (8, 12)).shape == (8, 12, 3)
        except RequestError as error:
            assert "\n" not in str(error)
    assert read < len(data)


def test_more_pixels_than_the_header_says_are_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(12, 8, b"\0" + bytes(36) + bytes(1 << 24)))
    assert read_picture(tmp_path / "a.png", 3, (8, 12)).shape == (8, 12, 3)


def test_kinds_of_pixels(tmp_path: Path) -> None:
    grey = PHOTO[..., 0]
    wide = save(tmp_path / "wide.png", grey.astype(np.uint16) * 257)
    assert np.array_equal(read_picture(wide, 1, (8, 12)), from_uint8(grey[..., None]))
    palette = tmp_path / "palette.png"
    IMAGE.fromarray(PHOTO).quantize(16).save(palette)
    with IMAGE.open(palette) as opened:
        assert np.array_equal(read_picture(palette, 3), from_uint8(np.asarray(opened.convert("RGB"))))
    opaque = save(tmp_path / "opaque.png", np.dstack([PHOTO, np.full((8, 12), 255, np.uint8)]))
    assert np.array_equal(read_picture(opaque, 3), from_uint8(PHOTO))
    alpha = np.full((8, 12), 255, np.uint8)
    alpha[3, 4] = 254
    with pytest.raises(RequestError, match="clear.png is transparent in parts; put it on a background"):
        read_picture(save(tmp_path / "clear.png", np.dstack([PHOTO, alpha])), 3)
    with pytest.raises(RequestError, match="holds numbers of 32 bits, expected 8 or 16"):
        read_picture(save(tmp_path / "float.tiff", grey.astype(np.float32)), 1)
    for name in ("moves.png", "moves.gif", "moves.webp"):
        several = save(tmp_path / name, PHOTO, save_all=True, append_images=[IMAGE.fromarray(PHOTO[::-1])])
        with pytest.raises(RequestError, match=f"{name} holds several pictures, expected one"):
            read_picture(several, 3)


def test_a_turned_picture_is_measured_upright(tmp_path: Path) -> None:
    turned = IMAGE.fromarray(np.rot90(PHOTO).copy())  # 8 wide, 12 high
    for name in ("turned.png", "turned.jpg"):
        exif = turned.getexif()
        exif[0x0112] = 6  # to be turned to the right
        turned.save(tmp_path / name, exif=exif)
        assert read_picture(tmp_path / name, 3, (8, 12)).shape == (8, 12, 3)
        turned.save(tmp_path / name)
        with pytest.raises(pictures.WrongSizeError, match="is 8×12 pixels, expected 12×8"):
            read_picture(tmp_path / name, 3, (8, 12))
    assert np.array_equal(read_picture(save(tmp_path / "p.png", PHOTO), 3, (8, 12)), from_uint8(PHOTO))
