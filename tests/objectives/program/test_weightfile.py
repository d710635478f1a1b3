"""The weight file's format: our reader against coremltools' own writer and reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.libmilstoragepython import _BlobStorageReader, _BlobStorageWriter
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.program import TensorType
from coreml_pareto.objectives.program.weightfile import WeightFile, unpack
from coreml_pareto.spaces.errors import UserError

rng = np.random.default_rng(0)
VALUES: dict[str, Any] = {
    "fp32": rng.normal(size=77).astype(np.float32),
    "fp16": rng.normal(size=77).astype(np.float16),
    "int8": rng.integers(-128, 128, 77, np.int8),
    "uint8": rng.integers(0, 256, 77, np.uint8),
    "int16": rng.integers(-32768, 32768, 77, np.int16),
    "int32": rng.integers(-(2**31), 2**31, 77, np.int32),
    "int4": rng.integers(-8, 8, 77, np.int8),
    **{f"uint{bits}": rng.integers(0, 2**bits, 77, np.uint8) for bits in (1, 2, 3, 4, 6)},
}


@pytest.mark.parametrize("dtype", VALUES)
def test_reads_what_coremltools_writes(dtype: str, tmp_path: Path) -> None:
    path, values = tmp_path / "weight.bin", VALUES[dtype]
    name = {"fp32": "float"}.get(dtype, dtype)
    writer = _BlobStorageWriter(str(path))
    data = values.view(np.uint16) if dtype == "fp16" else values
    offsets = [getattr(writer, f"write_{name}_data")(part) for part in (data[:40], data)]
    del writer
    kind = TensorType(dtype, (7, 11))
    read = WeightFile.open(path).read(offsets[1], kind)
    np.testing.assert_array_equal(read, values.reshape(7, 11))
    native = np.asarray(getattr(_BlobStorageReader(str(path)), f"read_{name}_data")(offsets[1]))
    np.testing.assert_array_equal(read.reshape(-1), native.view(np.float16) if dtype == "fp16" else native)
    assert WeightFile.open(path).locate(offsets[1], kind)[1] == kind.nbytes


@given(st.sampled_from([1, 2, 3, 4, 6, 8]), st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_unpacking_is_a_stream_of_bits_from_the_lowest_on(bits: int, values: list[int]) -> None:
    values = [value % 2**bits for value in values]
    stream = sum(value << (bits * i) for i, value in enumerate(values))
    packed = stream.to_bytes((bits * len(values) + 7) // 8, "little")
    assert unpack(packed, f"uint{bits}", len(values)).tolist() == values


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"),
    [("uint3", (3,), 2), ("uint1", (9,), 2), ("int4", (5,), 3), ("uint6", (4,), 3), ("fp16", (2, 3), 12),
     ("bool", (3,), 3), ("fp32", (), 4), ("string", (), 0), ("uint8", (0, 4), 0)],
)  # fmt: skip
def test_bytes_of_a_type(dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    assert TensorType(dtype, shape).nbytes == nbytes


def test_a_type_without_decoder_is_refused() -> None:
    with pytest.raises(UserError, match="fp8e5m2"):
        unpack(b"\0" * 8, "fp8e5m2", 8)
