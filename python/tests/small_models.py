"""Small, randomly initialised models of every kind of attention that headwise.transformers serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers

VOCABULARY = 256
_SHAPE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=VOCABULARY)
_GROUPED = dict(_SHAPE, num_key_value_heads=2, head_dim=16)
_WINDOW = dict(sliding_window=8)


@dataclass(frozen=True)
class SmallModel:
    architecture: str
    options: dict[str, Any]
    padding_side: str = "left"

    def make(self, attention: str = "eager", dtype: torch.dtype = torch.float32) -> Any:
        torch.manual_seed(7)
        model_class = getattr(transformers, self.architecture)
        # No token ends a generation early.
        config = model_class.config_class(**self.options, pad_token_id=0, bos_token_id=1, eos_token_id=None)
        model = model_class(config).eval().to(dtype)
        model.set_attn_implementation(attention)
        if self.architecture == "GptOssForCausalLM":
            model.set_experts_implementation("eager")  # the other one has no float64
        return model

    def inputs(self, dtype: torch.dtype = torch.float32) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Arguments of a forward call on three padded sequences, and which positions of its result count."""
        generator = torch.Generator().manual_seed(8)
        tokens = torch.randint(3, VOCABULARY, (3, 20), generator=generator)
        attended = torch.ones_like(tokens)
        attended[1, slice(0, 8) if self.padding_side == "left" else slice(12, 20)] = 0
        arguments = {"input_ids": tokens, "attention_mask": attended}
        if self.architecture.startswith("T5"):
            arguments["decoder_input_ids"] = torch.randint(3, VOCABULARY, (3, 7), generator=generator)
            return arguments, torch.ones(3, 7, dtype=torch.bool)
        if self.architecture.startswith("Whisper"):
            features = torch.randn(3, 8, 40, generator=generator, dtype=torch.float32).to(dtype)
            arguments = {"input_features": features, "decoder_input_ids": tokens, "decoder_attention_mask": attended}
        return arguments, attended.bool()


MODELS = {
    "bert": SmallModel("BertForMaskedLM", _SHAPE, "right"),
    "gpt2": SmallModel("GPT2LMHeadModel", dict(n_embd=64, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=256)),
    "llama, grouped heads": SmallModel("LlamaForCausalLM", _GROUPED),
    "mistral, window": SmallModel("MistralForCausalLM", {**_GROUPED, **_WINDOW}),
    "gemma2, softcap and window": SmallModel(
        "Gemma2ForCausalLM", {**_GROUPED, **_WINDOW, "attn_logit_softcapping": 0.5, "query_pre_attn_scalar": 1}
    ),
    "gpt-oss, sinks and window": SmallModel(
        "GptOssForCausalLM", {**_GROUPED, **_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "t5, bias and cross-attention": SmallModel(
        "T5ForConditionalGeneration",
        dict(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=VOCABULARY, decoder_start_token_id=0),
        "right",
    ),
    "whisper, cross-attention": SmallModel(
        "WhisperForConditionalGeneration",
        dict(
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            vocab_size=VOCABULARY,
            num_mel_bins=8,
            max_source_positions=20,
            max_target_positions=128,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        ),
    ),
}
