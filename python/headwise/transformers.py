"""Attention of Hugging Face transformers through headwise's kernels, on CPU.

    import headwise.transformers
    headwise.transformers.register()
    model = AutoModel.from_pretrained(name, attn_implementation="headwise")

Encoders and decoders, grouped heads, padding, causal masks, static and dynamic caches, sliding windows, softcap, sinks
and position biases, in float32 and float64. What headwise does not compute (gradients, dropout, half precision, other
devices) runs through torch's "sdpa" with a warning, or is refused where "sdpa" would be wrong. Rows that attend no key
(queries in left padding) are zero.

torch and headwise share OpenMP's threads; docs/transformers.md tells which setting is best.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask
from transformers.utils import logging

import headwise

__all__ = ["attention_forward", "attention_mask", "register"]

_logger = logging.get_logger(__name__)

# Arguments that some models pass to their attention and that change what it computes in ways headwise does not know.
_FOREIGN_ARGUMENTS = ("block_indices", "cache", "indices", "sinks")


def register(name: str = "headwise") -> None:
    """Makes ``attn_implementation=name`` known to transformers."""
    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, attention_mask)


def attention_mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    kv_offset: int = 0,
    attention_mask: torch.Tensor | None = None,
    mask_function: Any = None,
    **arguments: Any,
) -> torch.Tensor | None:
    """The boolean mask (batch, 1, queries, keys) of a model, or None where causality or nothing says it all.

    As "sdpa" makes it; but a mask of padding alone is a view that has no bytes per query.
    """
    # Every query of a bidirectional mask attends the same keys, so that one row serves all.
    rows = 1 if mask_function is bidirectional_mask_function else q_length
    mask: torch.Tensor | None = sdpa_mask(
        batch_size=batch_size,
        q_length=rows,
        kv_length=kv_length,
        kv_offset=kv_offset,
        attention_mask=attention_mask,
        mask_function=mask_function,
        **arguments,
    )
    return None if mask is None else mask.expand(-1, -1, q_length, -1)


@torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of query (batch, heads, queries, dim) over key and value (batch, kv heads, keys, dim).

    Returns the output (batch, queries, heads, dim) and, with ``output_attentions=True``, the weights.
    """
    for name in _FOREIGN_ARGUMENTS:
        if arguments.get(name) is not None:
            raise NotImplementedError(f'headwise does not know the attention argument {name}: use "eager"')
    tensors = (query, key, value, attention_mask, position_bias, s_aux)
    needs_gradients = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    reason = _why_not(query, dropout, needs_gradients)
    if reason is not None:
        if softcap is not None or s_aux is not None:
            raise NotImplementedError(f'{reason}, and "sdpa" has no softcap and no sinks: use "eager"')
        _logger.warning_once(f'{reason}: "sdpa" takes its place')
        by_torch: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            position_bias=position_bias,
            **arguments,
        )
        return by_torch

    batch, num_heads, query_length, _ = query.shape
    mask, bias = _mask_and_bias(query.dtype, attention_mask, position_bias)
    key_lengths = None if mask is None else _key_lengths(mask, batch)
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    # Positions are transposed in memory, so that the caller's concatenation of the heads copies nothing.
    output = query.new_empty(batch, query_length, num_heads, value.shape[3])
    results = headwise.attention(
        query.detach(),
        key.detach().expand(batch, -1, -1, -1),
        value.detach().expand(batch, -1, -1, -1),
        mask=mask if key_lengths is None else None,
        bias=bias,
        key_lengths=key_lengths,
        # Masks hold causality already; without one, the queries are the first positions or there is just one, the last.
        causal=bool(is_causal) and attention_mask is None and query_length > 1,
        scale=scaling,
        softcap=softcap or 0.0,
        sinks=None if s_aux is None else s_aux.detach().to(query.dtype).contiguous(),
        return_weights=bool(arguments.get("output_attentions")),
        out=output.transpose(1, 2),
        num_threads=torch.get_num_threads(),
    )
    return output, torch.as_tensor(results[1]) if isinstance(results, tuple) else None


def _why_not(query: torch.Tensor, dropout: float, needs_gradients: bool) -> str | None:
    """Why headwise does not compute this attention, if it doesn't."""
    if query.device.type != "cpu":
        return f"headwise computes on CPU, the model is on {query.device}"
    if query.dtype not in (torch.float32, torch.float64):
        return f"headwise computes in float32 and float64, the model in {query.dtype}".replace("torch.", "")
    if dropout:
        return f"headwise has no dropout (here {dropout:g})"
    if needs_gradients:
        return "headwise computes no gradients (torch.no_grad() says that none are needed)"
    if torch.jit.is_tracing():
        return "headwise cannot be traced"
    return None


def _mask_and_bias(
    dtype: torch.dtype, attention_mask: torch.Tensor | None, position_bias: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A boolean mask selects keys; any other is added to the scores, as a position bias is."""
    mask, bias = (None, attention_mask)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        mask, bias = (attention_mask, None)
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    return mask, None if bias is None else bias.detach().to(dtype)


def _key_lengths(mask: torch.Tensor, batch: int) -> torch.Tensor | None:
    """How many keys a mask leaves each sequence of the batch, if they are its first ones for every head and query.

    Padding on the right and empty slots of a static cache are such; as lengths, these keys are not even read.
    """
    if mask.ndim != 4 or mask.shape[1] != 1 or (mask.shape[2] != 1 and mask.stride(2) != 0):
        return None
    keys = mask[:, 0, 0]
    lengths = keys.sum(-1)
    first = torch.equal(keys, torch.arange(keys.shape[1]) < lengths[:, None])
    return lengths.expand(batch).contiguous() if first else None
