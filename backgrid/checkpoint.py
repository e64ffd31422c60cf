"""Finished batches of a sweep in a file, so that the same sweep can go on where it stopped."""

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backgrid.errors import ParameterError, shown

MAGIC = b"backgrid sweep 1\n"
HEAD = struct.Struct("<qqq")  # numbers of combinations, of those that are done, and of metrics


class Batch(NamedTuple):
    """What came out for some combinations."""

    numbers: np.ndarray  # int64[n]
    state: np.ndarray  # uint8[n]
    values: np.ndarray  # float64[n_done, n_metrics]  of those that are done


class Checkpoint:
    """A file of batches of one sweep: they are added at its end, each with its SHA-256; a torn one at the end is cut.

    Raises
    ------
    ParameterError
        If the file is of another sweep, or no checkpoint.
    """

    def __init__(self, path: str | os.PathLike, key: str) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise ParameterError(f"checkpoint must be a path, got {shown(path)}")
        self.path, self.start = Path(path), MAGIC + key.encode() + b"\n"
        if not self.path.parent.is_dir():
            raise ParameterError(f"checkpoint {self.path}: there is no folder {self.path.parent}")
        try:
            with open(self.path, "rb") as file:
                found = file.read(len(self.start))
        except FileNotFoundError:
            found = b""
        except OSError as error:
            raise ParameterError(f"checkpoint {self.path}: {error.strerror}") from error
        if found and not self.start.startswith(found) and found != self.start:
            what = "is of another sweep" if found.startswith(MAGIC) else "is no checkpoint"
            raise ParameterError(f"checkpoint {self.path} {what}: remove it, or name another file")
        if found != self.start:
            self._write(self.start, "wb")

    def batches(self) -> Iterator[Batch]:
        """The batches that are whole; what follows them is cut off."""
        with open(self.path, "r+b") as file:
            file.seek(len(self.start))
            good = file.tell()
            while len(head := file.read(HEAD.size)) == HEAD.size:
                n, n_done, n_metrics = HEAD.unpack(head)
                size = 9 * n + 8 * n_done * n_metrics
                if min(n, n_done, n_metrics) < 0 or size > os.fstat(file.fileno()).st_size:
                    break
                body, digest = file.read(size), file.read(32)
                if hashlib.sha256(head + body).digest() != digest:
                    break
                good = file.tell()
                values = np.frombuffer(body, dtype="<f8", offset=9 * n).reshape(n_done, n_metrics)
                yield Batch(np.frombuffer(body, "<i8", n), np.frombuffer(body, np.uint8, n, 8 * n), values)
            file.truncate(good)

    def add(self, batch: Batch) -> None:
        """Write a batch to the disk."""
        head = HEAD.pack(batch.numbers.size, *batch.values.shape)
        body = b"".join(
            (batch.numbers.astype("<i8").tobytes(), batch.state.tobytes(), batch.values.astype("<f8").tobytes())
        )
        self._write(head + body + hashlib.sha256(head + body).digest(), "ab")

    def clear(self) -> None:
        """Forget all batches."""
        self._write(self.start, "wb")

    def _write(self, data: bytes, mode: str) -> None:
        with open(self.path, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
