"""attention_mask and attention_forward, called directly, beside those of "sdpa"."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
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


class TestGradients:
    """Of whatever argument: torch's where they are recorded, else not asked for."""

    NAMES = ("query", "key", "value", "attention_mask", "position_bias")
    REASON = "headwise computes no gradients (torch.no_grad() says that none are needed)"

    @pytest.fixture
    def arguments(self):
        shapes = [(2, 4, 5, 8)] * 3 + [(2, 1, 5, 5), (1, 4, 5, 5)]
        return {name: torch.randn(shape) for name, shape in zip(self.NAMES, shapes)}

    @pytest.fixture
    def warnings(self, monkeypatch):
        texts = []
        monkeypatch.setattr(headwise.transformers._logger, "warning_once", texts.append)
        return texts

    @pytest.mark.parametrize("name", NAMES)
    def test_sdpa_computes_them(self, arguments, warnings, name):
        arguments[name].requires_grad_()
        gradients = []
        for forward in (headwise.transformers.attention_forward, sdpa_attention_forward):
            output, _ = forward(torch.nn.Module(), **arguments, is_causal=False)
            gradients += torch.autograd.grad(output.square().sum(), arguments[name])
        assert torch.equal(*gradients) and gradients[0].abs().max() > 0
        assert warnings == [f'{self.REASON}: "sdpa" takes its place']

    def test_those_of_sinks_are_refused(self, arguments):
        with pytest.raises(NotImplementedError) as error:
            headwise.transformers.attention_forward(
                torch.nn.Module(), **arguments, is_causal=False, s_aux=torch.zeros(4, requires_grad=True)
            )
        assert str(error.value) == f'{self.REASON}, and "sdpa" has no softcap and no sinks: use "eager"'

    @pytest.mark.parametrize("name", (*NAMES, "s_aux"))
    def test_none_are_needed(self, arguments, warnings, name):
        arguments["s_aux"] = torch.randn(4)
        expected, _ = headwise.transformers.attention_forward(torch.nn.Module(), **arguments, is_causal=False)
        arguments[name].requires_grad_()
        with torch.no_grad():
            output, _ = headwise.transformers.attention_forward(torch.nn.Module(), **arguments, is_causal=False)
        assert torch.equal(output, expected) and not output.requires_grad
        assert not warnings
