"""The sampler: one loaded model, and the calls on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.distributions import blank_images, distribution_of
from pixelsnail_infer.errors import ManifestError, RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends import Backend
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.loop import draw_rows
from pixelsnail_infer.runtime.drawing.prologue import CallConditions
from pixelsnail_infer.runtime.drawing.replay import replay_rows
from pixelsnail_infer.runtime.drawing.schedules import check_schedule, in_waves, runs_waves
from pixelsnail_infer.runtime.drawing.scoring import SCORE_BATCH, log_likelihood
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.drawing.wavefront import draw_waves, replay_waves
from pixelsnail_infer.runtime.drawing.workspace import Workspace
from pixelsnail_infer.runtime.requests.conditions import clashing_name, resolve_conditions
from pixelsnail_infer.runtime.requests.guard import CallGuard
from pixelsnail_infer.runtime.requests.memory import memory_told
from pixelsnail_infer.runtime.requests.pixels import check_images
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH, Request, count, make_request, split

Progress = Callable[[int, int], object]
OnRow = Callable[[int, NDArray[Any], int], object]

__all__ = ["OnRow", "Progress", "Sampler"]


class Sampler:
    """A loaded model. Made by `load`; any thread may call it, and calls wait for each other.

    Buffers of the last batch size are kept for the next call; every call starts from fresh states, also after one that
    was stopped, failed or was interrupted. Returned arrays belong to the caller. Every call raises `EngineError` when
    the engine fails or memory runs out.
    """

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs, schedule: str = "auto") -> None:
        for method in (self.sample, self.replay, self.score):
            if clash := clashing_name(manifest.conditions, method):
                raise ManifestError(
                    f"The condition {clash!r} has the name of an argument of {method.__name__}; export it renamed."
                )
        self._manifest = manifest
        self._distribution = distribution_of(manifest)
        self._calls = CallGuard()
        self._work = Workspace(manifest, backend, graphs)
        self._backend, self._schedule = backend, schedule
        check_schedule(schedule, manifest, backend)

    @property
    def manifest(self) -> Manifest:
        """The frozen description of the model."""
        return self._manifest

    @property
    def has_waves(self) -> bool:
        """Whether the export has wave graphs and the backend runs them."""
        return self._manifest.wave is not None and runs_waves(self._backend)

    @memory_told
    def sample(
        self,
        n: int,
        *,
        seed: int | Sequence[int] | NDArray[np.uint64] = 0,
        temperature: ArrayLike = 1.0,
        top_k: ArrayLike | None = None,
        top_p: ArrayLike | None = None,
        known: ArrayLike | None = None,
        known_mask: ArrayLike | None = None,
        progress: Progress | None = None,
        on_row: OnRow | None = None,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> NDArray[Any]:
        """Draw n images; returns codes int64 [n, H, W], or for pixels in channels float32 [n, H, W, C] in [-1, 1]:
        exactly what was fed back to the network, not rounded unless the model was exported so (`to_uint8` makes grey
        levels).

        An integer `seed` s gives image k the noise key (s, k); a sequence of n seeds gives image k the key (seed[k],
        0); an array uint64 [n, 2] holds the keys themselves (`pixelsnail_infer.noise.numbered_keys`). An image depends
        on its key, conditions and settings only: not on its neighbours, its slot or the batch.
        `temperature` (at least 0; 0 takes the most probable code, or the mean of the most probable component), `top_k`
        (1 … L) and `top_p` (above 0, at most 1; both for codes only) are one value or one per image, as are conditions,
        which are given by name.

        `known` (codes [H, W] or [n, H, W], or float [H, W, C] or [n, H, W, C]) with `known_mask` (bool [H, W] or [n, H,
        W]) completes partly known images: where the mask is True the pixel is taken, elsewhere `known` is ignored.
        Leading rows that are known in every image of a batch are filled in by one pass of the score graph. So a stopped
        call is resumed with `known=codes, known_mask=codes >= 0`, or with `~np.isnan(images).any(-1)`.

        At most `max_batch` images (default 16) are drawn together; more are split in order. `progress(done, total)`
        counts pixels and is called after every row. `on_row(row, pixels, first_image)` gets every finished row, known
        ones too, with a copy of its pixels, [b, W] or [b, W, C], of images first_image … first_image + b - 1; if it
        returns True the call ends, and rows not drawn are -1, or NaN for channels. Both run in the calling thread and
        must not call this sampler.

        Raises `RequestError` before anything runs when an argument is wrong.
        """
        request = make_request(
            self._manifest, n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, known=known,
            known_mask=known_mask, conditions=conditions,
        )  # fmt: skip
        limit = DEFAULT_MAX_BATCH if max_batch is None else count(max_batch, "max_batch")
        height, width = self._manifest.shape
        pixels = blank_images(self._manifest, request.n)
        total = request.n * height * width
        done = 0
        resolved = CallConditions(request.conditions, request.n)
        with self._calls:
            for images in split(request.n, limit):
                for i, row in enumerate(self._rows(request, resolved, images)):
                    pixels[images, i] = row
                    done += len(row) * width
                    if progress is not None:
                        progress(done, total)
                    if on_row is not None and on_row(i, row, images.start):
                        return pixels
        return pixels

    @memory_told
    def draw_batch(
        self,
        request: Request,
        conditions: CallConditions,
        images: slice,
        on_row: Callable[[int, NDArray[Any]], object],
    ) -> bool:
        """Draw one batch of a checked request, for pipelines: `on_row(row, pixels)` gets every row of `images`, and
        ends the batch by returning True; returns whether it did. Other calls wait for the batch only."""
        with self._calls:
            return any(on_row(i, row) for i, row in enumerate(self._rows(request, conditions, images)))

    def _rows(self, request: Request, conditions: CallConditions, images: slice) -> Iterator[NDArray[Any]]:
        """Every row of the batch `images` of a call, known leading rows first; each [b, W] or [b, W, C], fresh."""
        some = request[images]
        known = some.leading_rows() if "score" in self._manifest.parts else 0
        filtered = some.filtered(self._distribution.parameters)
        if in_waves(self._schedule, self._manifest, self._backend, some.n, filtered, known):
            yield from draw_waves(self._manifest, self._work.prepared_wave(conditions, images), some)
            return
        for i in range(known):
            yield some.given[:, i].copy()
        if known < self._manifest.height:
            batch = self._work.prepared(conditions, images, some.given, known)
            yield from draw_rows(self._manifest, batch, some, known)

    @memory_told
    def replay(
        self,
        images: ArrayLike,
        *,
        known_rows: int = 0,
        filtered: bool = False,
        wavefront: bool = False,
        twice: bool = False,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> NDArray[np.float32]:
        """The logits that `sample` sees when it draws `images`: float32 [n, H, W, L], through the row and step graphs;
        for channels the raw parameters of the mixture, float32 [n, H, W, 10 n_mix] (3 n_mix for one channel).

        `images` is int [n, H, W] or float [n, H, W, C] in [-1, 1]; one image may come without the first axis. The first
        `known_rows` rows (0 … H) are filled in by the score graph instead, as `sample` does with known rows; their
        logits are NaN. `filtered` runs the step that top-k and top-p need in place of the plain one, `wavefront` the
        wave graphs in place of row and step; the logits are the same. `twice` runs every graph that writes states a
        second time and raises `VerificationError` unless results and states stay the same to the bit. All are meant for
        verification.
        """
        checked = check_images(self._manifest, images)
        if filtered and not self._distribution.filters:
            raise RequestError(f"filtered is for models of codes; this one's pixels are {self._manifest.pixel.kind}.")
        if wavefront:
            check_schedule("wavefront", self._manifest, self._backend)
            if filtered or known_rows:
                raise RequestError("waves have no filters and begin with the first row; leave these arguments out.")
        resolved = CallConditions(resolve_conditions(self._manifest, conditions, len(checked)), len(checked))
        limit = DEFAULT_MAX_BATCH if max_batch is None else count(max_batch, "max_batch")
        first = count(known_rows, "known_rows") if known_rows else 0
        if first > self._manifest.height:
            raise RequestError(f"known_rows is {shown(first)}, expected an integer from 0 to {self._manifest.height}.")
        part = "filtered" if filtered else "step"
        logits = np.full((*checked.shape[:3], self._distribution.parameters), np.nan, np.float32)
        with self._calls:
            for some in split(len(checked), limit):
                if wavefront:
                    wave = self._work.prepared_wave(resolved, some)
                    rows = replay_waves(self._manifest, wave, checked[some], twice)
                else:
                    batch = self._work.prepared(resolved, some, checked[some], first)
                    rows = replay_rows(self._manifest, batch, checked[some], part, first, twice)
                for i, row in enumerate(rows, first):
                    logits[some, i] = row
        return logits

    @memory_told
    def score(
        self, images: ArrayLike, *, max_batch: int | None = None, progress: Progress | None = None, **conditions: Any
    ) -> NDArray[np.float32]:
        """Natural-log probability of every pixel of `images` (as for `replay`): float32 [n, H, W]. For channels it is
        that of the whole pixel, all channels summed, as 8-bit levels: `pixelsnail_infer.distributions.mixture` says
        how.

        Runs the score graph, which is loaded when first needed, on at most `max_batch` images at once (default 4).
        `progress(done, total)` counts pixels; it runs in the calling thread and must not call this sampler.
        """
        checked = check_images(self._manifest, images)
        resolved = CallConditions(resolve_conditions(self._manifest, conditions, len(checked)), len(checked))
        limit = SCORE_BATCH if max_batch is None else count(max_batch, "max_batch")
        result = np.empty(checked.shape[:3], np.float32)
        with self._calls:
            for some in split(len(checked), limit):
                scoring = self._work.pass_of(some.stop - some.start)
                resolved.fill(some, scoring.prologue)
                scoring.run(checked[some], 0)
                result[some] = scoring.logprob()
                if progress is not None:
                    progress(result[: some.stop].size, result.size)
        return result

    def log_likelihood(
        self, images: ArrayLike, *, max_batch: int | None = None, progress: Progress | None = None, **conditions: Any
    ) -> NDArray[np.float64]:
        """Natural logarithm of each image's probability, float64 [n] in nats: the sum over its pixels of `score`, which
        says what the arguments are. Images that the model did not learn tend to have low values."""
        return log_likelihood(self.score(images, max_batch=max_batch, progress=progress, **conditions))

    def bits_per_dim(
        self, images: ArrayLike, *, max_batch: int | None = None, progress: Progress | None = None, **conditions: Any
    ) -> NDArray[np.float64]:
        """Bits per dimension of each image, float64 [n]: see `score`. An image has H W dimensions, or H W C."""
        return self._distribution.bits_per_dim(self.score(images, max_batch=max_batch, progress=progress, **conditions))

    def state_bytes(self, n: int) -> int:
        """Exact bytes of the states of a batch of n images (see `buffer_bytes` for its other buffers)."""
        return state_bytes(self._manifest, count(n, "n"))

    def buffer_bytes(self, n: int) -> int:
        """Exact bytes of a batch's inputs, outputs, conditions, row result and prologue tensors, without the states."""
        return buffer_bytes(self._manifest, count(n, "n"))

    def batch_growth(self, n: int) -> int:
        """Bytes that a batch of n images takes beyond those of the last batch, whose buffers are still there."""
        return self._work.growth(count(n, "n"))

    @memory_told
    def warm_up(self, n: int = 1, *, filtered: bool = False, score: bool = False) -> None:
        """Allocate a batch of n slots and run its graphs once, so that the next call of that size starts at full speed.

        `filtered` (where the model has filters) and `score` also load and run those graphs.
        """
        size, filters = count(n, "n"), self._distribution.filters
        if not (filtered or score) and in_waves(self._schedule, self._manifest, self._backend, size, False, 0):
            with self._calls:
                self._work.warm_up_waves(size)
            return
        with self._calls:
            self._work.warm_up(size, ("step", "filtered") if filtered and filters else ("step",), score)

    def loaded(self, parts: Sequence[str] = ()) -> tuple[Backend, Graphs]:
        """What an `Engine` draws with, buffers of its own beside this sampler's: the backend, and the graphs, of which
        `parts` are loaded now. Raises what `load` raises."""
        with self._calls:
            backend, graphs = self._work.engine
            for part in parts:
                graphs(part)
        return backend, graphs

    def close(self) -> None:
        """Release graphs and buffers, after waiting for a call in progress; may be called again. Later calls raise."""
        if self._calls.closed:
            return
        with self._calls:
            self._calls.closed = True
            self._work.close()

    def __enter__(self) -> Sampler:
        self._calls.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
