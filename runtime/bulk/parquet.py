"""Parquet files of records, by pyarrow: the one place that imports it, and only when a shard is Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError, GraphFileError

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


def read_parquet(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The records [b] of a file that `parquet` made. Raises `GraphFileError` for one that holds other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise GraphFileError(f"{path} cannot be read as Parquet ({error}); delete it and draw it again.") from error
    if table.column_names != list(dtype.names or ()):
        raise GraphFileError(f"{path} has the columns {', '.join(table.column_names)}, expected "
                             f"{', '.join(dtype.names or ())}.")  # fmt: skip
    records = np.empty(table.num_rows, dtype)
    for name, shape in _shapes(dtype):
        column = table.column(name).combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        records[name] = column.to_numpy_ndarray() if shape else column.to_numpy()
    return records


def _shapes(dtype: np.dtype[Any]) -> Sequence[tuple[str, tuple[int, ...]]]:
    return [(name, dtype[name].shape) for name in dtype.names or ()]
