"""torch's scaled_dot_product_attention in float64, math and flash, over random option sets; torch tensors."""

import itertools

import numpy as np
import pytest

import headwise
import reference

pytestmark = pytest.mark.integrations

SETS, GROUP = 2000, 100


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


def strided(generator, array):
    """The same numbers with other strides."""
    choice = generator.integers(5)
    if choice == 0:
        return np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2)
    if choice == 1:
        return np.ascontiguousarray(array.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    if choice == 2:
        wide = np.zeros(array.shape[:-1] + (array.shape[-1] * 2,), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if choice == 3:
        wide = np.zeros(array.shape[:2] + (array.shape[2] + 3, array.shape[3]), array.dtype)
        wide[:, :, 1:-2] = array
        return wide[:, :, 1:-2]
    return array


def option_set(seed):
    """Arrays and keyword arguments of scaled_dot_product_attention."""
    generator = np.random.default_rng(seed)
    batch, kv_heads, group = (int(generator.integers(1, high)) for high in (4, 4, 4))
    queries, keys = int(generator.integers(1, 40)), int(generator.integers(1, 100))
    dim = int(generator.choice([1, 3, 8, 16, 24, 33, 64]))
    value_dim = dim if generator.random() < 0.5 else int(generator.integers(1, 40))
    heads = kv_heads * group
    shapes = (batch, heads, queries, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, value_dim)
    spread = generator.choice([0.1, 1, 4])
    # Numbers of float32, so that both types compute with the same ones.
    arrays = [strided(generator, (spread * generator.normal(size=s)).astype(np.float32).astype(float)) for s in shapes]
    options = {"enable_gqa": group > 1}
    kind = generator.choice(["none", "causal", "mask", "bias", "bias with -inf"])
    extents = (batch, heads, queries, keys)
    mask_shape = tuple(extent if generator.random() < 0.6 else 1 for extent in extents[:2]) + extents[2:]
    mask_shape = mask_shape[int(generator.integers(0, 3)) :]
    if kind == "causal":
        options["is_causal"] = True
    elif kind == "mask":
        options["attn_mask"] = generator.random(mask_shape) < generator.choice([0.05, 0.5, 0.9])
    elif kind != "none":
        bias = generator.normal(size=mask_shape).astype(np.float32).astype(float)
        options["attn_mask"] = np.where(generator.random(mask_shape) < 0.3, -np.inf, bias) if "inf" in kind else bias
    if generator.random() < 0.4:
        options["scale"] = float(generator.choice([0.01, 0.5, 1.0, -0.7]))
    return arrays, options


def expectation(arrays, options, dtype):
    mask = options.get("attn_mask")
    named = {} if mask is None else {"mask" if mask.dtype == bool else "bias": mask}
    return reference.attention(
        *arrays, dtype=dtype, causal=options.get("is_causal", False), scale=options.get("scale"), **named
    ).output


@pytest.mark.parametrize("first", range(0, SETS, GROUP))
def test_random_option_sets(torch, first):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    by_flash = 0
    for seed in range(first, first + GROUP):
        arrays, options = option_set(seed)
        tensors = [torch.from_numpy(array) for array in arrays]
        torch_options = {k: torch.from_numpy(v) if k == "attn_mask" else v for k, v in options.items()}
        judged = {}
        with sdpa_kernel(SDPBackend.MATH):
            judged["math"] = torch.nn.functional.scaled_dot_product_attention(*tensors, **torch_options)
        # Flash knows no other value size, dense features only, and masks before it scales: a negative scale gives NaN.
        flash_errs = options.get("is_causal", False) and options.get("scale", 1) < 0
        if arrays[2].shape[-1] == arrays[0].shape[-1] and not flash_errs:
            dense = [tensor.contiguous() for tensor in tensors]
            flash_options = dict(torch_options)
            if "attn_mask" in options:  # of two or four axes
                mask = torch_options["attn_mask"]
                flash_options["attn_mask"] = mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                judged["flash"] = torch.nn.functional.scaled_dot_product_attention(*dense, **flash_options)
            by_flash += 1
        from_arrays = headwise.scaled_dot_product_attention(*arrays, **options)
        from_tensors = headwise.scaled_dot_product_attention(*tensors, **torch_options)
        assert isinstance(from_tensors, torch.Tensor) and np.array_equal(from_arrays, from_tensors.numpy())
        in_float32 = headwise.scaled_dot_product_attention(*(array.astype(np.float32) for array in arrays), **options)
        bound, bound32 = expectation(arrays, options, np.float64), expectation(arrays, options, np.float32)
        for backend, result in judged.items():
            # torch's own error is of the same kind, so twice the bound of float64; nothing to float32's.
            for actual, error in ((from_arrays, 2 * bound.error), (in_float32, bound32.error + bound.error)):
                share = reference.Approximate(result.numpy().astype(np.longdouble), error).worst_share(actual)
                assert share <= 1, (seed, backend, options, share)
        assert bound.worst_share(from_arrays) <= 1 and bound32.worst_share(in_float32) <= 1
    assert by_flash >= GROUP / 4


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (2, 1, 5, 8), (2, 3, 2, 5, 8)])
def test_leading_axes_as_in_torch(torch, shape):
    query, key, value = (torch.randn(*shape, dtype=torch.float64) for _ in range(3))
    if len(shape) == 4:
        key = torch.randn(2, 4, 5, 8, dtype=torch.float64)  # leading axes broadcast
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value if len(shape) != 4 else key)
    got = headwise.scaled_dot_product_attention(query, key, value if len(shape) != 4 else key)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("rank", range(2, 7))
