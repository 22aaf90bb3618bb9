"""Exercise 5: heads of given queries, keys and values, also 1000 times as large: scores of twenty million."""

from support import parse_arguments, save, show, worked_example

import headwise
import headwise.plot
from headwise.exercises import compute_qkv, multi_head_attention, self_attention, split_heads

NUM_HEADS = 2


def main() -> None:
    arguments = parse_arguments(__doc__)
    for name in ("two_heads_identity", "two_heads_identity_times_1000"):
        example = worked_example(name)
        query, key, value = compute_qkv(example["X"], example["W"], example["W"], example["W"])
        show("Q = K = V", query)
        show("output of one head", self_attention(query, key, value))
        show("output of two heads", multi_head_attention(query, key, value, NUM_HEADS))

        heads = (split_heads(matrix, NUM_HEADS)[None] for matrix in (query, key, value))
        _, matrices = headwise.attention(*heads, return_weights=True)
        save(headwise.plot.heads(matrices[0], title=name.replace("_", " ")), arguments, f"exercise-5-{name}")


if __name__ == "__main__":
    main()
