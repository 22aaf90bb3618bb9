"""Errors beside torch's in float32, on the data families of the accuracy report (tests/support/data_families.hpp).

As a program it prints the table: python python/tests/test_torch_accuracy.py
"""

from dataclasses import dataclass

import numpy as np
import pytest

import headwise
import reference

pytestmark = pytest.mark.integrations

F32 = np.float32
LOWEST = float(np.finfo(F32).min)


def normal(generator, *shapes):
    return [generator.normal(size=shape).astype(F32) for shape in shapes]


def alternate(array, even, odd):
    """Axis 2 scaled by turns."""
    array[:, :, ::2] *= F32(even)
    array[:, :, 1::2] *= F32(odd)
    return array


def family(name, generator, q_shape, k_shape):
    """query, key, value and what becomes a bias."""
    query, key, value = normal(generator, q_shape, k_shape, k_shape)
    keys, bias = k_shape[2], None
    leading = 200 if keys >= 400 else keys // 2
    if name == "peaky x6":
        query *= F32(6)
    elif name == "offset +3":
        query, key, value = (array + F32(3) for array in (query, key, value))
    elif name == "one hot key":
        query += F32(1)
        key[:, :, keys // 2] = 3
    elif name == "all equal":
        query, key, value = (np.full_like(array, 0.7) for array in (query, key, value))
    elif name == "1e-20":
        query, key, value = (array * F32(1e-20) for array in (query, key, value))
    elif name == "1e30":
        query, key, value = query * F32(1e30), key * F32(1e-30), value * F32(1e30)
    elif name == "beyond exp":
        query += F32(5)
        key = key * F32(0.5) + F32(5) * np.where(np.arange(keys) % 2 == 0, 1, -1).astype(F32)[:, np.newaxis]
    elif name == "all -1e30":
        query, key = np.full_like(query, -1e15), np.full_like(key, 1e15)
    elif name == "alternating":
        alternate(key, 4, 1e-4)
        alternate(value, 1e15, 1e-15)
    elif name.startswith("left padding"):
        bias = np.zeros((1, 1, 1, keys), F32)
        bias[..., :leading] = {"1e4": -1e4, "1e9": -1e9, "lowest": LOWEST}[name.split("-")[-1].split(" ")[-1]]
    elif name == "ALiBi 0.5":  # positions as at the end of the keys
        position = np.arange(keys - q_shape[2], keys)[:, np.newaxis]
        bias = (0.5 * (np.arange(keys) - position)).astype(F32)[np.newaxis, np.newaxis]
    elif name == "first block dead":
        bias = np.zeros((1, 1, q_shape[2], keys), F32)
        bias[:, :, np.arange(q_shape[2]) % 3 != 1, :leading] = -np.inf
    return query, key, value, bias


FAMILIES = ["normal", "peaky x6", "offset +3", "one hot key", "all equal", "1e-20", "1e30", "beyond exp", "all -1e30",
            "alternating", "left padding -1e4", "left padding -1e9", "left padding lowest", "ALiBi 0.5",
            "first block dead"]  # fmt: skip
# Kernels by their number of queries: tiles of queries, and one query against many keys.
PATHS = {"query_tile": ((1, 2, 96, 64), (1, 2, 450, 64)), "row_dot": ((40, 4, 1, 64), (40, 4, 500, 64))}
LAYER = {"batch": 2, "tokens": 48, "features": 128, "heads": 4}


@dataclass
class Errors:
    """In units of u of the magnitude that an element is judged by; the share is of the derived bound."""

    largest: float
    rms: float
    share: float


@dataclass
class Line:
    computed_by: str
    output: str
    name: str
    ours: Errors
    torchs: Errors


def errors(expected, magnitude, actual):
    magnitude = np.broadcast_to(magnitude, expected.value.shape)
    got = np.asarray(actual)
    with np.errstate(over="ignore"):
        difference = np.abs(got.astype(reference.Real) - expected.value)
    judged = magnitude > 0
    units = (difference[judged] / (magnitude[judged] * reference.unit(F32))).astype(float)
    return Errors(float(units.max()), float(np.sqrt(np.mean(units**2))), expected.worst_share(got))


def without_subnormal(expected, weights):
    """Weights below the smallest normal number count as 0, as in the C++ report."""
    tiny = np.finfo(F32).tiny
    got = np.asarray(weights)
    return np.where((expected.value < tiny) & (got <= tiny), expected.value, got)


def largest_of_row(weights):
    return weights.max(axis=-1, keepdims=True)


def attention_lines(torch, path, name):
    generator = np.random.default_rng([5, FAMILIES.index(name), len(path)])
    query, key, value, bias = family(name, generator, *PATHS[path])
    options = {"bias": bias}
    if name.startswith("ALiBi"):
        options = {"alibi_slopes": np.full(query.shape[1], 0.5, F32), "query_position": "bottom_right"}
    exact = reference.attention(query, key, value, **options)
    output, logsumexp, weights = headwise.attention(
        query, key, value, **options, return_weights=True, return_logsumexp=True
    )
    q, k, v = (torch.from_numpy(array) for array in (query, key, value))
    mask = None if bias is None else torch.from_numpy(bias).expand(-1, -1, query.shape[2], -1).contiguous()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        torch_output = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) / query.shape[3] ** 0.5
    scores = scores if mask is None else scores + mask
    torch_weights, torch_logsumexp = torch.softmax(scores, -1), torch.logsumexp(scores, -1)
    magnitudes = {
        "attention": np.abs(value).max().astype(reference.Real),
        "weights": largest_of_row(exact.weights.value),
        "logsumexp": np.maximum(1, np.abs(exact.logsumexp.value)),
    }
    results = {
        "attention": (exact.output, output, torch_output),
        "weights": (exact.weights, *(without_subnormal(exact.weights, w) for w in (weights, torch_weights))),
        "logsumexp": (exact.logsumexp, logsumexp, torch_logsumexp),
    }
    for kind, (expected, ours, torchs) in results.items():
        yield Line(path, kind, name, errors(expected, magnitudes[kind], ours), errors(expected, magnitudes[kind], torchs))


