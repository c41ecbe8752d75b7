"""Parquet: each segment of the journal that is complete becomes one file, whole or not at all.

    rows of a segment ──> row groups in .NAME.new ──segment is complete──> fsync ──> rename: segment-0000000000000001.parquet

The position is in the metadata of the newest file. A process that is killed leaves a temporary file, which the next one
removes; that one begins again at the first row of that segment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from wsadapter.contract.items import Batch
from wsadapter.journal.folder import sync_folder
from wsadapter.outputs.lines import event_line
from wsadapter.sinks.base import Position, SinkBatch, SinkMisconfigured, SinkRecord, TargetRefused
from wsadapter.sinks.jsonl import failure

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError:  # `ParquetSink` raises an error that names the extra
    pa = parquet = None

_GROUP: Final = 65_536
"""Rows of a row group, at most."""
_GROUP_BYTES: Final = 32 * 1024 * 1024
_METADATA: Final = b"wsadapter.position"
_PATTERN: Final = "segment-*.parquet"


class ParquetSink:
    """The sink `kind = "parquet"`."""

    def __init__(self, name: str, path: str, *, compression: str = "zstd") -> None:
        """`path`: the folder."""
        if pa is None:
            raise SinkMisconfigured('kind = "parquet" needs pyarrow: pip install "wsadapter[parquet]"')
        self._folder = Path(path)
        self._fresh = self._folder / f".{name}.parquet.new"
        self._compression = compression
        self._position: Position | None = None
        self._after: Position | None = None
        self._segment: int | None = None
        """Of the rows that wait, and of the temporary file."""
        self._rows: list[tuple[Any, ...]] = []
        self._size = 0
        self._writer: Any = None
        self._schema = pa.schema([
            ("seq", pa.int64()), ("endpoint", pa.dictionary(pa.int32(), pa.string())),
            ("epoch", pa.int64()), ("number", pa.int64()), ("at", pa.timestamp("ns", tz="UTC")),
            ("stream", pa.string()), ("binary", pa.bool_()), ("data", pa.binary()), ("event", pa.string()),
        ])  # fmt: skip

    def open(self, position: Position) -> Position:
        """The position in the newest file. Raises `SinkError`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._fresh.unlink(missing_ok=True)
            found = sorted(self._folder.glob(_PATTERN))
        except OSError as error:
            raise failure(error, self._folder) from error
        if found:
            try:
                said = (parquet.read_metadata(found[-1]).metadata or {})[_METADATA]
                position = Position.from_json(json.loads(said))
            except (KeyError, ValueError, OSError, pa.ArrowException) as error:
                raise SinkMisconfigured(
                    f"{found[-1]} is not a file of this sink ({error!r}); give the sink a separate folder"
                ) from error
        self._position = self._after = position
        return position

    def write(self, batch: SinkBatch) -> None:
        """Add rows; if they are of another segment than the rows before, that one is complete. Raises `SinkError`."""
        try:
            if self._segment is not None and batch.segment != self._segment:
                self._complete()
            if self._segment is None:
                self._segment = batch.segment
            for record in batch.records:
                self._rows += _rows(record)
                self._size += sum(map(len, record.item)) if isinstance(record.item, Batch) else 0
            if len(self._rows) >= _GROUP or self._size >= _GROUP_BYTES:
                self._write_group()
            self._after = batch.after
        except OSError as error:
            raise failure(error, self._folder) from error
        except pa.ArrowException as error:
            raise TargetRefused(f"{self._folder}: {error}") from error

    def _write_group(self) -> None:
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._fresh, self._schema, compression=self._compression)
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._size = [], 0

    def _complete(self) -> None:
        assert self._after is not None
        self._write_group()
        self._writer.add_key_value_metadata({_METADATA.decode(): json.dumps(self._after.to_json())})
        self._writer.close()
        self._writer = None
        fd = os.open(self._fresh, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._fresh.replace(self._folder / f"segment-{self._segment:016}.parquet")
        sync_folder(self._folder)
        self._position, self._segment = self._after, None

    def flush(self) -> None:
        """Nothing: a file is there when its segment is complete."""

    @property
    def position(self) -> Position:
        """Behind the last segment that is a file."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Leave the temporary file: its segment is not complete."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._fresh.unlink(missing_ok=True)


def _rows(record: SinkRecord) -> Iterator[tuple[Any, ...]]:
    item = record.item
    if not isinstance(item, Batch):
        yield record.begin, item.endpoint, item.epoch, None, item.at, None, None, None, event_line(item).decode().rstrip("\n")
        return
    for place, message in enumerate(item.around(iter(item)), record.begin):
        endpoint, data, epoch, number, at, stream, binary = message
        yield place, endpoint, epoch, number, at, stream, binary, data, None
