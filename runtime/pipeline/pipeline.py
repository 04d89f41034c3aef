"""A pipeline: priors that draw codes, each from those before it, and a decoder that makes images of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.codecs.codec import Decoder, Encoder
from pixelsnail_infer.runtime.denoising.denoiser import DENOISED_AT_ONCE, Denoiser
from pixelsnail_infer.runtime.denoising.request import DenoisingRequest
from pixelsnail_infer.runtime.drawing.sampler import Progress, Sampler
from pixelsnail_infer.runtime.pipeline.generated import Generated, generated
from pixelsnail_infer.runtime.pipeline.generation import Generation, OnStageRow, Work, codec_weight
from pixelsnail_infer.runtime.pipeline.pictures import (
    DENOISING,
    OnStageStep,
    Pictures,
    picture_requests,
    refuse_idle,
    step_weight,
)
from pixelsnail_infer.runtime.pipeline.stage_requests import DRAWING, completion, stage_requests
from pixelsnail_infer.runtime.pipeline.stages import Stage, make_stages
from pixelsnail_infer.runtime.pipeline.wiring import Links, Wiring, make_wiring
from pixelsnail_infer.runtime.requests.conditions import clashing_name
from pixelsnail_infer.runtime.requests.guard import CallGuard
from pixelsnail_infer.runtime.requests.memory import check_fits, check_images_fit, memory_told, request_bytes
from pixelsnail_infer.runtime.requests.pixels import known_images
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH, Request, count, split

__all__ = ["Generated", "Pipeline"]


class Pipeline:
    """Loaded stages in order of drawing: one or more priors, then optionally a decoder. `encoder` is for completion.

    Everything that can be checked is checked here. Denoisers may come last: a super-resolution model enlarges the
    pictures of the stage before it, which are cut to [-1, 1]; where there is no prior, the first denoiser draws.
    A condition of codes is fed by the one earlier prior whose shape and
    number of levels it takes. Where several fit, `links={(stage, condition): earlier stage}` says which; where none
    fits that is an error, unless `links={(stage, condition): None}` leaves the condition to the caller. (The first
    prior's are always the caller's.) The decoder must take, and the encoder give, what the priors draw, in their order.
    A prior of images may come last, in place of a decoder.

    With `owns`, `close` closes the stages, too. Any thread may call a pipeline; calls on one wait for each other.
    Raises `RequestError` for stages that do not fit together.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        encoder: Encoder | None = None,
        *,
        links: Links | None = None,
        owns: bool = False,
    ) -> None:
        self._owned = [*stages, *([] if encoder is None else [encoder])] if owns else []
        self._stages, self._encoder = make_stages(stages), encoder
        self._priors, self._decoder, self._denoisers = \
            list(self._stages.priors), self._stages.decoder, self._stages.denoisers
        if encoder is not None and not isinstance(encoder, Encoder):
            raise RequestError(f"encoder is a {type(encoder).__name__}, expected what load_encoder returns.")
        self._wiring = make_wiring(
            [prior.manifest for prior in self._priors],
            None if self._decoder is None else self._decoder.manifest,
            None if encoder is None else encoder.manifest,
            links,
            [denoiser.manifest for denoiser in self._denoisers],
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
    def manifests(self) -> tuple[Manifest | CodecManifest | DenoiserManifest, ...]:
        """The frozen descriptions of the stages, in order of drawing."""
        return self._stages.manifests

    @property
    def priors(self) -> tuple[Sampler, ...]:
        """The stages that draw, in order."""
        return tuple(self._priors)

    @property
    def decoder(self) -> Decoder | None:
        """The stage that makes images of codes."""
        return self._decoder

    @property
    def denoisers(self) -> tuple[Denoiser, ...]:
        """The stages that draw or enlarge images step by step, in order."""
        return self._denoisers

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
        enlarged = self._denoisers[-1].result_bytes if self._denoisers else 0
        return sum(request_bytes(prior.manifest) for prior in self._priors) + decoded + enlarged

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
        steps: Any = None,
        eta: Any = None,
        sampler: Any = None,
        clip: Any = True,
        progress: Progress | None = None,
        on_row: OnStageRow | None = None,
        on_step: OnStageStep | None = None,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> Generated:
        """Draw n images through all stages.

        At most `max_batch` images (default 16, in denoisers 8) are in work at once: a batch goes through all stages
        before the next one starts, so that n does not matter for memory but for the result itself.

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

        `steps`, `eta`, `sampler` and `clip` are those of `Denoiser.sample`, one value, or a sequence with one entry for
        each denoiser.

        `progress(done, total)` counts codes, or pixels, of all stages, a denoiser's at every step; encoding or decoding
        an image counts as much as a row of the last prior. `on_step(stage, denoised)` hears of every step of a
        denoiser. `on_row(stage, row, pixels, first_image)` gets every finished row with a copy of its
        codes, as for `Sampler.sample`; if it returns True the call ends: codes not drawn are -1, images not finished
        NaN. All run in the calling thread and must not call this pipeline.

        Raises `RequestError` before anything runs when an argument is wrong, and `EngineError` when the engine fails or
        memory runs out.
        """
        n = count(n, "n")
        limit = DEFAULT_MAX_BATCH if max_batch is None else count(max_batch, "max_batch")
        manifests = [prior.manifest for prior in self._priors]
        check_images_fit(n, self.image_bytes)
        growth = sum(prior.batch_growth(min(n, limit)) for prior in self._priors)
        check_fits(growth, f"A batch of {min(n, limit)} images", "give a smaller max_batch")
        if not self._priors:
            refuse_idle({"temperature": temperature, "top_k": top_k, "top_p": top_p}, DRAWING, "priors")
        requests = stage_requests(
            manifests, self._wiring, n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p,
            conditions=conditions,
        )  # fmt: skip
        asked = self._pictures(n, seed, conditions, {"steps": steps, "eta": eta, "sampler": sampler, "clip": clip})
        at_once = DENOISED_AT_ONCE if max_batch is None else limit
        for denoiser in self._denoisers:
            denoiser.check_batch(min(n, at_once))
        kept = completion(manifests, self._wiring.taken, n, image, keep)
        with self._calls:
            work = Work(self._effort(n, 0 if kept is None else len(kept[0]), asked), progress)
            if kept is not None:
                requests = self._known(requests, *kept, work)
            run = Generation(self._priors, self._wiring.links, self._decoder, requests, n, work, on_row)
            pictures = Pictures(self._denoisers, asked, self._wiring, n, len(self._priors), at_once, work, on_step)
            for images in split(n, limit):
                if run.batch(images):
                    break
                pictures.batch(images, run.drawn(images))
        return generated(run.pixels, self._wiring.names, run.images if pictures.images is None else pictures.images)

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

    def _pictures(
        self, n: int, seed: Any, conditions: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> list[DenoisingRequest]:
        """One checked request for each denoiser."""
        if not self._denoisers:
            refuse_idle(settings, DENOISING, "denoisers")
        manifests = [denoiser.manifest for denoiser in self._denoisers]
        return picture_requests(manifests, self._wiring, n, len(self._priors), seed=seed, settings=settings,
                                conditions=conditions)  # fmt: skip

    def _effort(self, n: int, encoded: int, asked: Sequence[DenoisingRequest]) -> int:
        """What `progress` calls total."""
        each = sum(prior.manifest.height * prior.manifest.width for prior in self._priors)
        each += sum(len(request.schedule) * step_weight(denoiser.manifest)
                    for denoiser, request in zip(self._denoisers, asked, strict=True))  # fmt: skip
        coded = encoded * (self._encoder is not None) + n * (self._decoder is not None)
        return n * each + (coded * codec_weight(self._priors) if coded else 0)

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
