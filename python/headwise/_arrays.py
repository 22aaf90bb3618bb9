"""Arrays as the Python half of the module handles them: as NumPy views of whatever the caller gave."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def refuse_type(name: str, value: object, expected: str) -> TypeError:
    return TypeError(f"headwise: {name} is {value}, expected {expected}")


def refuse_value(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"headwise: {name} is {value}, expected {expected}")


def is_torch_tensor(array: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_numpy(array: Any, name: str) -> np.ndarray[Any, Any]:
    """A view of the array's memory; TypeError naming the argument where there is none on the CPU."""
    if isinstance(array, np.ndarray):
        return array
    expected = "an array on the CPU (NumPy, or any with DLPack)"
    if not hasattr(array, "__dlpack__"):
        try:
            return np.asarray(memoryview(array))
        except TypeError:
            raise refuse_type(name, f"of type {type(array).__name__}", expected) from None
    try:
        return np.from_dlpack(array) if not is_torch_tensor(array) else array.numpy()
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        dtype = getattr(array, "dtype", "unknown")
        raise refuse_type(name, f"{type(array).__name__} of {dtype} that gives no data ({error})", expected) from error


def as_floats(array: Any, name: str) -> np.ndarray[Any, Any]:
    """As as_numpy, of float32 or float64."""
    view = as_numpy(array, name)
    if view.dtype not in (np.float32, np.float64):
        raise refuse_type(name, view.dtype, "float32 or float64")
    return view


def expect_type(array: np.ndarray[Any, Any], name: str, dtype: np.dtype[Any], reason: str) -> None:
    if array.dtype != dtype:
        raise refuse_type(name, array.dtype, f"{dtype} ({reason})")


def expect_distinct_elements(out: np.ndarray[Any, Any], name: str) -> None:
    """ValueError if two elements lie at the same address: then the first entry along an axis has one of the others'."""
    if out.flags.forc:
        return
    part = out
    while part.ndim > 0 and part.size > 0:
        if np.shares_memory(part[:1], part[1:]):
            expected = "strides that give every element an address of its own"
            raise refuse_value(f"{name}.strides", out.strides, expected)
        part = part[0]


def as_kind_of(result: np.ndarray[Any, Any], query: object) -> Any:
    """The result as a torch tensor over the same memory where the query is one."""
    return sys.modules["torch"].from_numpy(result) if is_torch_tensor(query) else result


def written_to(out: Any, output: np.ndarray[Any, Any]) -> Any:
    """Copies a result into the caller's array, which is returned."""
    target = as_numpy(out, "out")
    expect_type(target, "out", output.dtype, "the type of the result")
    if target.shape != output.shape:
        raise refuse_value("shape of out", target.shape, str(output.shape))
    if not target.flags.writeable:
        raise refuse_value("out", "read-only", "an array that may be written")
    expect_distinct_elements(target, "out")
    np.copyto(target, output)
    return out


def has_dense_rows(array: np.ndarray[Any, Any]) -> bool:
    """Whether BLAS can read the array: dense features, tokens one after the other."""
    features = array.shape[-1]
    return (features <= 1 or array.strides[-1] == array.itemsize) and (
        array.shape[-2] <= 1 or array.strides[-2] >= features * array.itemsize
    )
