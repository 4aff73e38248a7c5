"""Every layout gives the log-probabilities and gradients of a plain transformers forward over each candidate alone."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from align.errors import ConfigError
from align.models.packed_attention import use_packed_attention
from align.records import CandidateBatch, EncodedGroup
from align.scoring import score_responses, score_tokens
from align.scoring.decoder import choose_layout
from align.scoring.head import Head
from tests.formulas.logprobs import plain_logprobs
from tests.tiny import FAMILIES, random_batch, tiny_model

LAYOUTS = ["padded", "shared", "packed"]


def scored(model, batch, layout, **options):
    model.zero_grad()
    scores = score_responses(model, batch, layout=layout, **options)
    (scores.logprobs * torch.arange(1, batch.num_candidates + 1)).sum().backward()
    return scores.logprobs.detach(), gradients(model)


def plain(model, batch, **options):
    model.zero_grad()
    logprobs = plain_logprobs(model, batch, **options)
    (logprobs * torch.arange(1, batch.num_candidates + 1)).sum().backward()
    return logprobs.detach(), gradients(model)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_plain_forward_in_float64(family: str, layout: str) -> None:
    model = tiny_model(family, torch.float64)
    batch = random_batch([2, 3, 1])
    expected, gradient = plain(model, batch)
    use_packed_attention(model)
    logprobs, own = scored(model, batch, layout)
    # Hugging Face computes some norms and the rotary angles in float32 whatever the weights, and Gemma 2's softmax too
    torch.testing.assert_close(logprobs, expected, rtol=1e-7 if family == "gemma2" else 1e-8, atol=0)
    assert relative(own, gradient) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma", "gpt2", "pythia"])
def test_equals_plain_forward_in_float32(family: str, layout: str) -> None:
    model = tiny_model(family)
    batch = random_batch([4, 2], seed=1)
    expected, gradient = plain(model, batch)
    use_packed_attention(model)
    logprobs, own = scored(model, batch, layout)
    torch.testing.assert_close(logprobs, expected, rtol=1e-6, atol=0)
    assert relative(own, gradient) < 2e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_stays_near_float32(layout: str) -> None:
    batch = random_batch([3, 2], seed=2)
    exact = plain_logprobs(tiny_model("llama", hidden_size=64), batch)
    model = tiny_model("llama", torch.bfloat16, hidden_size=64)
    use_packed_attention(model)
    scores = score_responses(model, batch, layout=layout)
    assert scores.logprobs.dtype == torch.float32
    assert relative(scores.logprobs, exact) < 0.02


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_adapters_and_checkpointing(layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    use_packed_attention(model)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(model, config, autocast_adapter_dtype=False)
    batch = random_batch([2, 2], seed=3)
    expected, gradient = plain(model, batch)
    logprobs, own = scored(model, batch, layout)
    torch.testing.assert_close(logprobs, expected, rtol=1e-8, atol=0)
    assert relative(own, gradient) < 1e-6
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    again, recomputed = scored(model, batch, layout)
    torch.testing.assert_close(again, logprobs, rtol=0, atol=0)
    torch.testing.assert_close(recomputed, own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_composition_and_order_do_not_matter(layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    use_packed_attention(model)
    together = score_responses(model, random_batch([2, 3, 1]), layout=layout).logprobs
    groups = split_groups(random_batch([2, 3, 1]))
    alone = torch.cat([score_responses(model, CandidateBatch.of([g]), layout=layout).logprobs for g in groups])
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=0)
    reversed_groups = [g._replace(response_ids=g.response_ids[::-1]) for g in groups]
    flipped = score_responses(model, CandidateBatch.of(reversed_groups), layout=layout).logprobs
    expected = torch.cat([part.flip(0) for part in together.split([2, 3, 1])])
    torch.testing.assert_close(flipped, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_candidates_of_a_group_may_have_different_prompts(layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    use_packed_attention(model)
    batch = random_batch([1, 1, 1])._replace(group_sizes=(3,), prompt_of=(2, 0, 1))
    torch.testing.assert_close(
        score_responses(model, batch, layout=layout).logprobs, plain_logprobs(model, batch), rtol=1e-8, atol=0
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompt_tokens_can_be_scored(layout: str) -> None:
    model = tiny_model("gpt2", torch.float64)
    use_packed_attention(model)
    batch = random_batch([1, 1, 1], seed=4)
    scores = score_responses(model, batch, layout=layout, score_prompts=True)
    torch.testing.assert_close(scores.logprobs, plain_logprobs(model, batch, score_prompts=True), rtol=1e-8, atol=0)
    expected = [p - 1 + r for p, r in zip(batch.prompt_lengths, batch.response_lengths, strict=True)]
    assert scores.lengths.tolist() == expected


def test_tiles_change_nothing() -> None:
    model = tiny_model("gemma2", torch.float64)
    batch = random_batch([2, 2])
    whole, gradient = scored(model, batch, "shared")
    tiled, own = scored(model, batch, "shared", logit_bytes=8 * 64 * 3)  # three positions at a time
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(own, gradient, rtol=1e-10, atol=1e-12)


def test_gradient_of_the_softmax() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    linear = torch.nn.Linear(3, 7).double()
    targets = torch.tensor([0, 6, 3, 3])
    for projection in (linear, lambda h: 0.5 * linear(h), lambda h: 2 * torch.tanh(linear(h) / 2)):
        own = Head(projection, 7)
        assert torch.autograd.gradcheck(lambda h, own=own: own.logprobs(h, targets), hidden)
        expected = own.logits(hidden).log_softmax(-1)[torch.arange(4), targets]
        torch.testing.assert_close(own.logprobs(hidden, targets), expected, rtol=1e-12, atol=0)


def test_token_scores_sum_to_response_scores() -> None:
    model = tiny_model()
    batch = random_batch([2, 3])
    tokens, responses = score_tokens(model, batch), score_responses(model, batch)
    assert tokens.counts.tolist() == list(batch.response_lengths)
    parts = [part.sum() for part in tokens.logprobs.split(list(batch.response_lengths))]
    torch.testing.assert_close(torch.stack(parts), responses.logprobs)


def test_uniform_logits_score_log_vocabulary() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    batch = random_batch([2, 1])
    scores = score_responses(model, batch)
    torch.testing.assert_close(scores.means, torch.full((3,), -torch.tensor(64.0).log().item()))


class TestAutoLayout:
    def test_packs_on_a_cpu(self) -> None:
        model = tiny_model()
        use_packed_attention(model)
        assert choose_layout(model, random_batch([2])) == "packed"

    def test_shares_rows_without_our_attention(self) -> None:
        assert choose_layout(tiny_model(), random_batch([2])) == "shared"
        assert choose_layout(tiny_model(), random_batch([1, 1])) == "padded"

    def test_packs_under_a_window_shorter_than_a_candidate_and_pads_without_our_attention(self) -> None:
        batch = long_batch(20)
        for window, other in ((24, "shared"), (10, "padded")):
            model = tiny_model("mistral", torch.float64, sliding_window=window)
            expected = plain_logprobs(model, batch)
            assert choose_layout(model, batch) == other
            use_packed_attention(model)
            assert choose_layout(model, batch) == "packed"
            scores = score_responses(model, batch)
            torch.testing.assert_close(scores.logprobs, expected, rtol=1e-8, atol=0)

    def test_a_layout_that_is_not_exact_is_refused(self) -> None:
        said = r"backbone.layout: layout 'packed' is not exact.* under sdpa attention.*padded or shared: use 'auto'"
        with pytest.raises(ConfigError, match=said):
            score_responses(tiny_model(), random_batch([2]), layout="packed")

    def test_pads_for_recurrent_models(self) -> None:
        model = tiny_model()
        model.config.layer_types = ["linear_attention", "full_attention"]
        assert choose_layout(model, random_batch([2])) == "padded"


def long_batch(length: int) -> CandidateBatch:
    half = length // 2
    group = EncodedGroup(
        "g", list(range(3, 3 + half)), [list(range(3, 3 + half)), [5, 1]], [0, 1], [[], []], 1.0, [False] * 2
    )
    return CandidateBatch.of([group])


def split_groups(batch: CandidateBatch) -> list[EncodedGroup]:
    prompts = [p.tolist() for p in batch.prompt_ids.split(list(batch.prompt_lengths))]
    responses = [r.tolist() for r in batch.response_ids.split(list(batch.response_lengths))]
    groups, start = [], 0
    for prompt, size, name in zip(prompts, batch.group_sizes, batch.ids, strict=True):
        own = responses[start : start + size]
        groups.append(EncodedGroup(name, prompt, own, list(range(size)), [[]] * size, 1.0, [False] * size))
        start += size
    return groups
