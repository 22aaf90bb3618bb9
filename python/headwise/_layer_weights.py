"""The weights of an attention layer, checked once."""

from __future__ import annotations

from typing import Any, Literal, Optional

import numpy as np

from ._arrays import as_floats, expect_type, has_dense_rows, refuse_value
from ._headwise import _Layer

Floats = np.ndarray[Any, Any]
WeightOrder = Literal["out_in", "in_out"]


class LayerWeights:
    """The arrays of MultiHeadAttention, under its names."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int,
        weight_order: WeightOrder,
        pack: bool,
        given: dict[str, Any],
    ) -> None:
        if weight_order not in ("out_in", "in_out"):
            raise refuse_value("weight_order", repr(weight_order), '"out_in" or "in_out"')
        self._embed_dim = embed_dim
        self._heads = {"q": num_heads, "k": num_kv_heads, "v": num_kv_heads}
        self._order = weight_order
        self._pack = pack
        self._arrays = {name: _parameter(array, name, pack) for name, array in given.items() if array is not None}
        self._check_forms()
        self._check_types()
        self._outputs = self._projection_outputs()
        self._check_shapes()

    def computer(self, batch_first: bool) -> _Layer:
        """What computes the layer."""
        return _Layer(self._arrays, self._heads["q"], self._heads["k"], self._order, batch_first, self._pack)

    def expect_apart(self, out: Floats) -> None:
        """ValueError if an element of `out` is one of the arrays', which a call must not change."""
        for name, array in self._arrays.items():
            if np.shares_memory(out, array):
                raise refuse_value("out", f"a view that shares an element with {name}", "one that shares none")

    def _inputs_and_outputs(self, weight: Floats) -> tuple[int, int]:
        inputs, outputs = weight.shape if self._order == "in_out" else weight.shape[::-1]
        return inputs, outputs

    def _projection_outputs(self) -> list[int]:
        """Outputs of the projections of query, key and value."""
        if "in_proj_weight" in self._arrays:
            return [heads * (self._embed_dim // self._heads["q"]) for heads in self._heads.values()]
        return [self._inputs_and_outputs(self._arrays[f"{name}_proj_weight"])[1] for name in "qkv"]

    def _check_forms(self) -> None:
        """Either packed or apart, each complete."""
        apart = [f"{name}_proj_weight" for name in "qkv"]
        missing = [name for name in apart if name not in self._arrays]
        if "in_proj_weight" in self._arrays:
            if len(missing) < len(apart):
                raise refuse_value("in_proj_weight", "given", f"none together with {', '.join(apart)}")
        elif missing:
            raise refuse_value(missing[0], "absent", "an array: in_proj_weight is not given")
        for name in "qkv":
            if "in_proj_bias" in self._arrays and f"{name}_proj_bias" in self._arrays:
                raise refuse_value("in_proj_bias", "given", f"none together with {name}_proj_bias")
        if "out_proj_bias" in self._arrays and "out_proj_weight" not in self._arrays:
            raise refuse_value("out_proj_bias", "given", "none without out_proj_weight")

    def _check_types(self) -> None:
        reference = next(iter(self._arrays))
        for name, array in self._arrays.items():
            expect_type(array, name, self._arrays[reference].dtype, f"the type of {reference}")
            axes = 2 if name.endswith("weight") else 1
            if array.ndim != axes:
                raise refuse_value(f"number of axes of {name}", array.ndim, str(axes))

    def _check_shapes(self) -> None:
        heads = self._heads["q"]
        outputs = dict(zip("qkv", self._outputs))
        if "in_proj_weight" in self._arrays:
            if self._embed_dim % heads != 0:
                raise refuse_value("embed_dim", self._embed_dim, f"a multiple of num_heads ({heads})")
            self._expect_weight("in_proj_weight", sum(self._outputs), self._embed_dim)
        else:
            for name in "qv":
                if outputs[name] == 0 or outputs[name] % self._heads[name] != 0:
                    expected = f"a multiple of its {self._heads[name]} heads"
                    raise refuse_value(f"outputs of {name}_proj_weight", outputs[name], expected)
            self._expect_weight("q_proj_weight", outputs["q"], self._embed_dim)
            self._expect_weight("k_proj_weight", outputs["q"] // heads * self._heads["k"])
        if "out_proj_weight" in self._arrays:
            _, features = self._inputs_and_outputs(self._arrays["out_proj_weight"])
            self._expect_weight("out_proj_weight", features, outputs["v"] // self._heads["v"] * heads)
            self._expect_bias("out_proj_bias", features)
        self._expect_bias("in_proj_bias", sum(self._outputs))
        for name in "qkv":
            self._expect_bias(f"{name}_proj_bias", outputs[name])

    def _expect_weight(self, name: str, outputs: int, inputs: Optional[int] = None) -> None:
        if inputs is None:
            inputs, _ = self._inputs_and_outputs(self._arrays[name])
        in_out = self._order == "in_out"
        expected = (inputs, outputs) if in_out else (outputs, inputs)
        if self._arrays[name].shape != expected:
            axes = "(inputs, outputs)" if in_out else "(outputs, inputs)"
            raise refuse_value(f"shape of {name}", self._arrays[name].shape, f"{expected}, {axes}")

    def _expect_bias(self, name: str, outputs: int) -> None:
        if name in self._arrays and self._arrays[name].shape != (outputs,):
            raise refuse_value(f"shape of {name}", self._arrays[name].shape, f"({outputs},), one per output")


def _parameter(array: Any, name: str, pack: bool) -> Floats:
    """A view of a weight or bias; a dense copy of a weight that BLAS cannot read where it lies, and of all to be packed,
    so that copies of the layer can pack them again."""
    view = as_floats(array.detach() if hasattr(array, "detach") else array, name)
    if pack:
        return np.array(view)
    readable = view.ndim != 2 or has_dense_rows(view) or has_dense_rows(view.T)
    return view if readable else np.ascontiguousarray(view)
