"""The likelihoods that implicit rewards are made of, against a plain forward pass of transformers, one row at a time."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.encoding.encoder import Encoder
from align.encoding.truncation import Truncation
from align.evaluation.policy import Policy
from align.evaluation.response_likelihoods import Likelihoods, response_likelihoods
from align.models.backbone import Backbone
from align.models.small import CHATML
from align.records import Example, Message
from tests.tiny import save_tiny

EXAMPLES = [
    Example("a", (Message("user", "the cat"),), ("sat on the mat", "ran")),
    Example(
        "b", (Message("user", "a"), Message("assistant", "b"), Message("user", "the dog")), ("a", "b a", "cat sat")
    ),
    Example("long", (Message("user", "the dog"),), ("a " * 200, "b")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("m") / "model", template=CHATML, initializer_range=0.4))


def likelihoods(folder: str, **options: int) -> Likelihoods:
    policy = Policy.load(Backbone(folder))
    encoder = Encoder(policy.tokenizer, policy.encoder.template, Truncation(None, 100, "cut_if_needed", "drop"))
    return response_likelihoods(policy, encoder, EXAMPLES, **options)


@pytest.mark.parametrize("tokens", [1, 4096])
def test_against_a_plain_forward_pass(folder: str, tokens: int) -> None:
    found = likelihoods(folder, batch_tokens=tokens)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for example, sums, counts in zip(EXAMPLES[:2], found.sums, found.tokens, strict=False):
        turns = [message.as_turn() for message in example.messages]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        asked = tokenizer(prompt, add_special_tokens=False).input_ids
        for response, total, count in zip(example.responses, sums, counts, strict=True):
            ids = [*tokenizer(prompt + response, add_special_tokens=False).input_ids, end]
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            own = sum(float(logprobs[n - 1, ids[n]]) for n in range(len(asked), len(ids)))
            assert total == pytest.approx(own, abs=1e-4)
            assert count == len(ids) - len(asked)
    assert found.per_token[0][1] == pytest.approx(found.sums[0][1] / found.tokens[0][1])


def test_what_does_not_fit_is_left_out_whole(folder: str) -> None:
    """A list of which one response is too long would be compared without it: no response of it is scored."""
    found = likelihoods(folder)
    assert all(map(math.isnan, found.sums[2]))
    assert list(found.dropped) == ["long"]
    assert "response longer than" in found.dropped["long"]


def test_a_policy_that_is_its_reference_has_no_implicit_reward(folder: str) -> None:
    found = likelihoods(folder)
    assert found.less(found)[:2] == [[0.0] * 2, [0.0] * 3]
