"""A judge from a model folder, run here: the same prompts, parsers and store as for one behind an endpoint."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from align.checks.trust import trust
from align.encoding.encoder import Encoder
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import Truncation
from align.judges.model_backend import ModelBackend
from align.models.asked import ModelAsking, asking_of
from align.models.backbone import Backbone
from align.models.folder_checks import folder_hash, local_folder
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.records.asking import Ask
from align.sampling.generation import Generation


class LocalModel(ModelBackend):
    """Answers with the most probable reply of a causal language model."""

    def __init__(
        self,
        model: Backbone,
        *,
        max_tokens: int = 256,
        batch_size: int = 8,
        template: TemplateName = "auto",
        chat_template_kwargs: dict[str, Any] | None = None,
        ask: Ask = Ask(),
    ) -> None:
        """Configure the judge.

        Args:
            model: The model; `path` is enough.
            max_tokens: Longest reply.
            batch_size: Questions answered at a time.
            template: How questions are written: the model's chat template, `plain`, or a Jinja file.
            chat_template_kwargs: What the chat template is given beside the question, such as `enable_thinking`.
            ask: How the model is asked where that is not as its folder says.
        """
        self._backbone = model.only_asked("responder.model")
        self.generation = Generation(max_tokens, temperature=0.0)
        self.batch_size = batch_size
        self.template, self.ask = template, ask
        self.chat_template_kwargs = {**(chat_template_kwargs or {}), **(ask.chat_template_kwargs or {})}

    @property
    def backbone(self) -> Backbone:
        """Return the model's folder and how it is loaded."""
        return self._backbone

    def settings(self) -> dict[str, Any]:
        """Return what decides an answer, the weights included."""
        return {
            "model": self.backbone.path,
            "weights": self._weights,
            "dtype": self.backbone.dtype,
            "max_tokens": self.generation.max_new_tokens,
            **({} if self.template == "auto" else {"template": self.template}),
            **({"asked": self.asking.settings} if self.asking.settings else {}),
            **({"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}),
        }

    @cached_property
    def asking(self) -> ModelAsking:
        """Return how the model is asked."""
        return asking_of(self.backbone.path, self.ask)

    @cached_property
    def _weights(self) -> str:
        folder = local_folder(self.backbone.path)
        return f"revision {self.backbone.revision}" if folder is None else folder_hash(folder)

    @cached_property
    def loaded(self) -> tuple[Any, Any, Encoder]:
        """Return the model, its tokenizer, and what writes questions."""
        tokenizer = load_tokenizer(self.backbone)
        with torch.random.fork_rng(devices=[]):
            model = load_policy(self.backbone, tokenizer).eval().requires_grad_(False)
        if not self.backbone.check:
            trust(model)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        settings = {**self.chat_template_kwargs, **self.asking.chat_template_kwargs}
        self.asking.tell(f"judge {self.backbone.path}")
        template = make_template(tokenizer, self.template, settings)
        return model, tokenizer, Encoder(tokenizer, template, Truncation())
