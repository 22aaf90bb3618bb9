#include <nanobind/nanobind.h>

#include "attention_call.hpp"
#include "bindings.hpp"

namespace headwise::python {
namespace {

nb::object attention_of(nb::handle query, nb::handle key, nb::handle value, const nb::kwargs& keywords) {
  const Keywords read = read_keywords("attention", keywords, plan_keywords | run_keywords);
  const Array queries(query, "query");
  return with_type_of(queries, [&]<class T>() {
    AttentionCall<T> call(queries, read, read.return_scores.is_valid());
    call.set_keys(key, value);
    return call.run(options_of(read));
  });
}

nb::object attention_varlen(nb::handle query, nb::handle key, nb::handle value, nb::handle query_starts,
                            nb::handle key_starts, const nb::kwargs& keywords) {
  const Keywords read = read_keywords("attention_varlen", keywords, plan_keywords | run_keywords);
  const Array queries(query, "query");
  return with_type_of(queries, [&]<class T>() {
    AttentionCall<T> call(queries, read, read.return_scores.is_valid());
    call.set_ragged(key, value, query_starts, key_starts);
    return call.run(options_of(read));
  });
}

}  // namespace

void bind_attention(nb::module_& module) {
  using namespace nb::literals;
  module.def("attention", &attention_of, "query"_a, "key"_a, "value"_a, "keywords"_a,
             nb::sig("def attention(query, key, value, *, mask=None, bias=None, key_padding_mask=None, causal=False, "
                     "window=None, scale=None, softcap=0.0, query_position='top_left', query_offsets=None, "
                     "key_lengths=None, alibi_slopes=None, sinks=None, return_logsumexp=False, return_weights=False, "
                     "return_scores=None, out=None, num_threads=0)"),
             R"(Scaled dot-product attention: softmax(scale * query @ key.T + ...) @ value, per batch entry and head.

Arrays are NumPy's or any with DLPack on the CPU, all float32 or all float64, with any strides; none is copied.
"Scores-shaped" is (batch, heads, query_length, key_length); inputs of that shape broadcast from the right.

Args:
    query: (batch, heads, query_length, dim).
    key: (batch, kv_heads, key_length, dim); heads is a multiple of kv_heads, query head h uses key head
        h // (heads // kv_heads).
    value: (batch, kv_heads, key_length, value_dim).
    mask: scores-shaped, bool or uint8: true = attend.
    bias: scores-shaped: added to the scores; -inf excludes.
    key_padding_mask: (batch, key_length), bool or uint8: true = exclude.
    causal: a query attends no key right of its position.
    window: (left, right): a query at position p attends keys p - left to p + right; None or -1 = unbounded.
    scale: factor of the scores, default 1 / sqrt(dim).
    softcap: scores become softcap * tanh(score / softcap) before bias and mask; 0 = off.
    query_position: position of query 0 among the keys: "top_left" is 0, "bottom_right" is the key length minus the
        query length, "given" is query_offsets.
    query_offsets: (batch,) int64.
    key_lengths: (batch,) int64: keys that count; the others may hold anything.
    alibi_slopes: (heads,): adds slope * (key - query position).
    sinks: (heads,): an extra logit that only joins the denominator.
    return_logsumexp: also return (batch, heads, query_length): the logarithm of the softmax's denominator.
    return_weights: also return the weights, scores-shaped; "mean": averaged over the heads, (batch, query_length,
        key_length).
    return_scores: also return the scores, scores-shaped: "scaled", "softcapped" or "biased" (after bias and mask).
    out: (batch, heads, query_length, value_dim): where to write the output; shares no element with an input.
    num_threads: at most that many; 0 = what OpenMP would use. The bits do not depend on it.

Returns:
    The output (batch, heads, query_length, value_dim), or a tuple (output, logsumexp, weights, scores) of the output
    and what else was asked for. Torch tensors where query is one, else NumPy arrays. A row without attended keys is 0.

Raises:
    ValueError: an argument's value, shape or strides; the text names it.
    TypeError: an argument that is no array of the right type on the CPU.
)");
  module.def("attention_varlen", &attention_varlen, "query"_a, "key"_a, "value"_a, "query_starts"_a, "key_starts"_a,
             "keywords"_a,
             nb::sig("def attention_varlen(query, key, value, query_starts, key_starts, *, mask=None, bias=None, "
                     "key_padding_mask=None, causal=False, window=None, scale=None, softcap=0.0, "
                     "query_position='top_left', query_offsets=None, key_lengths=None, alibi_slopes=None, sinks=None, "
                     "return_logsumexp=False, return_weights=False, return_scores=None, out=None, num_threads=0)"),
             R"(Attention over a ragged batch: sequences of different lengths one after the other, without padding.

Args:
    query: (query_tokens, heads, dim).
    key: (key_tokens, kv_heads, dim).
    value: (key_tokens, kv_heads, value_dim).
    query_starts: (batch + 1,) int64, rising from 0 to query_tokens: sequence b has queries query_starts[b] to
        query_starts[b + 1] - 1.
    key_starts: (batch + 1,) int64, likewise for keys.

The keywords are those of attention(). key_lengths is refused: key_starts tells. Scores-shaped arrays have the longest
sequences' lengths; in weights and scores, rows beyond a sequence's queries are 0 and keys beyond its own are excluded.

Returns:
    The output (query_tokens, heads, value_dim), or a tuple as attention() returns; logsumexp is (query_tokens, heads).
)");
}

}  // namespace headwise::python
