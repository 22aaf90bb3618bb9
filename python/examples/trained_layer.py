"""Who attends whom in a trained layer: head 1 of layer 3 of all-MiniLM-L6-v2 on two sentences, and all its heads."""

import json

import numpy as np
from support import DATA, parse_arguments, save

import headwise
import headwise.plot

FOLDER = DATA / "trained-layer"


def main() -> None:
    arguments = parse_arguments(__doc__)
    about = json.loads((FOLDER / "about.json").read_text())
    load = {path.stem: np.load(path) for path in FOLDER.glob("*.npy")}

    layer = headwise.MultiHeadAttention(
        about["embed_dim"],
        about["num_heads"],
        in_proj_weight=np.concatenate([load[f"weight_{name}"] for name in ("query", "key", "value")]),
        in_proj_bias=np.concatenate([load[f"bias_{name}"] for name in ("query", "key", "value")]),
        out_proj_weight=load["weight_output"],
        out_proj_bias=load["bias_output"],
    )
    output, weights = layer(load["x"], key_lengths=load["key_lengths"], need_weights=True, average_attn_weights=False)
    print(f"largest difference from the output in double precision: {abs(output - load['expected_output']).max():.1e}")

    for sentence, length in enumerate(load["key_lengths"]):
        tokens = about["tokens"][sentence][:length]
        matrices = weights[sentence, :, :length, :length]
        for token, row in zip(tokens, matrices[1]):
            print(f"{token:>8} → {tokens[row.argmax()]} ({row.max():.0%})")
        title = about["sentences"][sentence]
        save(headwise.plot.head(matrices[1], tokens, title=title), arguments, f"trained-layer-{sentence}-head-1")
        save(headwise.plot.heads(matrices, tokens, title=title), arguments, f"trained-layer-{sentence}-heads")


if __name__ == "__main__":
    main()