def merge_line(torch, name):
    """Judged on parts that are the same for both."""
    generator = np.random.default_rng([6, FAMILIES.index(name)])
    query, key, value, _ = family(name, generator, *PATHS["query_tile"])
    shards = np.array_split(np.arange(key.shape[2]), 3)
    parts = [headwise.attention(query, key[:, :, s], value[:, :, s], return_logsumexp=True) for s in shards]
    outputs, logsumexps = (np.stack([part[n] for part in parts]) for n in range(2))
    u = reference.unit(F32)
    exact_lse = logsumexps.astype(reference.Real)
    powers = np.exp(exact_lse - exact_lse.max(axis=0))
    share = (powers / powers.sum(axis=0))[..., np.newaxis]
    value_exact = (share * outputs).sum(axis=0)
    spread = np.abs(outputs - value_exact).max(axis=0)
    largest = np.abs(exact_lse).max(axis=0)[..., np.newaxis]
    # Sums of three products beside the weights' own error.
    allowed = u * ((2 * largest + reference.EXP_ERROR + 4) * spread + 3 * np.abs(share * outputs).sum(axis=0))
    expected = reference.Approximate(value_exact, reference.MARGIN * allowed + 3 * reference.tiny(F32))
    ours = headwise.merge_attention(parts)
    torch_share = torch.softmax(torch.from_numpy(logsumexps), 0)[..., None]
    torchs = (torch_share * torch.from_numpy(outputs)).sum(0)
    magnitude = np.abs(value).max().astype(reference.Real)
    return Line("merge", "output", name, errors(expected, magnitude, ours), errors(expected, magnitude, torchs))


def layer_line(torch, name):
    """torch.nn.MultiheadAttention; its inputs are a family's query, key and value, its weights keep their scale."""
    batch, tokens, features, heads = LAYER.values()
    generator = np.random.default_rng([7, FAMILIES.index(name)])
    torch.manual_seed(7)
    shape = (1, batch, tokens, features)
    query, key, value, _ = family(name, generator, shape, shape)
    module = torch.nn.MultiheadAttention(features, heads, batch_first=True).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=features**-0.5)
    inputs = [np.ascontiguousarray(array[0]) for array in (query, key, value)]
    parameters = {n: p.detach().numpy() for n, p in module.named_parameters()}
    weights, biases = np.split(parameters["in_proj_weight"], 3), np.split(parameters["in_proj_bias"], 3)
    q, k, v = (
        reference.split_heads(reference.project(reference.exact(x), weight, bias, F32), heads)
        for x, weight, bias in zip(inputs, weights, biases)
    )
    joined = reference.join_heads(reference.attention(q, k, v, dtype=F32).output)
    expected = reference.project(joined, parameters["out_proj.weight"], parameters["out_proj.bias"], F32)
    ours = headwise.MultiHeadAttention.from_torch(module)(*inputs)
    with torch.no_grad():
        torchs = module(*(torch.from_numpy(x) for x in inputs), need_weights=False)[0].numpy()
    magnitude = np.abs(expected.value).max()
    return Line("layer", "output", name, errors(expected, magnitude, ours), errors(expected, magnitude, torchs))


def is_plain(name):
    """A family that is data alone."""
    return not name.startswith(("left padding", "ALiBi", "first block"))


def lines(torch):
    for path in PATHS:
        for name in FAMILIES:
            yield from attention_lines(torch, path, name)
    for make in (merge_line, layer_line):
        for name in filter(is_plain, FAMILIES):
            yield make(torch, name)


@pytest.fixture(scope="module")
def report():
    import torch

    return list(lines(torch))


def test_at_most_half_of_the_bound(report):
    assert {line.computed_by for line in report} == {"query_tile", "row_dot", "merge", "layer"}
    for line in report:
        assert line.ours.share <= 0.5, line


def test_no_worse_than_twice_torch(report):
    """As the C++ tests demand beside a plain sequential implementation."""
    for line in report:
        assert line.ours.rms <= 2 * line.torchs.rms + 1, line


def main():
    import torch

    print("| computed by | output | data | headwise largest (u) | RMS (u) | torch largest (u) | RMS (u) |")
    print("|---|---|---|---|---|---|---|")
    for line in lines(torch):
        ours, torchs = line.ours, line.torchs
        print(f"| {line.computed_by} | {line.output} | {line.name} | {ours.largest:.3g} | {ours.rms:.3g} "
              f"| {torchs.largest:.3g} | {torchs.rms:.3g} |")  # fmt: skip


if __name__ == "__main__":
    main()
