"""The attention layer: projections, heads, attention, output projection."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ._arrays import as_numpy, expect_distinct_elements, refuse_type, refuse_value
from ._layer_weights import LayerWeights, WeightOrder


class MultiHeadAttention:
    """A multi-head attention layer, as torch.nn.MultiheadAttention computes it.

        q, k, v = query @ Wq.T + bq, key @ Wk.T + bk, value @ Wv.T + bv, split into heads
        output  = concatenated attention(q, k, v) @ Wo.T + bo

    Weights are views of the arrays given, unless packed: a change of those is seen by the next call. All have one type,
    float32 or float64. The layer keeps the memory of its intermediate results, as much as its largest call needed, for the next
    call; calls at once are fine. Shapes below are for weight_order="out_in", torch's; with "in_out" every weight is transposed.

    Args:
        embed_dim: features of a query token.
        num_heads: query heads.
        num_kv_heads: key/value heads, a divisor of num_heads; default num_heads.
        in_proj_weight: (q outputs + k outputs + v outputs, embed_dim), packed; or
        q_proj_weight, k_proj_weight, v_proj_weight: (num_heads * head_dim, embed_dim), (num_kv_heads * head_dim,
            key features), (num_kv_heads * value_dim, value features).
        in_proj_bias: (q outputs + k outputs + v outputs,), for either form of the weights; or
        q_proj_bias, k_proj_bias, v_proj_bias: one value per output.
        out_proj_weight: (outputs, num_heads * value_dim); without it the concatenated heads are the output.
        out_proj_bias: (outputs,).
        weight_order: "out_in" or "in_out".
        batch_first: False: arrays of three axes are (tokens, batch, features), as torch's default.
        pack_weights: True: the layer copies weights and biases now, in the order of the library's kernel, which calls of
            few tokens otherwise do again each time, and as they are, for copies of the layer; changes of the arrays are
            not seen.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: Optional[int] = None,
        in_proj_weight: Any = None,
        in_proj_bias: Any = None,
        q_proj_weight: Any = None,
        k_proj_weight: Any = None,
        v_proj_weight: Any = None,
        q_proj_bias: Any = None,
        k_proj_bias: Any = None,
        v_proj_bias: Any = None,
        out_proj_weight: Any = None,
        out_proj_bias: Any = None,
        weight_order: WeightOrder = "out_in",
        batch_first: bool = True,
        pack_weights: bool = False,
    ) -> None:
        self.embed_dim = _count(embed_dim, "embed_dim")
        self.num_heads = _count(num_heads, "num_heads")
        self.num_kv_heads = self.num_heads if num_kv_heads is None else _count(num_kv_heads, "num_kv_heads")
        if self.num_heads % self.num_kv_heads != 0:
            raise refuse_value("num_kv_heads", self.num_kv_heads, f"a divisor of num_heads ({self.num_heads})")
        self.batch_first = _flag(batch_first, "batch_first")
        arrays = {
            "in_proj_weight": in_proj_weight,
            "q_proj_weight": q_proj_weight,
            "k_proj_weight": k_proj_weight,
            "v_proj_weight": v_proj_weight,
            "in_proj_bias": in_proj_bias,
            "q_proj_bias": q_proj_bias,
            "k_proj_bias": k_proj_bias,
            "v_proj_bias": v_proj_bias,
            "out_proj_weight": out_proj_weight,
            "out_proj_bias": out_proj_bias,
        }
        pack = _flag(pack_weights, "pack_weights")
        self._weights = LayerWeights(self.embed_dim, self.num_heads, self.num_kv_heads, weight_order, pack, arrays)
        self._computer = self._weights.computer(self.batch_first)

    @classmethod
    def from_torch(cls, module: Any, *, pack_weights: bool = False) -> MultiHeadAttention:
        """The layer of a torch.nn.MultiheadAttention, over the module's own weights unless they are packed.

        Called as layer(query, key, value) it gives what the module gives in evaluation; batch_first is the module's.

        Raises:
            TypeError: module is not a torch.nn.MultiheadAttention.
            ValueError: it has what headwise does not compute: bias_k and bias_v, add_zero_attn, dropout in training.
        """
        for name in ("embed_dim", "num_heads", "in_proj_weight", "out_proj"):
            if not hasattr(module, name):
                raise refuse_type("module", f"of type {type(module).__name__}", "a torch.nn.MultiheadAttention")
        if module.bias_k is not None or module.bias_v is not None:
            raise refuse_value("module.bias_k", "a tensor", "None: headwise has no bias_k and bias_v")
        if module.add_zero_attn:
            raise refuse_value("module.add_zero_attn", True, "False")
        if module.training and module.dropout != 0:
            raise refuse_value("module.dropout", module.dropout, "0, or the module in evaluation: call module.eval()")
        names = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        tensors: dict[str, Any] = {name: getattr(module, name) for name in names}
        tensors.update(out_proj_weight=module.out_proj.weight, out_proj_bias=module.out_proj.bias)
        return cls(
            module.embed_dim,
            module.num_heads,
            batch_first=module.batch_first,
            pack_weights=pack_weights,
            **tensors,
        )

    def __call__(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        key_padding_mask: Any = None,
        need_weights: bool = False,
        average_attn_weights: bool = True,
        out: Any = None,
        num_threads: int = 0,
        **options: Any,
    ) -> Any:
        """Computes the layer: self-attention as layer(x), else layer(query, key) or layer(query, key, value).

        Args:
            query: (batch, query_length, embed_dim), or (query_length, embed_dim) without a batch; then every array
                below lacks its batch axis, too.
            key: (batch, key_length, key features); default query.
            value: (batch, key_length, value features); default key.
            key_padding_mask: (batch, key_length), bool or uint8: true = exclude.
            need_weights: also return the weights.
            average_attn_weights: weights averaged over the heads, (batch, query_length, key_length); else (batch,
                num_heads, query_length, key_length).
            out: (batch, query_length, outputs): where to write the output; may be the query, but shares no element with
                a weight or bias unless they are packed.
            num_threads: at most that many; 0 = what OpenMP would use.
            **options: those of attention(): mask, bias, causal, window, scale, softcap, query_position,
                query_offsets, key_lengths, alibi_slopes, sinks, return_logsumexp, return_weights, return_scores.

        Returns:
            The output (batch, query_length, outputs), or a tuple of it and what else was asked for, e.g. (output,
            weights). Torch tensors where query is one. Rows that attend no key have the output of zero heads (torch:
            NaN).
        """
        if need_weights:
            options["return_weights"] = "mean" if average_attn_weights else True
        if key_padding_mask is not None:
            padding = as_numpy(key_padding_mask, "key_padding_mask")
            single = as_numpy(query, "query").ndim == 2
            options["key_padding_mask"] = padding[np.newaxis] if single else padding
        if out is not None:
            output = as_numpy(out, "out")
            expect_distinct_elements(output, "out")
            self._weights.expect_apart(output)
        return self._computer.run(query, key, value, out=out, num_threads=num_threads, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_computer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._computer = self._weights.computer(self.batch_first)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise refuse_type(name, f"of type {type(value).__name__}", "True or False")
    return bool(value)


def _count(number: Any, name: str) -> int:
    try:
        count = int(number.__index__())
    except AttributeError:
        raise refuse_type(name, f"of type {type(number).__name__}", "an integer") from None
    if count < 1:
        raise refuse_value(name, count, "at least 1")
    return count
