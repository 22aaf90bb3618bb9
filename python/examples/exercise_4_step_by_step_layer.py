"""Exercise 4: a layer step by step: project, split heads, attend per head, combine and project; then in one call."""

from support import parse_arguments, save, show, worked_example

import headwise.plot
from headwise.exercises import (
    combine_heads_and_project,
    create_qkv,
    multi_head_attention,
    multihead_attention_layer,
    multihead_attention_per_head,
    split_heads,
)

NUM_HEADS = 4


def main() -> None:
    arguments = parse_arguments(__doc__)
    example = worked_example("layer_with_output_projection")
    inputs, weights = example["X"], (example["Wq"], example["Wk"], example["Wv"])

    heads = [split_heads(matrix, NUM_HEADS) for matrix in create_qkv(inputs, *weights)]
    show("queries per head", heads[0])
    attended = multihead_attention_per_head(*heads)
    show("output per head", attended)
    output = combine_heads_and_project(attended, example["Wo"])
    show("heads side by side, times Wo", output)

    layer = multihead_attention_layer(inputs, *weights, example["Wo"], NUM_HEADS)
    print(f"largest difference between the steps and the layer in one call: {abs(layer - output).max():.1e}\n")

    _, matrices = multi_head_attention(inputs, *weights, NUM_HEADS, return_weights=True)
    save(headwise.plot.heads(matrices, title="four heads of a layer"), arguments, "exercise-4")


if __name__ == "__main__":
    main()
