"""A critic of its own trains what its values are read from, and nothing else: DDP waits for all that is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.models.backbone import Backbone
from align.models.value_functions import ModelValue
from align.scoring import token_states
from tests.tiny import random_batch, save_reward_model, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("start", ["untied", "tied", "reward model"])
def test_all_that_is_trained_gets_a_gradient(start: str, tmp_path: Path) -> None:
    """Two processes with a copy of an untied policy ended at the second step, their first gradients not averaged."""
    policy, batch = tiny_model(tie_word_embeddings=start == "tied"), random_batch([2, 1])
    path = str(save_reward_model(tmp_path)) if start == "reward model" else None
    critic = ModelValue(path).build(policy, Backbone(str(tmp_path)), tiny_tokenizer())
    critic.head.weight.data.fill_(1.0)
    states = token_states(policy, batch)
    found = critic.values(policy, batch, states, layout="padded", ends=True)
    assert found.ends is not None
    (found.tokens.square().sum() + found.ends.sum()).backward()
    names = {name: parameter.grad for name, parameter in critic.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in names.items() if gradient is None] == []
    assert "head.weight" in names
    assert "model.model.embed_tokens.weight" in names
