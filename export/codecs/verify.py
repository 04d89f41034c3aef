"""The proofs that a decoder or an encoder is the model: through the runtime, against PyTorch, in several batch sizes.

The limit is 1e-4 of the image's standard deviation, or of the vectors' length. Deep networks of group norms may round
more than that: where a file is farther off, PyTorch's float32 is compared with its float64, and the limit becomes
`SLACK` times what PyTorch itself is off by, at most `WORST`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.export.codecs.parts import FirstStageModule
from pixelsnail_infer.export.proofs.verify import CLOSE, Check, passed
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.runtime import Decoder, Encoder

__all__ = ["CodecReference", "judged", "verify_decoder", "verify_encoder"]

BATCHES = {1: slice(0, 1), 3: slice(1, 4), 5: slice(0, 5)}  # batch size: which of the images
IMAGES = 5
SLACK, WORST = 4.0, 1e-2
TIE = 8 * 2.0**-23  # of squared lengths: two distances this close are in what order float32 happens to add up
Say = Callable[[str], None]
Codes = tuple[NDArray[np.int64], ...]


class CodecReference:
    """The PyTorch model, a fresh copy that nothing else has touched, and what it makes of random codes and images."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._copy = fresh_copy(module)
        self._module: FirstStageModule = self._copy  # type: ignore[assignment]
        self.config = self._module.config
        random = np.random.default_rng(5)
        self.codes: Codes = tuple(random.integers(0, s.levels, (IMAGES, *s.shape)) for s in self.config.codes)
        shades = [_image(self.config.image, random, 1 / (1 + 2 * k)) for k in range(IMAGES)]
        self.images = np.stack(shades).astype(np.float32)  # [n, H, W, C]
        self._encoded: dict[tuple[int, bytes], tuple[Codes, tuple[torch.Tensor, ...]]] = {}

    @torch.no_grad()
    def decoded(self) -> NDArray[np.float32]:
        """What PyTorch decodes of `codes`, `[n, H, W, C]`; image by image, so that memory stays small."""
        images = [self._module.decode(*(torch.from_numpy(level[k:k + 1]) for level in self.codes))
                  for k in range(IMAGES)]
        return torch.cat(images).permute(0, 2, 3, 1).contiguous().numpy()

    @torch.no_grad()
    def decoding_noise(self) -> float:
        """How far PyTorch's float32 is from its float64, in standard deviations of the first image."""
        codes = [torch.from_numpy(level[:1]) for level in self.codes]
        precise, usual = self._double().decode(*codes), self._module.decode(*codes)
        return float((precise - usual).abs().max() / precise.std())

    @torch.no_grad()
    def encoding_noise(self) -> float:
        """How far PyTorch's float32 vectors are from its float64 ones, as a share of their length, the first image."""
        codes, usual = self._vectors(0, ())
        image = torch.from_numpy(self.images[:1]).permute(0, 3, 1, 2).double()
        _, precise = self._double().encode(image, tuple(torch.from_numpy(level) for level in codes))
        return max(float((a - b).norm(dim=1).max() / a.norm(dim=1).mean()) for a, b in zip(precise, usual, strict=True))

    def flips(self, k: int, level: int, found: Codes) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of image `k` and the codes `[h, w]` that a graph found at all levels: where those of `level` are not
        PyTorch's, and how far the vectors there would have to move for them to be, as a share of the vectors' length.

        Where two code vectors are so close to each other that float32 cannot tell their distances apart, that is 0. A
        level is judged given the coarser codes that were found.
        """
        given = found[:level]
        codes, vectors = self._vectors(k, () if _same(given, self._vectors(k, ())[0]) else given)
        chosen, taken = torch.from_numpy(codes[level][0]), torch.from_numpy(found[level])
        flat = vectors[level][0].permute(1, 2, 0).double()  # [h, w, D]
        other, best = (self._module.tables[level].double()[some] for some in (taken, chosen))
        sizes = flat.pow(2).sum(-1) + best.pow(2).sum(-1)
        behind = ((flat - other).pow(2).sum(-1) - (flat - best).pow(2).sum(-1)).abs()
        apart, length = (other - best).norm(dim=-1), flat.norm(dim=-1).mean()
        close = (apart == 0) | (behind <= TIE * sizes)  # in float32 either may come out as the nearer
        far = torch.where(close, torch.zeros(()), behind / (2 * apart * length))  # to where both are equally near
        return (taken != chosen).numpy(), far.numpy()

    @torch.no_grad()
    def _vectors(self, k: int, given: Codes) -> tuple[Codes, tuple[torch.Tensor, ...]]:
        """Codes and vectors of one image, given codes `[h, w]` of the first levels; kept."""
        key = k, b"".join(level.tobytes() for level in given)
        if key not in self._encoded:
            image = torch.from_numpy(self.images[k:k + 1]).permute(0, 3, 1, 2)
            codes, vectors = self._module.encode(image, tuple(torch.from_numpy(level[None]) for level in given))
            self._encoded[key] = tuple(level.numpy() for level in codes), tuple(vectors)
        return self._encoded[key]

    def _double(self) -> FirstStageModule:
        return fresh_copy(self._copy, torch.float64)  # type: ignore[return-value]


def verify_decoder(decoder: Decoder, reference: CodecReference, say: Say) -> list[Check]:
    """Images of random codes. Raises `VerificationError`."""
    say(f"decoding random codes of {IMAGES} images in PyTorch")
    expected, measured = reference.decoded(), []
    for batch, some in BATCHES.items():
        say(f"decoding through the runtime, batch {batch}")
        found = decoder.decode(*(level[some] for level in reference.codes), max_batch=batch)
        worst = np.abs(found - expected[some]).max() / expected[some].std()
        measured.append((f"decode, batch {batch}", float(worst), "every pixel"))
    spec = reference.config.image
    return judged(measured, spec.shape[0] * spec.shape[1], reference.decoding_noise, say)


def verify_encoder(encoder: Encoder, reference: CodecReference, say: Say) -> list[Check]:
    """Codes of random images: PyTorch's, but for near-ties. Raises `VerificationError`."""
    measured = []
    for batch, some in BATCHES.items():
        say(f"encoding random images, batch {batch}")
        found = encoder.encode(reference.images[some], max_batch=batch)
        for level, spec in enumerate(reference.config.codes):
            each = [reference.flips(k, level, tuple(codes[place] for codes in found))
                    for place, k in enumerate(range(IMAGES)[some])]
            flips, worst = sum(int(other.sum()) for other, _ in each), max(float(far.max()) for _, far in each)
            same = f"{flips} near-ties flipped" if flips else "every code the same"
            seen = f"{len(np.unique(found[level]))} different codes seen"
            measured.append((f"encode {spec.name}, batch {batch}", worst, f"{same}; {seen}"))
    positions = max(spec.shape[0] * spec.shape[1] for spec in reference.config.codes)
    return judged(measured, positions, reference.encoding_noise, say)


