"""merge_attention: keys may be sharded over calls."""

import numpy as np
import pytest

import headwise
import reference


def test_shards_give_the_whole(generator, dtype):
    query = generator.normal(size=(2, 4, 5, 8)).astype(dtype)
    key, value = (generator.normal(size=(2, 2, 9, 8)).astype(dtype) for _ in range(2))
    parts = [
        headwise.attention(query, key[:, :, part], value[:, :, part], return_logsumexp=True)
        for part in (slice(0, 4), slice(4, 4), slice(4, 9))
    ]
    expected = reference.attention(query, key, value)
    output, logsumexp = headwise.merge_attention(parts, return_logsumexp=True)
    assert expected.output.worst_share(output) <= 1 and expected.logsumexp.worst_share(logsumexp) <= 1
    out = np.zeros_like(output)
    assert headwise.merge_attention(parts, out=out) is out
    np.testing.assert_array_equal(out, output)


@pytest.mark.parametrize(
    "kind, named, parts",
    [
        (TypeError, "parts", None),
        (ValueError, "parts", []),
        (TypeError, r"parts\[0\]", [3]),
        (TypeError, r"parts\[0\]", [(np.ones((1, 1, 1, 1)),)]),
        (TypeError, r"parts\[0\]\[1\]", [(np.ones((1, 1, 1, 1)), "x")]),
        (ValueError, r"parts\[0\]\[0\]", [(np.ones((1, 1, 1)), np.ones((1, 1, 1)))]),
        (
            TypeError,
            r"parts\[1\]\[0\]",
            [(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1))), (np.ones((1, 1, 1, 1), "f"), np.ones((1, 1, 1)))],
        ),
        (ValueError, r"parts\[0\]", [(np.ones((1, 1, 2, 1)), np.ones((1, 1, 1)))]),
    ],
)
def test_bad_parts(kind, named, parts):
    with pytest.raises(kind, match=named):
        headwise.merge_attention(parts)
