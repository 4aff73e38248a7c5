"""Critics: what reads a value at every token of a sample, before it is drawn."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.adapted import add_trained
from align.models.adapters import adapter_active, has_adapters, is_of
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_reward_model
from align.models.tokenizer import choose_pad_token
from align.records import CandidateBatch
from align.scoring import TokenStates, token_states
from align.scoring.decoder import decoder, unwrapped

ADAPTER = "value"
"""Name of the critic's adapter on the policy's base."""


class ValueHead(nn.Linear):
    """One number from a hidden state, 0 at the start; in float32, or float64 for a float64 model."""

    def __init__(self, model: nn.Module) -> None:
        inner: Any = unwrapped(model)
        dtype = torch.float64 if inner.dtype == torch.float64 else torch.float32
        super().__init__(inner.config.get_text_config().hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, states: Float[Tensor, "token hidden"]) -> Float[Tensor, " token"]:
        """Return the value of each state, whatever precision the states are computed in."""
        with torch.autocast(states.device.type, enabled=False):
            values: Tensor = super().forward(states.to(self.weight.dtype))
        return values[:, 0]


class CriticValues(NamedTuple):
    """What a critic says of the samples of a batch."""

    tokens: Float[Tensor, " token"]
    """Before each token is drawn."""
    ends: Float[Tensor, " candidate"] | None = None
    """Behind the last token; None where it was not asked for."""


class Critic(nn.Module, ABC):
    """A built critic: its trained parts, those on the policy's own model apart."""

    head: ValueHead
    passes = 1
    """Trained passes over a batch beside the policy's."""

    @property
    def models(self) -> list[nn.Module]:
        """Return the language models that are the critic's own."""
        return []

    def values(
        self, policy: nn.Module, batch: CandidateBatch, states: TokenStates, *, layout: str, ends: bool = False
    ) -> CriticValues:
        """Return values before each token, and behind the last where `ends` asks; `states` are the policy's."""
        own = self.states(policy, batch, states, layout=layout)
        if not ends:
            return CriticValues(self.head(own.hidden))
        assert own.last is not None
        found: Tensor = self.head(torch.cat([own.hidden, own.last]))
        return CriticValues(*torch.split(found, [len(own.hidden), len(own.last)]))

    @abstractmethod
    def states(self, policy: nn.Module, batch: CandidateBatch, states: TokenStates, *, layout: str) -> TokenStates:
        """Return the states that the head reads; `states` are the policy's."""


class CriticSettings(ABC):
    """Which critic to build."""

    @abstractmethod
    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> Critic:
        """Return the critic; called before anything is trained. Raises ConfigError where it cannot be had."""


@dataclass(frozen=True)
class TrunkValue(CriticSettings):
    """A head on the policy's own states: no memory and no pass of its own."""

    detached: bool = False
    """Train the head alone by the critic's loss, not the states under it."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> Critic:
        """Return the head."""
        return _Trunk(policy, detached=self.detached)


@dataclass(frozen=True)
class AdapterValue(CriticSettings):
    """A second adapter and a head on the policy's frozen base; one more pass of it."""

    lora: LoRA | None = None
    """Its shape; null takes that of the policy's adapter."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> Critic:
        """Add the adapter."""
        if not has_adapters(policy) or backbone.lora is None:
            raise ConfigError("model.value AdapterValue needs backbone.lora: take TrunkValue or ModelValue without")
        if backbone.lora.init_lora_weights is not None:
            raise ConfigError(
                f"model.value AdapterValue reads the base, out of which backbone.lora.init_lora_weights "
                f"{backbone.lora.init_lora_weights} takes the policy's start: take TrunkValue or ModelValue"
            )
        if backbone.gradient_checkpointing:
            raise ConfigError(
                "backbone.gradient_checkpointing computes again in the backward pass, when only one of the adapters is "
                "active: switch it off for AdapterValue, or take TrunkValue or ModelValue"
            )
        inner: Any = policy
        own = inner.base_model.active_adapters
        add_trained(policy, [ADAPTER], self.lora or backbone.lora)
        inner.base_model.set_adapter(own)
        for name, parameter in policy.named_parameters():
            if is_of(name, [ADAPTER]):
                parameter.requires_grad_(True)
        return _Adapter(policy)


@dataclass(frozen=True)
class ModelValue(CriticSettings):
    """A model of its own, all of it trained."""

    path: str | None = None
    """A reward model's folder or hub id, whose head the values begin with; null copies the policy, with values 0."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> Critic:
        """Copy or load the model."""
        if self.path is None:
            model = copy.deepcopy(policy)
            return _Model(model, ValueHead(model))
        own, pad = replace(backbone, path=self.path, lora=None, random_init=False), choose_pad_token(tokenizer)
        loaded: Any = load_reward_model(own, copy.deepcopy(tokenizer), ["reward"], pad, zero_head=True, masters=True)
        head = ValueHead(loaded)
        with torch.no_grad():
            head.weight.copy_(loaded.score.weight)
        return _Model(loaded, head)


class _Trunk(Critic):
    passes = 0

    def __init__(self, policy: nn.Module, *, detached: bool) -> None:
        super().__init__()
        self.head, self.detached = ValueHead(policy), detached

    def states(self, policy: nn.Module, batch: CandidateBatch, states: TokenStates, *, layout: str) -> TokenStates:
        """Return the policy's states."""
        if not self.detached:
            return states
        return states._replace(
            hidden=states.hidden.detach(), last=None if states.last is None else states.last.detach()
        )


class _Adapter(Critic):
    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.head = ValueHead(policy)

    def states(self, policy: nn.Module, batch: CandidateBatch, states: TokenStates, *, layout: str) -> TokenStates:
        """Run the base under the critic's adapter."""
        with adapter_active(policy, ADAPTER):
            return token_states(policy, batch, layout=layout)


class _Model(Critic):
    def __init__(self, model: nn.Module, head: ValueHead) -> None:
        super().__init__()
        self.model, self.head = model, head
        read = {id(parameter) for parameter in decoder(model).parameters()}
        for parameter in model.parameters():  # DDP would wait for the gradient of a head that nobody reads
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in read)

    @property
    def models(self) -> list[nn.Module]:
        """Return its model."""
        return [self.model]

    def states(self, policy: nn.Module, batch: CandidateBatch, states: TokenStates, *, layout: str) -> TokenStates:
        """Run the critic's own model."""
        return token_states(self.model, batch, layout=layout)
