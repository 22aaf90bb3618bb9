"""Exercise 1: queries, keys and values; attention with a scale of one's own; several heads side by side."""

from support import parse_arguments, save, show, worked_example

import headwise.plot
from headwise.exercises import create_qkv, multi_head_attention, scaled_dot_product_attention


def main() -> None:
    arguments = parse_arguments(__doc__)
    example = worked_example("five_tokens")
    inputs, weights = example["X"], (example["Wq"], example["Wk"], example["Wv"])

    query, key, value = create_qkv(inputs, *weights)
    show("Q = X Wq", query)
    show("K = X Wk", key)
    show("V = X Wv", value)
    show("attention with scale 0.5", scaled_dot_product_attention(query, key, value, 0.5))

    output, matrices = multi_head_attention(inputs, *weights, 3, return_weights=True)
    show("three heads side by side", output)
    save(headwise.plot.heads(matrices), arguments, "exercise-1")

    try:
        multi_head_attention(inputs, *weights, 4)
    except ValueError as error:
        print(f"four heads: {error}")


if __name__ == "__main__":
    main()
