"""The content hash of :mod:`k2_offload.core.content_hash`, computed here instead of by ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from k2_offload.core.content_hash import NAN_WORD, NULL_WORD, SEED, TypedColumn

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

_MIX = 0x4CF2D2BAAE6DA887
_MURMUR = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53


def row_hashes(rows: pa.RecordBatch, columns: Sequence[TypedColumn]) -> Words:
    """The hash of each row.

    :param rows: with these columns at least, in Iceberg's types
    :param columns: in the table's order
    """
    state = np.full(rows.num_rows, SEED, np.uint64)
    for column in columns:
        values = rows.column(column.name)
        empty = values.is_null().to_numpy(zero_copy_only=False)
        for word in _words(values, column.iceberg_type):
            state = _mixed(np.bitwise_xor(state, np.where(empty, np.uint64(NULL_WORD), word)))
    return state


def _mixed(state: Words) -> Words:
    state = state ^ np.uint64(_MIX)
    for factor in _MURMUR:
        state = (state ^ (state >> np.uint64(33))) * np.uint64(factor)
    return state ^ (state >> np.uint64(33))


def _words(values: Any, iceberg_type: str) -> Iterator[Words]:
    """Of NULL, anything."""
    import pyarrow as pa

    if iceberg_type in ("boolean", "int", "long"):
        yield _numbers(values.cast(pa.int64())).view(np.uint64)
    elif iceberg_type == "date":
        yield _numbers(values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())).view(np.uint64)
    elif iceberg_type == "timestamptz":
        yield micros(values).view(np.uint64)
    elif iceberg_type in ("float", "double"):
        numbers = _numbers(values.cast(pa.float64()))
        yield np.where(np.isnan(numbers), np.uint64(NAN_WORD), numbers.view(np.uint64))
    elif iceberg_type.startswith("decimal"):
        halves = np.frombuffer(values.buffers()[1], np.uint64)
        yield from halves.reshape(-1, 2)[values.offset : values.offset + len(values)].T
    else:
        yield _text_hashes(values)


def micros(times: Any) -> NDArray[np.int64]:
    """Times as microseconds since 1970 UTC; of NULL, 0."""
    import pyarrow as pa

    return _numbers(times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()))


def _numbers(values: Any) -> NDArray[Any]:
    return values.fill_null(0).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _text_hashes(values: Any) -> Words:
    import pyarrow as pa

    encoded = values.cast(pa.large_binary()).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    hashes = np.fromiter(map(xxhash.xxh64_intdigest, texts), np.uint64, len(texts))
    if not texts:
        return np.zeros(len(values), np.uint64)
    return np.take(hashes, _numbers(encoded.indices))
