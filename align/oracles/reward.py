"""A reward model folder as an oracle: text in, one number per attribute out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import ModelError
from align.models.backbone import Backbone
from align.models.files import ADAPTER_CONFIG, local_folder, read_json
from align.models.loading import load_reward_model, max_positions
from align.models.tokenizer import choose_pad_token, load_tokenizer
from align.records import CandidateBatch, EncodedGroup, Example, Message
from align.scoring import last_hidden
from align.scoring.backbone import unwrapped

LONGEST = 4096


class RewardOracle:
    """Scores responses with a folder that `RewardModel` exported, or any sequence classifier on a causal model.

    Prompts are written with the folder's own chat template. What does not fit its context is cut: old turns first.
    """

    def __init__(self, path: str, *, batch_tokens: int = 8192, device: str | None = None) -> None:
        """Load the reward model.

        Args:
            path: Folder or hub id.
            batch_tokens: Tokens of a batch, at most, unless one response alone has more.
            device: Where it runs; null takes a GPU where there is one.
        """
        backbone = Backbone(path)
        self.attributes = _attributes(path)
        self.batch_tokens, self.device = batch_tokens, device or ("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = load_tokenizer(backbone)
        pad = choose_pad_token(tokenizer)
        self.model: Any = load_reward_model(backbone, tokenizer, list(self.attributes), pad).eval().to(self.device)
        limit = min(max_positions(backbone), LONGEST)
        self.encoder = Encoder(tokenizer, make_template(tokenizer), Truncation(None, limit, "cut_if_needed", "cut"))

    @torch.no_grad()
    def score(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the rewards of each response to the prompt beside it, NaN where the text cannot be encoded."""
        pairs = zip(prompts, responses, strict=True)
        examples = [Example(str(n), tuple(prompt), (response,)) for n, (prompt, response) in enumerate(pairs)]
        groups = [group for group in self.encoder.encode(examples) if isinstance(group, EncodedGroup)]
        rewards = torch.full((len(examples), len(self.attributes)), torch.nan)
        for batch in self._batches(groups):
            moved = CandidateBatch.of(batch)
            moved = moved._replace(
                prompt_ids=moved.prompt_ids.to(self.device), response_ids=moved.response_ids.to(self.device)
            )
            scores = unwrapped(self.model).score(last_hidden(self.model, moved))
            rewards[[int(group.id) for group in batch]] = scores.float().cpu()
        return rewards

    def _batches(self, groups: list[EncodedGroup]) -> Iterator[list[EncodedGroup]]:
        """Yield groups of like lengths, as many as the token budget takes."""
        batch: list[EncodedGroup] = []
        for group in sorted(groups, key=_length):
            if batch and _length(group) * (len(batch) + 1) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch


def _length(group: EncodedGroup) -> int:
    return len(group.prompt_ids) + len(group.response_ids[0])


def _attributes(path: str) -> tuple[str, ...]:
    """Return what the outputs of a reward model stand for. Raises ModelError for a folder of another kind."""
    folder = local_folder(path)
    if folder is not None and (folder / ADAPTER_CONFIG).exists():
        if read_json(folder / ADAPTER_CONFIG).get("task_type") != "SEQ_CLS":
            raise ModelError(f"reward model {path}: the adapter is not one of a reward model")
        return ("reward",)
    if folder is None or not (folder / "config.json").exists():
        raise ModelError(f"reward model {path}: no such folder with a config.json")
    config = read_json(folder / "config.json")
    if not any("SequenceClassification" in name for name in config.get("architectures") or []):
        raise ModelError(
            f"reward model {path}: a {config.get('architectures')} has no reward head: train a RewardModel"
        )
    labels = config.get("id2label") or {"0": "reward"}
    return tuple(labels[key] for key in sorted(labels, key=int))