def judged(measured: list[tuple[str, float, str]], positions: int, noise: Callable[[], float], say: Say
           ) -> list[Check]:
    """Checks of what was measured; the limit follows PyTorch's own rounding only where it must."""
    limit, remark = CLOSE, ""
    if any(not worst <= CLOSE for _, worst, _ in measured):
        say("PyTorch's own rounding: one image in float64")
        own = noise()
        limit = min(WORST, max(CLOSE, SLACK * own)) if np.isfinite(own) else CLOSE
        remark = f"; PyTorch's float32 is {own:.1e} from its float64"
    return passed([Check(name, worst, limit, positions, detail + remark) for name, worst, detail in measured])


def _same(given: Codes, codes: Codes) -> bool:
    return all(np.array_equal(a, b[0]) for a, b in zip(given, codes, strict=False))


def _image(spec: ImageSpec, random: np.random.Generator, noise: float) -> NDArray[np.float64]:
    """Coarse patches under so much noise."""
    height, width = spec.shape
    cells = random.uniform(-1, 1, (-(-height // 8), -(-width // 8), spec.channels))
    patches = cells.repeat(8, 0).repeat(8, 1)[:height, :width]
    image = noise * random.uniform(-1, 1, (height, width, spec.channels)) + (1 - noise) * patches
    return 6 * image - 5 if spec.values == "log-mel" else image  # -11 to 1; log 1e-5 is the least there
