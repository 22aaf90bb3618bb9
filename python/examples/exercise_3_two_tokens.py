"""Exercise 3: two tokens by hand. With identity weights for queries and keys, each attends mostly to itself."""

from support import parse_arguments, save, show, worked_example

import headwise.plot
from headwise.exercises import compute_qkv, self_attention


def main() -> None:
    arguments = parse_arguments(__doc__)
    example = worked_example("two_tokens")
    inputs, weights = example["X"], (example["Wq"], example["Wk"], example["Wv"])

    query, key, value = compute_qkv(inputs, *weights)
    show("output", self_attention(query, key, value))

    _, matrix = self_attention(inputs, *weights)
    show("attention matrix", matrix)
    save(headwise.plot.head(matrix, title="two tokens"), arguments, "exercise-3")


if __name__ == "__main__":
    main()
