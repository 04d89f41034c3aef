"""A pipeline: priors that draw codes, each from those before it, and a decoder that makes images of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.codecs.codec import Decoder, Encoder, load_decoder, load_encoder
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.drawing.sampler import Progress, Sampler
from pixelsnail_infer.runtime.files.archive_files import kind_of_file
from pixelsnail_infer.runtime.pipeline.generated import Generated, generated
from pixelsnail_infer.runtime.pipeline.generation import Generation, OnStageRow, Work, codec_weight
from pixelsnail_infer.runtime.pipeline.stage_requests import completion, stage_requests
from pixelsnail_infer.runtime.pipeline.wiring import Links, Wiring, make_wiring
from pixelsnail_infer.runtime.requests.conditions import clashing_name
from pixelsnail_infer.runtime.requests.guard import CallGuard
from pixelsnail_infer.runtime.requests.memory import check_fits, check_images_fit, memory_told, request_bytes
from pixelsnail_infer.runtime.requests.pixels import known_images
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH, Request, count, split

__all__ = ["Generated", "Pipeline", "load_pipeline"]


class Pipeline:
    """Loaded stages in order of drawing: one or more priors, then optionally a decoder. `encoder` is for completion.

    Everything that can be checked is checked here. A condition of codes is fed by the one earlier prior whose shape and
    number of levels it takes. Where several fit, `links={(stage, condition): earlier stage}` says which; where none
    fits that is an error, unless `links={(stage, condition): None}` leaves the condition to the caller. (The first
    prior's are always the caller's.) The decoder must take, and the encoder give, what the priors draw, in their order.
    A prior of images may come last, in place of a decoder.

    With `owns`, `close` closes the stages, too. Any thread may call a pipeline; calls on one wait for each other.
    Raises `RequestError` for stages that do not fit together.
    """

    def __init__(
        self,
        stages: Sequence[Sampler | Decoder],
        encoder: Encoder | None = None,
        *,
        links: Links | None = None,
        owns: bool = False,
    ) -> None:
        self._owned = [*stages, *([] if encoder is None else [encoder])] if owns else []
        self._decoder, self._encoder = _decoder_of(stages), encoder
        self._priors = [stage for stage in stages if isinstance(stage, Sampler)]
        if encoder is not None and not isinstance(encoder, Encoder):
            raise RequestError(f"encoder is a {type(encoder).__name__}, expected what load_encoder returns.")
        self._wiring = make_wiring(
            [prior.manifest for prior in self._priors],
            None if self._decoder is None else self._decoder.manifest,
            None if encoder is None else encoder.manifest,
            links,
        )
        if clash := clashing_name(self._wiring.conditions, self.generate):
            what = f"The condition {clash!r} has the name of an argument of generate"
            raise RequestError(f"{what}; export the model with another.")
        self._calls = CallGuard("pipeline")

    @property
    def wiring(self) -> Wiring:
        """What feeds what, which conditions the caller gives, and which images are drawn and taken."""
        return self._wiring

    @property
    def manifests(self) -> tuple[Manifest | CodecManifest, ...]:
        """The frozen descriptions of the stages, in order of drawing."""
        priors = tuple(prior.manifest for prior in self._priors)
        return priors if self._decoder is None else (*priors, self._decoder.manifest)

    @property
    def priors(self) -> tuple[Sampler, ...]:
        """The stages that draw, in order."""
        return tuple(self._priors)

    @property
    def decoder(self) -> Decoder | None:
        """The last stage, where it makes images of codes."""
        return self._decoder

    def requests(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        temperature: Any = 1.0,
        top_k: Any = None,
        top_p: Any = None,
        image: ArrayLike | None = None,
        keep: Sequence[int] | None = None,
        conditions: Mapping[str, Any],
    ) -> list[Request]:
        """What `generate` draws with these arguments: one checked request for each prior, without the conditions that
        other stages feed. With `image` the encoder runs."""
        manifests = [prior.manifest for prior in self._priors]
        requests = stage_requests(
            manifests, self._wiring, n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p,
            conditions=conditions,
        )  # fmt: skip
        kept = completion(manifests, self._wiring.taken, n, image, keep)
        return requests if kept is None else self._known(requests, *kept, Work(1, None))

    @property
    def image_bytes(self) -> int:
        """Bytes that one image of a call takes, from the requests of all stages to the result."""
        decoded = 0 if self._decoder is None else self._decoder.result_bytes
        return sum(request_bytes(prior.manifest) for prior in self._priors) + decoded

    @memory_told
    def generate(
        self,
        n: int,
        *,
        seed: int | Sequence[int] | NDArray[np.uint64] = 0,
        temperature: Any = 1.0,
        top_k: Any = None,
        top_p: Any = None,
        image: ArrayLike | None = None,
        keep: Sequence[int] | None = None,
        progress: Progress | None = None,
        on_row: OnStageRow | None = None,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> Generated:
        """Draw n images through all stages.

        At most `max_batch` images (default 16) are in work at once: a batch goes through all stages before the next one
        starts, so that n does not matter for memory but for the result itself.

        `seed` is as for `Sampler.sample`, and the first stage draws what `sample` does. Stage t takes noise of its own:
        where an image's key in the first stage is (s, k), it is (s, k + t·2^32) in stage t. An image depends on its
        seed, its conditions and the settings only. `temperature`, `top_k` and `top_p` are one value (for the filters:
        for every stage of codes), or a sequence with one entry per prior, each of them as for `Sampler.sample` (None
        is the default). Conditions are given by name, and go to every stage that has one of that name.

        `image` and `keep` complete an image, through the encoder: float32 [H, W, C] in [-1, 1] or uint8, and the
        rectangle (x0, y0, x1, y1) in pixels, columns x0 … x1 - 1 of rows y0 … y1 - 1. In every stage, codes whose cell
        lies wholly inside are kept, the others drawn. One image is encoded once and completed n times; or n images
        [n, H, W, C] are given. The kept part is the decoder's picture of the kept codes, not a copy of the pixels. A
        single prior of images needs no encoder and keeps the pixels themselves.

        `progress(done, total)` counts codes, or pixels, of all stages; encoding or decoding an image counts as much as
        a row of the last prior. `on_row(stage, row, pixels, first_image)` gets every finished row with a copy of its
        codes, as for `Sampler.sample`; if it returns True the call ends: codes not drawn are -1, images not finished
        NaN. Both run in the calling thread and must not call this pipeline.

        Raises `RequestError` before anything runs when an argument is wrong, and `EngineError` when the engine fails or
        memory runs out.
        """
        n = count(n, "n")
        limit = DEFAULT_MAX_BATCH if max_batch is None else count(max_batch, "max_batch")
        manifests = [prior.manifest for prior in self._priors]
        check_images_fit(n, self.image_bytes)
        growth = sum(prior.batch_growth(min(n, limit)) for prior in self._priors)
        check_fits(growth, f"A batch of {min(n, limit)} images", "give a smaller max_batch")
        requests = stage_requests(
            manifests, self._wiring, n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p,
            conditions=conditions,
        )  # fmt: skip
        kept = completion(manifests, self._wiring.taken, n, image, keep)
        with self._calls:
            work = Work(self._effort(n, 0 if kept is None else len(kept[0])), progress)
            if kept is not None:
                requests = self._known(requests, *kept, work)
            run = Generation(self._priors, self._wiring.links, self._decoder, requests, work, on_row)
            for images in split(n, limit):
                if run.batch(images):
                    break
        return generated(run.pixels, self._wiring.names, run.images)

    def close(self) -> None:
        """Close the stages that this pipeline owns, after waiting for a call in progress; may be called again. Later
        calls raise."""
        if self._calls.closed:
            return
        with self._calls:
            self._calls.closed = True
            for stage in self._owned:
                stage.close()

    def __enter__(self) -> Pipeline:
        self._calls.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _effort(self, n: int, encoded: int) -> int:
        """What `progress` calls total."""
        drawn = sum(prior.manifest.height * prior.manifest.width for prior in self._priors)
        coded = encoded * (self._encoder is not None) + n * (self._decoder is not None)
        return n * drawn + coded * codec_weight(self._priors)

    def _known(
        self, requests: list[Request], images: NDArray[np.float32], masks: list[NDArray[np.bool_]], work: Work
    ) -> list[Request]:
        """The requests with what is kept of `images` [1 or n, H, W, C]."""
        known: list[NDArray[Any]] = []
        if self._encoder is not None:
            known += self._encoder.encode(images, progress=work.of_codec(codec_weight(self._priors)))
        if len(known) < len(requests):
            known.append(images)  # the last prior draws images
        changed = []
        for prior, request, pixels, mask in zip(self._priors, requests, known, masks, strict=True):
            each = pixels[0] if len(pixels) == 1 else pixels
            given, use_given = known_images(prior.manifest, request.n, each, mask)
            changed.append(replace(request, given=given, use_given=use_given))
        return changed


def load_pipeline(
    paths: Sequence[str | Path],
    *,
    encoder: str | Path | None = None,
    links: Links | None = None,
    device: str | Sequence[str] = "cpu",
    backend: str | Sequence[str] = "auto",
    threads: int | None = None,
) -> Pipeline:
    """Load exported files as a `Pipeline` that owns them: priors in order of drawing, then optionally a decoder; each
    file's manifest says which it is. `device`, `backend` and `threads` are as for `load`, for all files; each of the
    first two may also be a sequence with one entry for each file, the encoder's last.

    Raises `RequestError` when they do not fit together, and what `load` raises; then nothing stays loaded.
    """
    files = len(paths) + (encoder is not None)
    devices, backends = _per_file(device, "device", files), _per_file(backend, "backend", files)
    loaded: list[Sampler | Decoder] = []
    with ExitStack() as opened:
        for path, place, engine in zip(paths, devices, backends, strict=False):  # the encoder has no path here
            opens = load if kind_of_file(path, ("prior", "decoder")) == "prior" else load_decoder
            stage: Sampler | Decoder = opens(path, device=place, backend=engine, threads=threads)
            opened.callback(stage.close)
            loaded.append(stage)
        encodes = None
        if encoder is not None:
            encodes = opened.enter_context(load_encoder(
                encoder, device=devices[-1], backend=backends[-1], threads=threads))
        pipeline = Pipeline(loaded, encodes, links=links, owns=True)
        opened.pop_all()
    return pipeline


def _per_file(value: str | Sequence[str], name: str, files: int) -> list[str]:
    """What one value, or a sequence of one for each file, says of every file."""
    if isinstance(value, str) or not isinstance(value, Sequence):  # what is neither, `load` refuses
        return [value] * files
    if len(value) != files:
        raise RequestError(f"{name} has {len(value)} entries for {files} files, the encoder's included; give one for "
                           "all, or one for each.")  # fmt: skip
    return list(value)


def _decoder_of(stages: Sequence[Any]) -> Decoder | None:
    """The decoder at the end, if there is one; every other stage is a prior."""
    for place, stage in enumerate(stages):
        if isinstance(stage, Encoder):
            raise RequestError(f"stages[{place}] is an encoder; give it as encoder=, beside the stages.")
        if not isinstance(stage, (Sampler, Decoder)):
            what = f"stages[{place}] is a {type(stage).__name__}"
            raise RequestError(f"{what}, expected what load or load_decoder returns; load_pipeline takes paths.")
        if isinstance(stage, Decoder) and place != len(stages) - 1:
            raise RequestError(f"stages[{place}] is a decoder, which comes last; give the priors before it.")
    return stages[-1] if stages and isinstance(stages[-1], Decoder) else None