def test_masks_align_from_the_right_as_in_torch(torch, rank):
    leading = (2, 3, 2, 4)[6 - rank :]
    query, key, value = (torch.randn(*leading, length, 8, dtype=torch.float64) for length in (5, 7, 7))
    scores = (*leading, 5, 7)
    for mask_rank in range(2, rank + 1):
        for is_one in itertools.product((False, True), repeat=mask_rank):
            extents = [1 if one else extent for one, extent in zip(is_one, scores[-mask_rank:])]
            for mask in (torch.randn(extents, dtype=torch.float64), torch.rand(extents) < 0.7):
                expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)
                got = headwise.scaled_dot_product_attention(query, key, value, mask)
                torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


def test_attention_reads_and_writes_tensors_in_place(torch):
    query, key, value = (torch.randn(2, 4, 5, 8).transpose(1, 2).contiguous().transpose(1, 2) for _ in range(3))
    out = torch.zeros(2, 4, 5, 8)
    output, weights = headwise.attention(query, key, value, out=out, return_weights=True)
    assert output is out and isinstance(weights, torch.Tensor) and weights.dtype == torch.float32
    expected = headwise.attention(query.numpy(), key.numpy(), value.numpy())
    assert np.array_equal(out.numpy(), expected)
    mask = torch.rand(5, 5) < 0.7
    masked = headwise.attention(query, key, value, mask=mask, key_lengths=torch.tensor([5, 3]))
    wanted = headwise.attention(query.numpy(), key.numpy(), value.numpy(), mask=mask.numpy(), key_lengths=[5, 3])
    assert np.array_equal(masked.numpy(), wanted)
    ragged = headwise.attention_varlen(
        query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), [0, 5], [0, 5]
    )
    assert np.array_equal(ragged.numpy(), expected[0].swapaxes(0, 1))
    rotated = headwise.rotary_embedding(query, torch.arange(5))
    assert isinstance(rotated, torch.Tensor)
    cache = headwise.KvCache(batch=2, num_kv_heads=4, capacity=5, head_dim=8)
    cache.append(key, value)
    assert np.array_equal(cache.attention(query).numpy(), expected)
    y, *_ = headwise.onnx.attention(query, key, value)
    assert isinstance(y, torch.Tensor) and np.array_equal(y.numpy(), expected)


def test_bad_tensors(torch):
    good = torch.zeros(1, 2, 3, 4)
    for bad, named in [
        (torch.zeros(1, 2, 3, 4, dtype=torch.float16), "float16"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros(1, 2, 3, 4, requires_grad=True), "gradients|grad"),
        (torch.zeros(1, 2, 3, 4, device="meta"), "meta"),
        (torch.zeros(1, 2, 3, 4).to_sparse(), "data"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.int64), "int64"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.complex64).conj().imag, "negat"),
    ]:
        for call in (headwise.attention, headwise.scaled_dot_product_attention):
            with pytest.raises(TypeError, match=f"key is.*{named}"):
                call(good, bad, good)
