"""The model's own `generate`, for models whose state after a prompt our caches do not hold (recurrent, latent)."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from align.models.adapters import evaluating
from align.sampling.decoding_rows import Rows
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job
from align.sampling.stopping_criteria import StopCriteria
from align.scoring.decoder import unwrapped
from align.scoring.rotary import forget_lengths, unscaled_length


class GenerateEngine(Engine):
    """Decodes with `generate` of transformers, tokens drawn by our rule from each sample's own random stream.

    Only prompts of one length are computed together, so that no row is padded: a recurrent layer reads padding. The
    model's own generation settings (penalties, forced tokens) are set aside, as in the other engines.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        eos_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        cached: bool = True,
    ) -> None:
        """Take a model in this process.

        Args:
            model: The policy.
            tokenizer: Its tokenizer.
            eos_ids: Tokens that end a response.
            stop: Texts that end a response.
            cached: Use `generate`, which keeps the state of what was computed; false makes a plain forward pass over
                all before for every token, which is right for whatever has a forward pass.
        """
        self.model, self.ends, self.cached = model, StopCriteria(tokenizer, eos_ids, stop), cached

    @torch.no_grad()
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises ConfigError for a prompt that fills the model's context."""
        rows = Rows(self.model, self.ends, jobs, settings, round_number)
        prompts = [list(job.request.ids) for job in jobs for _ in job.numbers]
        places = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        inner = unwrapped(self.model)
        decode = self._by_generate if self.cached and not outgrows(self.model, jobs, settings) else self._by_forwards
        with evaluating(self.model), _no_settings(inner):
            for _, same in itertools.groupby(places, key=lambda place: len(prompts[place])):
                together = list(same)
                forget_lengths(inner, inner.config)
                decode(rows, together, torch.tensor([prompts[i] for i in together], device=rows.numbers.device))
        return rows.completions()

    def _by_generate(self, rows: Rows, places: list[int], ids: Int[Tensor, "row position"]) -> None:
        """Draw completions of prompts of one length by `generate`, which keeps the state of what was computed."""
        config = GenerationConfig(
            max_new_tokens=max(rows.rows[place].limit for place in places),
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
            eos_token_id=None,
        )
        masked = "attention_mask" in inspect.signature(unwrapped(self.model).forward).parameters
        drawing = _Drawing(rows, places)
        self.model.generate(  # type: ignore[operator]
            input_ids=ids,
            generation_config=config,
            logits_processor=[drawing],
            stopping_criteria=[_Ended(drawing)],
            synced_gpus=False,  # what several processes do in step is our own affair
            **({"attention_mask": torch.ones_like(ids)} if masked else {}),
        )

    def _by_forwards(self, rows: Rows, places: list[int], ids: Int[Tensor, "row position"]) -> None:
        """Draw completions of prompts of one length by plain forward passes, one for each token."""
        step = 0
        while places:
            tokens = rows.draw(self.model(input_ids=ids, use_cache=False).logits[:, -1], places, step)
            going = rows.take(places, tokens.tolist())
            ids = torch.cat([ids, tokens[:, None]], 1)[going]
            places, step = [places[index] for index in going], step + 1


def outgrows(model: nn.Module, jobs: Sequence[Job], settings: Generation) -> bool:
    """Tell whether a row may come to a length at which all its rotary angles change, so that no cache fits any more."""
    limit = unscaled_length(unwrapped(model).config)
    return max(len(job.request.ids) for job in jobs) + settings.max_new_tokens > limit


class _Drawing(LogitsProcessor):  # type: ignore[misc]
    """Draws by our rule and leaves `generate` no choice but the token drawn."""

    def __init__(self, rows: Rows, places: list[int]) -> None:
        self.rows, self.places, self.step = rows, places, 0

    def __call__(self, input_ids: Tensor, scores: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
        """Return 0 at the token drawn and minus infinity elsewhere."""
        tokens = self.rows.draw(scores, self.places, self.step)
        self.rows.take(self.places, tokens.tolist())
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, tokens[:, None], 0.0)

    def ended(self) -> list[bool]:
        """Tell which rows have ended."""
        return [self.rows.rows[place].finish is not None for place in self.places]


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Stops when every row has ended by our rule."""

    def __init__(self, drawing: _Drawing) -> None:
        self.drawing = drawing

    def __call__(self, input_ids: Int[Tensor, "row position"], scores: Any, **_: Any) -> Tensor:
        """Return which rows have ended."""
        return torch.tensor(self.drawing.ended(), device=input_ids.device)


@contextmanager
def _no_settings(inner: Any) -> Iterator[None]:
    """Set the model's generation settings aside: `generate` would add them to those it is given."""
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own
