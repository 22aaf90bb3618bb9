"""Exercise 2: the attention matrices of five tokens with one head and with three, and with two tokens swapped."""

import numpy as np
from support import parse_arguments, save, show, worked_example

import headwise.plot
from headwise.exercises import multi_head_attention, self_attention


def main() -> None:
    arguments = parse_arguments(__doc__)
    example = worked_example("five_tokens")
    inputs, weights = example["X"], (example["Wq"], example["Wk"], example["Wv"])
    tokens = [f"token {position}" for position in range(len(inputs))]

    output, matrix = self_attention(inputs, *weights)
    show("output of one head", output)
    show("attention matrix", matrix)
    save(headwise.plot.head(matrix, tokens, title="one head"), arguments, "exercise-2-one-head")

    output, matrices = multi_head_attention(inputs, *weights, 3, return_weights=True)
    show("output of three heads", output)
    show("attention matrices", matrices)
    save(headwise.plot.heads(matrices, tokens, title="three heads"), arguments, "exercise-2-three-heads")
    print("The outputs differ: each head scales by its own √2 and normalises its own rows.\n")

    order = example["swapped_tokens"]
    moved, moved_matrices = multi_head_attention(inputs[order], *weights, 3, return_weights=True)
    labels = [tokens[position] for position in order]
    save(headwise.plot.heads(moved_matrices, labels, title="two tokens swapped"), arguments, "exercise-2-swapped")
    swapped = " and ".join(str(position) for position in np.flatnonzero(order != np.arange(len(order))))
    change = abs(moved - output[order]).max()
    print(f"With tokens {swapped} swapped, these rows of the output are swapped, too: other change {change:.1e}.")
    change = abs(moved_matrices - matrices[:, order][:, :, order]).max()
    print(f"So are these rows and columns of each attention matrix: other change {change:.1e}.")


if __name__ == "__main__":
    main()
