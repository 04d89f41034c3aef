"""Parquet files of records, by pyarrow: the one place that imports it, and only when a shard is Parquet."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import one_line

__all__ = ["parquet", "read_parquet", "require_pyarrow"]


def require_pyarrow() -> None:
    """Raise `BackendError` now if Parquet cannot be written or read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        advice = "install it (pip install 'pixelsnail-infer[ray]'), or write --format npy"
        raise BackendError(f"Parquet needs pyarrow: {advice}.") from error


def parquet(records: NDArray[Any]) -> bytes:
    """The bytes of a Parquet file: a column for each field of the structured array [b]; what has a shape is a column of
    tensors (`arrow.fixed_shape_tensor`, which readers that do not know it see as lists)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name in records.dtype.names or ():
        values = np.ascontiguousarray(records[name])
        tensor = values.ndim > 1
        columns[name] = pa.FixedShapeTensorArray.from_numpy_ndarray(values) if tensor else pa.array(values)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def read_parquet(
    file: BinaryIO, dtype: np.dtype[Any], count: int, names: list[str] | None = None
) -> NDArray[Any]:
    """The records [count] of an open file that `parquet` made of `dtype`; with `names` only these fields of them.
    Raises `ValueError`, in one line, for one that holds others, or is damaged."""
    import pyarrow.parquet as pq

    file.seek(0)
    try:
        held = pq.ParquetFile(file)
        columns, rows = held.schema_arrow.names, held.metadata.num_rows
        if columns == list(dtype.names or ()) and rows == count:
            return _records(held.read(columns=names), dtype if names is None else dtype[names])
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise ValueError(f"it cannot be read as Parquet ({one_line(error, 300)})") from error
    raise ValueError(f"it holds {rows} rows of {one_line(', '.join(columns), 300)}, expected {count} of "
                     f"{', '.join(dtype.names or ())}")  # fmt: skip


def _records(table: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    records = np.empty(table.num_rows, dtype)
    for name in dtype.names or ():
        first = 0
        for chunk in table.column(name).chunks:
            values = chunk.to_numpy_ndarray() if dtype[name].shape else chunk.to_numpy(zero_copy_only=False)
            if values.dtype != dtype[name].base or values.shape[1:] != dtype[name].shape:
                raise TypeError(f"{name} is {values.dtype} {list(values.shape[1:])}, expected {dtype[name]}")
            records[name][first : first + len(values)] = values
            first += len(values)
    return records
