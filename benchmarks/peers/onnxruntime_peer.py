"""ONNX Runtime: ONNX's plain Attention, and the operators of its own that models are rewritten to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cases import Case
from inputs import Arrays
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from peer import Array, Peer, Unable

_MICROSOFT = "com.microsoft"
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}


def _rows(array: Array) -> Array:
    """(batch, heads, length, dim) → (batch, length, heads · dim), as in a model."""
    batch, _, length, _ = array.shape
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).reshape(batch, length, -1)


def _session(
    nodes: list[Any],
    feeds: Arrays,
    output_shapes: dict[str, tuple[int, ...]],
    threads: int,
    constants: Arrays | None = None,
    shared: dict[str, str] | None = None,
) -> Callable[[], Array]:
    """One call of a graph with its inputs and outputs bound; `shared` outputs use the buffer of an input."""
    dtype = next(iter(feeds.values())).dtype

    def described(name: str, kind: Any, shape: Sequence[int]) -> Any:
        return make_tensor_value_info(name, _TYPES[kind.name], shape)

    graph = make_graph(
        nodes,
        "peer",
        [described(name, array.dtype, array.shape) for name, array in feeds.items()],
        [described(name, dtype, shape) for name, shape in output_shapes.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = make_model(graph, opset_imports=[make_opsetid("", 23), make_opsetid(_MICROSOFT, 1)], ir_version=11)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        outputs = {}
        for name, shape in output_shapes.items():
            source = (shared or {}).get(name)
            outputs[name] = (
                values[source] if source else onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(shape, dtype))
            )
            binding.bind_ortvalue_output(name, outputs[name])
        session.run_with_iobinding(binding)
    except Exception as error:  # what it raises has no common base
        raise Unable(" ".join(str(error).split())[:160]) from None

    def call(keep: Any = feeds) -> Array:
        session.run_with_iobinding(binding)
        return outputs["output"]  # type: ignore[no-any-return]

    return call


class OnnxRuntimePeer(Peer):
    def takes(self, case: Case) -> bool:
        return not case.layer

    def as_output(self, result: Any) -> Array:
        return result.numpy()  # type: ignore[no-any-return]


class Attention(OnnxRuntimePeer):
    """ONNX's operator."""

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        node = make_node("Attention", list(arrays), ["output"], is_causal=int(case.causal))
        return _session([node], arrays, {"output": arrays["query"].shape}, threads)


class RowsPeer(OnnxRuntimePeer):
    """Operators whose output is (batch, queries, heads · dim)."""

    case: Case

    def as_output(self, result: Any) -> Array:
        rows = super().as_output(result)
        return rows.reshape(*rows.shape[:2], self.case.heads, self.case.dim).transpose(0, 2, 1, 3)


class MultiHeadAttention(RowsPeer):
    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        if case.heads != case.kv_heads:
            raise Unable("MultiHeadAttention has one head count for queries, keys and values")
        self.case = case
        # Self-attention as in a model; keys and values of a cache or of another sequence stay per head.
        layout = _rows if case.queries == case.keys else np.ascontiguousarray
        feeds = {"query": _rows(arrays["query"]), "key": layout(arrays["key"]), "value": layout(arrays["value"])}
        names = list(feeds)
        if case.mask:
            mask = arrays["mask"]
            feeds["mask"] = np.where(mask, 0, -np.inf).astype(case.dtype) if case.mask == "bool" else mask
            names += ["", "", "mask"]
        node = make_node(
            "MultiHeadAttention",
            names,
            ["output"],
            domain=_MICROSOFT,
            num_heads=case.heads,
            unidirectional=int(case.causal),
        )
        return _session([node], feeds, {"output": feeds["query"].shape}, threads)


class GroupQueryAttention(RowsPeer):
    """Always causal, from the right; in decode the cache holds past and present."""

    causal_from_the_right = True

    def takes(self, case: Case) -> bool:
        return super().takes(case) and not case.mask and (case.causal or case.reads_memory)

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        self.case = case
        new = slice(case.keys - case.queries, None)
        feeds = {
            "query": _rows(arrays["query"]),
            "key": _rows(arrays["key"][:, :, new]),
            "value": _rows(arrays["value"][:, :, new]),
            "lengths": np.full(case.batch, case.keys - 1, np.int32),
            "longest": np.array(case.keys, np.int32),
        }
        names, shared = ["query", "key", "value", "", "", "lengths", "longest"], {}
        if case.queries != case.keys:
            feeds |= {"past_key": arrays["key"], "past_value": arrays["value"]}
            names[3:5] = ["past_key", "past_value"]
            shared = {"present_key": "past_key", "present_value": "past_value"}
        node = make_node(
            "GroupQueryAttention",
            names,
            ["output", "present_key", "present_value"],
            domain=_MICROSOFT,
            num_heads=case.heads,
            kv_num_heads=case.kv_heads,
        )
        shapes = {
            "output": feeds["query"].shape,
            "present_key": arrays["key"].shape,
            "present_value": arrays["value"].shape,
        }
        return _session([node], feeds, shapes, threads, shared=shared)


class Layer(OnnxRuntimePeer):
    """Projections around MultiHeadAttention, or packed into ONNX Runtime's own Attention."""

    def __init__(self, name: str, packed: bool) -> None:
        super().__init__(name)
        self.packed = packed

    def takes(self, case: Case) -> bool:
        return case.layer

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        constants = {
            "in_weight": np.ascontiguousarray(arrays["in_weight"].T),
            "in_bias": arrays["in_bias"],
            "out_weight": np.ascontiguousarray(arrays["out_weight"].T),
            "out_bias": arrays["out_bias"],
        }
        if self.packed:
            nodes = [
                make_node(
                    "Attention", ["x", "in_weight", "in_bias"], ["heads"], domain=_MICROSOFT, num_heads=case.heads
                )
            ]
        else:
            nodes = [
                make_node("MatMul", ["x", "in_weight"], ["product"]),
                make_node("Add", ["product", "in_bias"], ["projected"]),
                make_node("Split", ["projected"], ["query", "key", "value"], axis=2, num_outputs=3),
                make_node(
                    "MultiHeadAttention", ["query", "key", "value"], ["heads"], domain=_MICROSOFT, num_heads=case.heads
                ),
            ]
        nodes += [
            make_node("MatMul", ["heads", "out_weight"], ["out_product"]),
            make_node("Add", ["out_product", "out_bias"], ["output"]),
        ]
        feeds = {"x": arrays["x"]}
        return _session(nodes, feeds, {"output": arrays["x"].shape}, threads, constants)


PEERS = [
    Attention("ort-attention"),
    MultiHeadAttention("ort-multi-head"),
    GroupQueryAttention("ort-group-query"),
    Layer("ort-layer", packed=False),
    Layer("ort-attention-layer", packed=True),
]
VERSION = onnxruntime.__version__
