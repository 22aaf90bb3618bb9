"""Every example script runs, prints and draws."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PICTURES = {
    "exercise_1_reusable_steps": ["exercise-1"],
    "exercise_2_five_tokens": ["exercise-2-one-head", "exercise-2-swapped", "exercise-2-three-heads"],
    "exercise_3_two_tokens": ["exercise-3"],
    "exercise_4_step_by_step_layer": ["exercise-4"],
    "exercise_5_heads_from_qkv": ["exercise-5-two_heads_identity", "exercise-5-two_heads_identity_times_1000"],
    "trained_layer": [f"trained-layer-{sentence}-{what}" for sentence in (0, 1) for what in ("head-1", "heads")],
}
PRINTED = {
    "exercise_1_reusable_steps": "four heads: num_heads is 4, expected a divisor of the model size (6)",
    "exercise_2_five_tokens": "these rows of the output are swapped, too: other change",
    "exercise_3_two_tokens": "[[1.6605 2.6605]\n [2.3395 3.3395]]",
    "exercise_4_step_by_step_layer": "largest difference between the steps and the layer in one call: 0.0e+00",
    "exercise_5_heads_from_qkv": "[[5000. 6000. 7000. 8000.]\n [5000. 6000. 7000. 8000.]]",
    "trained_layer": "it → animal (68%)",
}


def test_every_script_is_listed():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"support"}
    assert scripts == set(PICTURES) == set(PRINTED)


@pytest.mark.parametrize("name", PICTURES)
def test_script(name, tmp_path):
    run = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--folder", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert run.returncode == 0, run.stderr
    assert PRINTED[name] in run.stdout
    assert sorted(path.stem for path in tmp_path.glob("*.svg")) == sorted(PICTURES[name])


def test_the_picture_in_readme_is_what_the_script_draws(tmp_path):
    name = "trained-layer-0-head-1.svg"
    subprocess.run(
        [sys.executable, EXAMPLES / "trained_layer.py", "--folder", tmp_path], check=True, capture_output=True
    )

    def labels(folder):
        return re.findall(r"<text[^>]*>([^<]*)</text>", (folder / name).read_text(encoding="utf-8"))

    drawn = labels(tmp_path)
    assert "animal" in drawn and "68" in drawn
    assert labels(EXAMPLES.parents[1] / "docs" / "pictures") == drawn
