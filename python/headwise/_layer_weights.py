"""The weights of an attention layer: checked once, applied by BLAS."""

from __future__ import annotations

import itertools
from typing import Any, Literal, Optional

import numpy as np

from ._arrays import as_floats, expect_type, has_dense_rows, refuse_value, with_dense_rows
from ._headwise import project
from ._scratch import Scratch

Floats = np.ndarray[Any, Any]
WeightOrder = Literal["out_in", "in_out"]


class LayerWeights:
    """The arrays of MultiHeadAttention, under its names."""

    def __init__(
        self, embed_dim: int, num_heads: int, num_kv_heads: int, weight_order: WeightOrder, given: dict[str, Any]
    ) -> None:
        if weight_order not in ("out_in", "in_out"):
            raise refuse_value("weight_order", repr(weight_order), '"out_in" or "in_out"')
        self._embed_dim = embed_dim
        self._heads = {"q": num_heads, "k": num_kv_heads, "v": num_kv_heads}
        self._order = weight_order
        self._arrays = {name: _parameter(array, name) for name, array in given.items() if array is not None}
        self._shapes = {name: array.shape for name, array in self._arrays.items()}
        self._check_forms()
        self._check_types()
        self._outputs = self._projection_outputs()
        # Where the outputs of query, key and value lie side by side in packed weights.
        ends = [0, *itertools.accumulate(self._outputs)]
        self._parts = [slice(begin, end) for begin, end in zip(ends, ends[1:])]
        self._check_shapes()

    def expect_same_type(self, tokens: Floats, name: str) -> None:
        reference = next(iter(self._arrays))
        expect_type(tokens, name, self._arrays[reference].dtype, f"the type of {reference}")

    def project_inputs(
        self,
        query: Floats,
        key: Optional[Floats],
        value: Optional[Floats],
        scratch: Scratch,
        num_threads: int,
    ) -> list[Floats]:
        """The projections of query, key and value, [batch, tokens, outputs]; packed weights of one input in one."""
        self._expect_unchanged()
        packed, bias = self._arrays.get("in_proj_weight"), self._arrays.get("in_proj_bias")
        if packed is not None and key is None and value is None:
            self._expect_features(query, "query", packed)
            out = scratch.take("projected", (*query.shape[:2], self._parts[-1].stop), query.dtype)
            projected = self._project(query, packed, bias, num_threads, out)
            return [projected[:, :, part] for part in self._parts]
        key = query if key is None else key
        value = key if value is None else value
        results = []
        for part, (name, tokens) in zip(self._parts, (("query", query), ("key", key), ("value", value))):
            if packed is None:
                weight = self._arrays[f"{name[0]}_proj_weight"]
            else:
                weight = packed[part] if self._order == "out_in" else packed[:, part]
            own_bias = self._arrays.get(f"{name[0]}_proj_bias") if bias is None else bias[part]
            self._expect_features(tokens, name, weight)
            out = scratch.take(name, (*tokens.shape[:2], part.stop - part.start), tokens.dtype)
            results.append(self._project(tokens, weight, own_bias, num_threads, out))
        return results

    @property
    def has_output_projection(self) -> bool:
        return "out_proj_weight" in self._arrays

    def project_output(self, heads: Floats, num_threads: int) -> Floats:
        """The output projection."""
        arrays = self._arrays
        return self._project(heads, arrays["out_proj_weight"], arrays.get("out_proj_bias"), num_threads)

    def _project(
        self, tokens: Floats, weight: Floats, bias: Optional[Floats], num_threads: int, out: Optional[Floats] = None
    ) -> Floats:
        dense = with_dense_rows(tokens)
        return project(dense, weight, bias, weight_order=self._order, out=out, num_threads=num_threads)

    def _inputs_and_outputs(self, weight: Floats) -> tuple[int, int]:
        inputs, outputs = weight.shape if self._order == "in_out" else weight.shape[::-1]
        return inputs, outputs

    def _projection_outputs(self) -> list[int]:
        """Outputs of the projections of query, key and value."""
        if "in_proj_weight" in self._arrays:
            return [heads * (self._embed_dim // self._heads["q"]) for heads in self._heads.values()]
        return [self._inputs_and_outputs(self._arrays[f"{name}_proj_weight"])[1] for name in "qkv"]

    def _expect_features(self, tokens: Floats, name: str, weight: Floats) -> None:
        inputs, _ = self._inputs_and_outputs(weight)
        if tokens.shape[2] != inputs:
            raise refuse_value(f"features of {name}", tokens.shape[2], f"{inputs} (inputs of its weight)")

    def _expect_unchanged(self) -> None:
        """The caller owns the arrays, and NumPy lets him resize them."""
        for name, array in self._arrays.items():
            if array.shape != self._shapes[name]:
                raise refuse_value(f"shape of {name}", array.shape, f"{self._shapes[name]}, as when the layer was made")

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
        for name, array in self._arrays.items():
            self.expect_same_type(array, name)
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


def _parameter(array: Any, name: str) -> Floats:
    """A view of a weight or bias; a dense copy of a weight that BLAS cannot read where it lies."""
    view = as_floats(array.detach() if hasattr(array, "detach") else array, name)
    readable = view.ndim != 2 or has_dense_rows(view) or has_dense_rows(view.T)
    return view if readable else np.ascontiguousarray(view)
