"""PyTorch: scaled_dot_product_attention as it chooses and with a given backend, and its layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case
from inputs import Arrays
from peer import Array, Peer, Unable
from torch.nn.attention import SDPBackend, sdpa_kernel

# The backend "math" stores all scores: larger cases would measure memory.
_LARGEST_MATH = 8 * 1024 * 1024


class TorchPeer(Peer):
    def as_output(self, result: Any) -> Array:
        return result.numpy()  # type: ignore[no-any-return]

    def around(self) -> AbstractContextManager[Any]:
        guard: AbstractContextManager[Any] = torch.inference_mode()
        return guard

    @staticmethod
    def tensors(arrays: Arrays, threads: int) -> dict[str, torch.Tensor]:
        torch.set_num_threads(threads)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Attention(TorchPeer):
    """scaled_dot_product_attention; folded, the heads of a group are rows of one head."""

    def __init__(self, name: str, backend: SDPBackend | None = None, folded: bool = False) -> None:
        super().__init__(name)
        self.backend, self.folded = backend, folded

    def takes(self, case: Case) -> bool:
        if self.folded and (case.heads == case.kv_heads or case.causal or case.mask):
            return False
        scores = case.batch * case.heads * case.queries * case.keys
        return not case.layer and (self.backend != SDPBackend.MATH or scores <= _LARGEST_MATH)

    def around(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(super().around())
        if self.backend is not None:
            stack.enter_context(sdpa_kernel([self.backend]))
        return stack

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Any]:
        tensors = self.tensors(arrays, threads)
        query, key, value, mask = (tensors.get(name) for name in ("query", "key", "value", "mask"))
        assert query is not None and key is not None and value is not None
        shape = query.shape
        if self.folded:
            query = query.reshape(case.batch, case.kv_heads, -1, case.dim)
        options = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}

        if self.backend == SDPBackend.FLASH_ATTENTION:
            with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
                chosen = torch._fused_sdp_choice(query, key, value, mask, 0.0, case.causal, **options)
            if chosen == SDPBackend.FLASH_ATTENTION.value:
                raise Unable('what "torch" chooses itself')

        def call() -> Any:
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=case.causal, **options)
            return output.reshape(shape)

        try:
            call()
        except RuntimeError as error:
            raise Unable(str(error).splitlines()[0]) from None
        return call


class Layer(TorchPeer):
    """nn.MultiheadAttention as it is."""

    def takes(self, case: Case) -> bool:
        return case.layer

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Any]:
        tensors = self.tensors(arrays, threads)
        layer = torch.nn.MultiheadAttention(case.heads * case.dim, case.heads, batch_first=True).eval()
        layer.in_proj_weight.copy_(tensors["in_weight"])
        layer.in_proj_bias.copy_(tensors["in_bias"])
        layer.out_proj.weight.copy_(tensors["out_weight"])
        layer.out_proj.bias.copy_(tensors["out_bias"])
        x = tensors["x"]
        return lambda: layer(x, x, x, need_weights=False)[0]


class SdpaLayer(TorchPeer):
    """The layer as models write it: linear, scaled_dot_product_attention, linear."""

    def takes(self, case: Case) -> bool:
        return case.layer

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Any]:
        tensors = self.tensors(arrays, threads)
        x = tensors["x"]

        def call() -> Any:
            projected = F.linear(x, tensors["in_weight"], tensors["in_bias"])
            heads = projected.view(case.batch, case.queries, 3, case.heads, case.dim).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(*heads)
            return F.linear(attended.transpose(1, 2).reshape(x.shape), tensors["out_weight"], tensors["out_bias"])

        return call


PEERS = [
    Attention("torch"),
    Attention("torch-flash", SDPBackend.FLASH_ATTENTION),
    Attention("torch-math", SDPBackend.MATH),
    Attention("torch-folded", folded=True),
    Layer("torch-layer"),
    SdpaLayer("torch-sdpa-layer"),
]
VERSION = torch.__version__
