"""torch.nn.MultiheadAttention in float64 and the layer made of it."""

import numpy as np
import pytest

import headwise
import reference

pytestmark = pytest.mark.integrations


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


def random_module(torch, generator, dtype):
    heads = int(generator.integers(1, 5))
    embed_dim = heads * int(generator.integers(1, 9))
    sizes = {}
    if generator.random() < 0.4:
        sizes = dict(kdim=int(generator.integers(1, 20)), vdim=int(generator.integers(1, 20)))
    module = torch.nn.MultiheadAttention(
        embed_dim, heads, bias=bool(generator.random() < 0.7), batch_first=bool(generator.random() < 0.6), **sizes
    ).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module.eval(), sizes.get("kdim", embed_dim), sizes.get("vdim", embed_dim)


def bound(module, query, key, value, **options):
    """The layer by its formula, from arrays (batch, tokens, features)."""
    heads, dtype = module.num_heads, query.dtype
    parameters = {name: p.detach().numpy() for name, p in module.named_parameters()}
    packed = parameters.get("in_proj_weight")
    weights = np.split(packed, 3) if packed is not None else [parameters[f"{n}_proj_weight"] for n in "qkv"]
    biases = np.split(parameters["in_proj_bias"], 3) if "in_proj_bias" in parameters else [None] * 3
    q, k, v = (
        reference.split_heads(reference.project(reference.exact(tokens), weight, bias, dtype), heads)
        for tokens, weight, bias in zip((query, key, value), weights, biases)
    )
    result = reference.attention(q, k, v, dtype=dtype, **options)
    joined = reference.join_heads(result.output)
    return reference.project(
        joined, parameters["out_proj.weight"], parameters.get("out_proj.bias"), dtype
    ), result.weights


@pytest.mark.parametrize("seed", range(200))
def test_random_modules(torch, seed):
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    module, key_dim, value_dim = random_module(torch, generator, torch.float64)
    layer = headwise.MultiHeadAttention.from_torch(module)
    batch, queries, keys = (int(generator.integers(1, high)) for high in (4, 9, 12))
    query = torch.randn(batch, queries, module.embed_dim, dtype=torch.float64)
    key = torch.randn(batch, keys, key_dim, dtype=torch.float64)
    value = torch.randn(batch, keys, value_dim, dtype=torch.float64)
    torch_options, options = {}, {}
    if generator.random() < 0.6:
        padding = torch.from_numpy(generator.random((batch, keys)) < 0.4)
        padding[:, 0] = False  # torch gives NaN for rows that attend nothing
        torch_options["key_padding_mask"] = options["key_padding_mask"] = padding
    if generator.random() < 0.5:
        excluded = torch.from_numpy(generator.random((queries, keys)) < 0.3)
        excluded[:, 0] = False
        torch_options["attn_mask"], options["mask"] = excluded, ~excluded
    average = bool(generator.random() < 0.5)

    inputs = [x if module.batch_first else x.transpose(0, 1) for x in (query, key, value)]
    with torch.no_grad():
        expected, expected_weights = module(*inputs, **torch_options, need_weights=True, average_attn_weights=average)
    output, weights = layer(*inputs, **options, need_weights=True, average_attn_weights=average)
    assert isinstance(output, torch.Tensor) and isinstance(weights, torch.Tensor)

    arrays = {name: array.numpy() for name, array in options.items()}
    allowed, allowed_weights = bound(module, query.numpy(), key.numpy(), value.numpy(), **arrays)
    if average:
        allowed_weights = reference.mean_over_heads(allowed_weights, np.float64)
    turn = (lambda x: x.numpy()) if module.batch_first else (lambda x: x.transpose(0, 1).numpy())
    for actual, wanted, approximate in (
        (turn(output), turn(expected), allowed),
        (weights.numpy(), expected_weights.numpy(), allowed_weights),
    ):
        assert approximate.worst_share(actual) <= 1
        # torch has errors of its own.
        share = reference.Approximate(wanted.astype(np.longdouble), 2 * approximate.error).worst_share(actual)
        assert share <= 1


def test_self_attention_and_weights_of_the_module(torch):
    module = torch.nn.MultiheadAttention(12, 3, batch_first=True).eval()
    layer = headwise.MultiHeadAttention.from_torch(module)
    x = torch.randn(2, 5, 12)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), module(x, x, x, need_weights=False)[0])
        torch.testing.assert_close(layer(x[0]), module(x[0], x[0], x[0])[0])
        module.out_proj.weight *= 2  # the layer has the module's own memory
        torch.testing.assert_close(layer(x), module(x, x, x)[0])
        out = torch.zeros(2, 5, 12)
        assert layer(x, out=out) is out
        torch.testing.assert_close(out, layer(x))


def test_every_output_without_a_batch(torch):
    layer = headwise.MultiHeadAttention.from_torch(torch.nn.MultiheadAttention(12, 3, batch_first=True))
    x = torch.randn(5, 12)
    for average in (True, False):
        call = dict(need_weights=True, average_attn_weights=average, return_logsumexp=True, return_scores="scaled")
        for single, batched in zip(layer(x, **call), layer(x[None], **call)):
            assert isinstance(single, torch.Tensor)
            assert torch.equal(single, batched[0])


def test_what_headwise_lacks_is_refused(torch):
    for kind, named, module in [
        (ValueError, "bias_k", torch.nn.MultiheadAttention(8, 2, add_bias_kv=True)),
        (ValueError, "add_zero_attn", torch.nn.MultiheadAttention(8, 2, add_zero_attn=True)),
        (ValueError, "dropout", torch.nn.MultiheadAttention(8, 2, dropout=0.1)),
        (TypeError, "in_proj_weight", torch.nn.MultiheadAttention(8, 2).half()),
        (TypeError, "module", torch.nn.Linear(3, 3)),
    ]:
        with pytest.raises(kind, match=named):
            headwise.MultiHeadAttention.from_torch(module)
    assert headwise.MultiHeadAttention.from_torch(torch.nn.MultiheadAttention(8, 2, dropout=0.1).eval())
