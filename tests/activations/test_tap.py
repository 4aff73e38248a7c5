"""The tap: equal to what transformers calls hidden states, early, and gone afterwards."""

from __future__ import annotations

import pytest
import torch

from align.activations import ActivationRecorder, decoder_parts
from align.checks.frozen_states import _outputs
from align.errors import ModelError
from align.models.backbone import LoRA
from align.models.fresh_adapters import with_lora
from tests.architectures.shrunk import Variant, random_model
from tests.tiny import tiny_model

FAMILIES = ["llama", "mistral", "qwen2", "gemma", "gpt2", "pythia", "opt"]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
POSITIONS = torch.tensor([3, 4, 5, 9, 10])


def hooks(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def body(model):
    return getattr(model, model.base_model_prefix)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_hidden_states_bit_for_bit_and_stops_early(family: str) -> None:
    model = tiny_model(family, num_hidden_layers=3) if family != "gpt2" else tiny_model(family, n_layer=3)
    model.eval()
    full = model(IDS, output_hidden_states=True).hidden_states
    last: list[torch.Tensor] = []
    handle = decoder_parts(model).blocks[-1].register_forward_hook(lambda m, i, o: last.append(o))
    model(IDS)
    handle.remove()
    ran: list[int] = []
    marks = [
        b.register_forward_hook(lambda m, i, o, n=n: ran.append(n)) for n, b in enumerate(decoder_parts(model).blocks)
    ]
    before = hooks(model)
    for layers in ([1], [1, 2], [2]):
        ran.clear()
        with ActivationRecorder(model, layers, POSITIONS) as tap:
            body(model)(IDS, use_cache=False)
        for layer, states in zip(layers, tap.states(), strict=True):
            assert torch.equal(states, full[layer].flatten(0, 1)[POSITIONS])
        assert ran == list(range(max(layers)))
    with ActivationRecorder(model, [3]) as tap:  # the raw stream, before the final norm
        model(IDS)
    assert torch.equal(tap.states()[0], last[0])
    assert hooks(model) == before
    for mark in marks:
        mark.remove()


def test_nothing_is_left_after_an_exception() -> None:
    model = tiny_model(num_hidden_layers=3).eval()
    expected = model(IDS).logits
    with pytest.raises(RuntimeError, match="inside"), ActivationRecorder(model, [1], POSITIONS):
        raise RuntimeError("inside")
    with pytest.raises(IndexError), ActivationRecorder(model, [1], torch.tensor([99])):
        body(model)(IDS)
    assert hooks(model) == 0
    assert len(decoder_parts(model).blocks) == 3
    assert torch.equal(model(IDS).logits, expected)


def test_gradients_reach_lower_blocks_only_also_under_checkpointing() -> None:
    model = tiny_model(num_hidden_layers=3)
    model = with_lora(model, LoRA(r=2), "CAUSAL_LM", check=False).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.get_base_model().activation_checkpointing_enable(
                activation_checkpointing_kwargs={"use_reentrant": False}
            )
        model.zero_grad()
        with ActivationRecorder(model, [1, 2], POSITIONS) as tap:
            body(model.get_base_model())(IDS, use_cache=False)
        tap.states().pow(2).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert {n.split("layers.")[1][0] for n in gradients[0]} == {"0", "1"}
    for name, value in gradients[0].items():
        assert torch.equal(gradients[1][name], value), name


def test_unknown_family_says_what_is_needed() -> None:
    with pytest.raises(ModelError, match=r"backbone family .* need a list of blocks .* query and value projections"):
        decoder_parts(torch.nn.Linear(2, 2).requires_grad_(False).register_module("config", None) or Odd())


class Odd(torch.nn.Module):
    """A model without blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"model_type": "odd"})()


def test_learned_positions_are_told() -> None:
    told = {family: decoder_parts(tiny_model(family)).absolute_positions for family in FAMILIES}
    assert {family for family, learned in told.items() if learned} == {"gpt2", "opt"}
    others = {name: decoder_parts(random_model(Variant(name))) for name in ("openai-gpt", "biogpt", "bart", "mamba")}
    assert {name for name, parts in others.items() if parts.absolute_positions} == {"openai-gpt", "biogpt", "bart"}
    assert {name for name, parts in others.items() if not parts.takes_positions} == {"bart", "mamba"}


@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_the_text_inside_a_model_of_pictures_is_read(kind: str) -> None:
    """Its tower for pictures has as many blocks, and self-checks read the other list too."""
    model = random_model(Variant(kind))
    full = model(IDS, output_hidden_states=True).hidden_states
    with _outputs(model, [1, 3]) as kept:
        model(IDS, use_cache=False)
    with ActivationRecorder(model, [1, 3]) as tap:
        model(IDS, use_cache=False)
    for layer, states in zip([1, 3], tap.states(), strict=True):
        assert torch.equal(states, full[layer])
        assert torch.equal(kept[layer], full[layer])


def test_blocks_that_count_as_two_layers_are_read() -> None:
    """LongCat says `num_hidden_layers` 8 of its 4 blocks of two attentions each."""
    model = random_model(Variant("longcat_flash"))
    full = model(IDS, output_hidden_states=True).hidden_states
    with _outputs(model, [1, 3]) as kept:
        model(IDS, use_cache=False)
    assert all(torch.equal(kept[layer], full[layer]) for layer in (1, 3))


@pytest.mark.parametrize(("name", "first"), [("mamba", 1), ("mamba2", 1), ("xlstm", 0), ("mpt", 0), ("biogpt", 0)])
def test_blocks_under_other_names_are_read(name: str, first: int) -> None:
    """Recurrent ones among them, without query and value projections; of Mamba transformers leaves the embeddings out."""
    model = random_model(Variant(name))
    full = model(IDS, output_hidden_states=True, use_cache=False).hidden_states
    with ActivationRecorder(model, [1, 3]) as tap:
        body(model)(IDS, use_cache=False)
    for layer, states in zip([1, 3], tap.states(), strict=True):
        torch.testing.assert_close(states, full[layer - first])


def test_blocks_of_several_streams_are_refused() -> None:
    """Gemma 3n gives four of them in front of the row."""
    model = random_model(Variant("gemma3n_text"))
    told = r"Gemma3nTextDecoderLayer gives several streams of states \(\[4, 2, 6, 32\]\)"
    with ActivationRecorder(model, [1]), pytest.raises(ModelError, match=told):
        body(model)(IDS, use_cache=False)
