"""The cases of Attention and RotaryEmbedding that the installed onnx package generates, run through the module."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

import headwise

HALF_TYPES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


@dataclass
class Case:
    name: str
    opset: int
    node: onnx.NodeProto
    inputs: dict[str, Any]  # by their names in the case
    outputs: dict[str, Any]
    rtol: float
    atol: float

    @property
    def arguments(self) -> list[Any]:
        """The node's inputs in the operator's order, None where omitted."""
        return [self.inputs[name] if name else None for name in self.node.input]

    @property
    def attributes(self) -> dict[str, Any]:
        return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in self.node.attribute}

    @property
    def storage(self) -> np.dtype[Any]:
        return np.dtype(self.arguments[0].dtype)


@lru_cache(maxsize=None)
def cases() -> tuple[Case, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cases of other operators
        every_case = collect_testcases(None)
    found = []
    for case in every_case:
        graph, opset = case.model.graph, case.model.opset_import[0].version
        # The other cases of more nodes are the expansions of these, which have their inputs and outputs.
        if len(graph.node) != 1 or graph.node[0].op_type not in ("Attention", "RotaryEmbedding"):
            continue
        for inputs, outputs in case.data_sets:
            named_inputs = dict(zip((value.name for value in graph.input), inputs))
            named_outputs = dict(zip((value.name for value in graph.output), outputs))
            found.append(Case(case.name, opset, graph.node[0], named_inputs, named_outputs, case.rtol, case.atol))
    return tuple(found)


def as_type(array: Any, dtype: Any) -> Any:
    """Floating-point arrays in another type, others as they are."""
    is_float = array is not None and (array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16)
    return array.astype(dtype) if is_float else array


def computed(case: Case, dtype: Any) -> dict[str, Any]:
    """What headwise computes in dtype, by the names of the case's outputs."""
    arguments = [as_type(array, dtype) for array in case.arguments]
    if case.node.op_type == "RotaryEmbedding":
        results = (headwise.onnx.rotary_embedding(*arguments, **case.attributes),)
    else:
        results = headwise.onnx.attention(*arguments, **case.attributes)
    return {name: result for name, result in zip(case.node.output, results) if name}


def evaluated(case: Case, dtype: Any) -> dict[str, Any]:
    """What onnx's reference evaluator computes in dtype."""
    inputs = {name: as_type(array, dtype) for name, array in case.inputs.items()}
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    outputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name in case.node.output if name]
    graph = onnx.helper.make_graph([case.node], "case", values, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", case.opset)])
    names = [value.name for value in outputs]
    return dict(zip(names, ReferenceEvaluator(model).run(names, inputs)))
