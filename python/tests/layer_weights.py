"""Weights of a layer and its result by its formula."""

import numpy as np
import reference

EMBED, HEADS = 12, 3


class Weights:
    """Random weights in torch's order and the layer's result by its formula."""

    def __init__(
        self,
        generator,
        dtype,
        heads=HEADS,
        kv_heads=HEADS,
        head_dim=4,
        value_dim=4,
        key_inputs=EMBED,
        value_inputs=EMBED,
        biases=True,
    ):
        def normal(*shape):
            return generator.normal(size=shape).astype(dtype)

        self.dtype, self.heads, self.kv_heads = dtype, heads, kv_heads
        self.weights = [
            normal(heads * head_dim, EMBED),
            normal(kv_heads * head_dim, key_inputs),
            normal(kv_heads * value_dim, value_inputs),
        ]
        self.biases = [normal(len(weight)) if biases else None for weight in self.weights]
        self.out_weight, self.out_bias = normal(10, heads * value_dim), normal(10)

    def apart(self, order="out_in"):
        turn = (lambda w: w) if order == "out_in" else (lambda w: np.ascontiguousarray(w.T))
        arrays = {f"{name}_proj_weight": turn(weight) for name, weight in zip("qkv", self.weights)}
        arrays.update({f"{name}_proj_bias": bias for name, bias in zip("qkv", self.biases)})
        return dict(arrays, out_proj_weight=turn(self.out_weight), out_proj_bias=self.out_bias, weight_order=order)

    def packed(self, order="out_in"):
        arrays = self.apart(order)
        axis = 0 if order == "out_in" else 1
        together = np.concatenate([arrays.pop(f"{name}_proj_weight") for name in "qkv"], axis=axis)
        biases = [arrays.pop(f"{name}_proj_bias") for name in "qkv"]
        return dict(arrays, in_proj_weight=together, in_proj_bias=None if biases[0] is None else np.concatenate(biases))

    def expected(self, query, key=None, value=None, **options):
        key = query if key is None else key
        value = key if value is None else value
        counts = (self.heads, self.kv_heads, self.kv_heads)
        parts = zip((query, key, value), self.weights, self.biases, counts)
        q, k, v = (
            reference.split_heads(reference.project(reference.exact(tokens), weight, bias, self.dtype), heads)
            for tokens, weight, bias, heads in parts
        )
        heads = reference.attention(q, k, v, dtype=self.dtype, **options)
        output = reference.project(reference.join_heads(heads.output), self.out_weight, self.out_bias, self.dtype)
        return output, heads
