"""OpenVINO: its ScaledDotProductAttention, and a layer around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
from cases import Case
from inputs import Arrays
from openvino import opset13 as ops
from peer import Array, Peer, Unable


def _parameter(array: Array) -> Any:
    kind = openvino.Type.boolean if array.dtype == bool else openvino.Type.f32
    return ops.parameter(list(array.shape), kind)


def _numbers(*numbers: int) -> Any:
    return ops.constant(np.array(numbers, np.int64))


def _spread(node: Any, case: Case) -> Any:
    """Grouped heads as exporters write them: unsqueeze, broadcast, reshape."""
    if case.heads == case.kv_heads:
        return node
    group = case.heads // case.kv_heads
    shape = _numbers(case.batch, case.kv_heads, group, case.keys, case.dim)
    spread = ops.broadcast(ops.unsqueeze(node, _numbers(2)), shape)
    return ops.reshape(spread, _numbers(case.batch, case.heads, case.keys, case.dim), False)


def _attention(case: Case, inputs: dict[str, Any]) -> Any:
    mask = [inputs["mask"]] if case.mask else []
    return ops.scaled_dot_product_attention(
        inputs["query"], _spread(inputs["key"], case), _spread(inputs["value"], case), *mask, causal=case.causal
    )


def _layer(case: Case, arrays: Arrays, x: Any) -> Any:
    width = case.heads * case.dim
    projected = ops.add(ops.matmul(x, ops.constant(arrays["in_weight"]), False, True), ops.constant(arrays["in_bias"]))
    parts = ops.split(projected, ops.constant(np.int64(2)), 3)
    shape = _numbers(case.batch, case.queries, case.heads, case.dim)
    heads = (ops.transpose(ops.reshape(parts.output(part), shape, False), _numbers(0, 2, 1, 3)) for part in range(3))
    attended = ops.transpose(ops.scaled_dot_product_attention(*heads), _numbers(0, 2, 1, 3))
    rows = ops.reshape(attended, _numbers(case.batch, case.queries, width), False)
    return ops.add(ops.matmul(rows, ops.constant(arrays["out_weight"]), False, True), ops.constant(arrays["out_bias"]))


class OpenVino(Peer):
    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        if case.dtype != "float32":
            raise Unable("the CPU plugin computes float64 as float32")
        fed = {"x": arrays["x"]} if case.layer else arrays
        inputs = {name: _parameter(array) for name, array in fed.items()}
        result = _layer(case, arrays, inputs["x"]) if case.layer else _attention(case, inputs)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
        }
        output = np.empty((arrays["x"] if case.layer else arrays["query"]).shape, np.float32)
        try:
            model = openvino.Core().compile_model(
                openvino.Model([result], list(inputs.values()), "peer"), "CPU", settings
            )
            request = model.create_infer_request()
            for index, array in enumerate(fed.values()):
                request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
            request.set_output_tensor(0, openvino.Tensor(output, shared_memory=True))
        except RuntimeError as error:
            raise Unable(" ".join(str(error).split())[-160:]) from None

        def call(keep: Any = (model, fed)) -> Array:
            request.infer(None, share_inputs=True, share_outputs=True)
            return output

        return call


PEERS = [OpenVino("openvino")]
VERSION = openvino.get_version().split("-")[0]
