"""attention_mask and attention_forward, called directly, beside those of "sdpa"."""

import pytest
import torch
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

import headwise.transformers

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("local_size", [None, 3, 9])
@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("padding", [None, [True] * 3, [True, True, False, True, True]])
def test_bidirectional_masks_are_those_of_sdpa(padding, length, offset, local_size, skip):
    ours, theirs = (
        make(
            batch_size=1,
            q_length=2,
            kv_length=length,
            kv_offset=offset,
            attention_mask=None if padding is None else torch.tensor([padding]),
            mask_function=bidirectional_mask_function,
            local_size=local_size,
            allow_is_causal_skip=False,
            allow_is_bidirectional_skip=skip,
        )
        for make in (headwise.transformers.attention_mask, sdpa_mask)
    )
    assert ours is theirs is None or torch.equal(ours, theirs)


def test_a_traced_mask_depends_on_the_padding():
    def make(padding):
        return headwise.transformers.attention_mask(
            batch_size=1,
            q_length=2,
            kv_length=3,
            attention_mask=padding,
            mask_function=bidirectional_mask_function,
            allow_is_causal_skip=False,
            allow_is_bidirectional_skip=True,
        )

    padding = torch.tensor([[True, False, True]])
    assert torch.equal(torch.jit.trace(make, torch.ones_like(padding))(padding), make(padding))
