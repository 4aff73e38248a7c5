"""A classifier of texts as a scorer, such as one of toxicity: the probability of a label, the prompt left aside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.folder_checks import check_weights, local_folder
from align.models.tokenizer import load_tokenizer
from align.models.whole import load_whole
from align.rewards.reward_model_reading import refuse_not_finite
from align.rewards.scorers import Dialogue, Scorer


class TextClassifier(Scorer):
    """The probability a sequence classifier gives to one label; sigmoid or softmax as its configuration says."""

    def __init__(self, path: str, label: str | None = None, batch_size: int = 32) -> None:
        """Name the classifier.

        Args:
            path: A folder with a sequence classifier and its tokenizer, or a hub id.
            label: Which of its labels; null takes the only one, or the one called toxic or toxicity.
            batch_size: Texts at a time.
        """
        self.path, self.label, self.batch_size = path, label, batch_size

    @property
    def identity(self) -> str:
        """Return folder and label."""
        return f"{self.path} {self._chosen}"

    @property
    def attributes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the label."""
        return (self._chosen,)

    @cached_property
    def _pipeline(self) -> Any:
        from transformers import AutoModelForSequenceClassification, pipeline

        if (folder := local_folder(self.path)) is not None:
            check_weights(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = load_tokenizer(Backbone(self.path))
        with torch.random.fork_rng(devices=[]):
            model, _ = load_whole(AutoModelForSequenceClassification, self.path)
        return pipeline("text-classification", model, tokenizer=tokenizer, device=device, trust_remote_code=False)

    @cached_property
    def _chosen(self) -> str:
        labels = list(self._pipeline.model.config.id2label.values())
        named = [x for x in labels if x.lower() in ("toxic", "toxicity")]
        fitting = [self.label] if self.label in labels else labels if len(labels) == 1 else named
        if len(fitting) != 1 or (self.label is not None and self.label not in labels):
            raise ConfigError(f"classifier {self.path}: label {self.label!r}, expected one of {', '.join(labels)}")
        return str(fitting[0])

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return the probability of the label for each response; texts longer than the model takes are cut."""
        chosen = self._chosen
        found = self._pipeline(list(responses), top_k=None, truncation=True, batch_size=self.batch_size)
        values = [next(entry["score"] for entry in row if entry["label"] == chosen) for row in found]
        scores = torch.tensor(values, dtype=torch.float64)[:, None]
        refuse_not_finite(f"classifier {self.path}", (chosen,), prompts, scores)
        return scores
