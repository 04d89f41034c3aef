"""The job of a folder of shards: what is drawn, and into what, as `job.json` says it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line, shown
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.bulk.records import KEY, Field, record_dtype
from pixelsnail_infer.runtime.bulk.shards import FORMATS, MOST_SHARDS, shards_in
from pixelsnail_infer.strictjson import decode, encode, parse_object

__all__ = ["JOB_FILE", "Job", "expect_same", "job_text", "read_job"]

JOB_FILE = "job.json"
_VERSION = 1
_MOST_BYTES = 1 << 24  # more than JSON that is read may have; what is longer ends in the middle, and is none
_NOT_COMPARED = ("files", "written_by")
_ADVICE = "give a new folder, or bring the file back from a copy"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that the images and their files depend on.

    `n` images in shards of `shard`, each a file of `format` ("npy" or "parquet"); `seed` in decimal digits, for it may
    need 64 bits; `models` the sha256 of every file that was named; the settings of the draw, as the call takes them;
    classes that are cycled, and the sha256 of other conditions, by name; the fields of a record. `device` and `backend`
    belong to it because another engine may round otherwise. `files` and `written_by` are for people.
    """

    n: int
    shard: int
    format: str
    seed: str
    models: tuple[str, ...]
    links: dict[str, Any]
    temperature: Any
    top_k: Any
    top_p: Any
    classes: dict[str, Any]
    conditions: dict[str, str]
    fields: tuple[Field, ...]
    device: str
    backend: str
    files: tuple[str, ...]
    written_by: str


def job_text(job: Job) -> str:
    """The JSON of `job.json`, a line for each key."""
    held = {"format_version": _VERSION, **{item.name: encode(getattr(job, item.name)) for item in fields(job)}}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in held.items())
    return f"{{\n{lines}\n}}\n"


def read_job(folder: Path) -> Job | None:
    """The job of a folder; None where there is none. Raises `RequestError` for a file that is damaged, or of another
    version."""
    path = folder / JOB_FILE
    try:
        with open_plain(path) as file:
            text = file.read(_MOST_BYTES).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path} cannot be read ({reason}); {_ADVICE}.") from error
    document = parse_object(text, str(path), RequestError)
    if (found := document.pop("format_version", None)) != _VERSION:
        raise RequestError(f"{path} has the version {shown(found)}, expected {_VERSION}; use the pixelsnail-infer that "
                           "wrote it, or give a new folder.")  # fmt: skip
    job = decode(Job, document, str(path), RequestError, _ADVICE)
    if wrong := _wrong(job):
        raise RequestError(f"{path} says {wrong}; {_ADVICE}.")
    return job


def expect_same(there: Job, here: Job, folder: Path) -> None:
    """Raise `RequestError` where the job of a folder is another than the one asked for now, naming what differs."""
    old, new = (json.loads(job_text(job)) for job in (there, here))
    for name in (name for name in old if name not in _NOT_COMPARED):
        if old[name] != new[name]:
            what = f"{folder} holds another job: its {name} is {shown(old[name])}, and now it is {shown(new[name])}"
            raise RequestError(f"{what}; give another folder, or the settings that {JOB_FILE} has.")


def _wrong(job: Job) -> str | None:
    """What no job says. The types are right."""
    if job.n < 1 or job.shard < 1 or shards_in(job.n, job.shard) > MOST_SHARDS:
        return f"{job.n} images in shards of {job.shard}, expected 1 to {MOST_SHARDS:,} shards"
    if job.format not in FORMATS:
        return f"format {shown(job.format)}, expected {' or '.join(FORMATS)}"
    if re.fullmatch("[0-9]{1,20}", job.seed) is None or int(job.seed) >= 1 << 64:
        return f"seed {shown(job.seed)}, expected digits of 0 to 2^64 - 1"
    try:
        dtype = record_dtype(job.fields)
    except (TypeError, ValueError) as error:
        return f"fields of which no record can be made ({one_line(error, 200)})"
    names = tuple(field.name for field in job.fields)
    if dtype.names != names or names[:2] != KEY or any(dtype[name] != np.uint64 for name in KEY):
        return f"fields {one_line(', '.join(names), 200)}, expected {' and '.join(KEY)} of 64 bits, then others"
    if any(dtype[name].base.kind not in "uif" for name in names):
        return "fields of other values than numbers"
    return None
