"""How are weights stored?  The blob file `weights/weight.bin` of an ML program, mapped and never read whole.

Format: apple/coremltools `mlmodel/src/MILBlob/Blob/StorageFormat.hpp` and `BlobDataType.hpp`: a header of 64 bytes
(count, version 2), then pairs of 64 bytes of metadata (sentinel, type, bytes, offset, padding bits) and data, each
aligned to 64 bytes. Elements of less than a byte are packed from the least significant bit on, across byte borders.
Own code instead of coremltools' private `_BlobStorageReader`, so that every weight's place is checked when the package
is opened and nothing is copied before it is needed; the tests compare the two.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_pareto.objectives.program.program import BITS, TensorType
from coreml_pareto.spaces.errors import UserError

SENTINEL = 0xDEADBEEF
_METADATA = struct.Struct("<IIQQQ")
_HEADER_BYTES = 64

_NUMPY = {"fp32": "<f4", "fp16": "<f2", "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "i1", "bool": "?",
          "uint64": "<u8", "uint32": "<u4", "uint16": "<u2", "uint8": "u1", "fp64": "<f8"}  # fmt: skip


def unpack(data: bytes | memoryview, dtype: str, elements: int) -> np.ndarray[Any, Any]:
    """Flat array of `elements` values of a MIL type; types below 8 bits come out as int8 or uint8."""
    bits = BITS[dtype]
    if dtype in _NUMPY:
        return np.frombuffer(data, _NUMPY[dtype], elements)
    if bits > 8 or bits == 0 or dtype.startswith("fp"):
        raise UserError(f"weights of type {dtype} cannot be decoded; store them as fp16, fp32 or integers")
    raw = np.frombuffer(data, np.uint8, (elements * bits + 7) // 8)
    planes = np.unpackbits(raw, bitorder="little", count=elements * bits).reshape(elements, bits)
    values = np.packbits(planes, axis=1, bitorder="little")[:, 0]
    if dtype.startswith("u"):
        return values
    return np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)


@dataclass(frozen=True)
class WeightFile:
    """A mapped weight file."""

    path: Path
    data: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> WeightFile:
        """Map `path`; UserError when it is missing or too short for its header."""
        if not path.is_file():
            raise UserError(f"a package brings its weights along; {path} is missing; copy the whole folder again")
        if path.stat().st_size < _HEADER_BYTES:
            raise _damaged(path, "it ends within its header")
        with path.open("rb") as stream:
            return cls(path, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))

    def locate(self, offset: int, kind: TensorType) -> tuple[int, int]:
        """(first byte, number of bytes) of the data whose metadata stands at `offset`; UserError if damaged."""
        if offset + _HEADER_BYTES > len(self.data):
            raise _damaged(self.path, f"it ends before byte {offset + _HEADER_BYTES}")
        sentinel, _, size, start, _ = _METADATA.unpack_from(self.data, offset)
        if sentinel != SENTINEL:
            raise _damaged(self.path, f"no weight begins at byte {offset}")
        if start + size > len(self.data):
            raise _damaged(self.path, f"it has {len(self.data)} bytes, one weight ends at {start + size}")
        if size < kind.nbytes:
            raise _damaged(self.path, f"a weight of {kind.nbytes} bytes has {size} at byte {offset}")
        return start, size

    def read(self, offset: int, kind: TensorType) -> np.ndarray[Any, Any]:
        """The elements of the blob whose metadata stands at `offset`, as an array of `kind.shape`."""
        start, size = self.locate(offset, kind)
        return unpack(memoryview(self.data)[start : start + size], kind.dtype, kind.elements).reshape(kind.shape)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"the weight file {path} is damaged: {what}; copy the whole package again or convert it anew")
