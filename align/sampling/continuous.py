"""Continuous batching of transformers in this process: a sample that ends leaves its room in the cache to another."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.continuous_api import BackgroundThreadStatus

from align.checks.plain import plain_attention
from align.errors import ConfigError, ModelError
from align.models.adapters import evaluating
from align.sampling.decoding_rows import Rows
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job
from align.sampling.paged_drawing import PagedDrawing
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.transformers_generate import outgrows
from align.sampling.undisturbed import undisturbed
from align.scoring.decoder import unwrapped
from align.scoring.packed_names import PLAIN_NAMES

PAGE = 32
"""Positions of a page. Whole pages are held, so that a sample wastes half of one on average."""
SPARE = 1.25
"""Room of the cache for what was asked for: transformers begins no further prompt with less than 15 % of it free."""
ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Implementations that read its cache, as `ContinuousBatchingManager.switch_to_cb_friendly_attn` has them."""
MOST_TOGETHER = 2048
"""Tokens of one step at most: a longer prompt is read in parts."""


class ContinuousEngine(Engine):
    """Decodes with transformers' `ContinuousBatchingManager` (5.23), tokens drawn by our rule from our own streams.

    Every sample has its own stream, as in our engine: which samples share a step does not decide what is drawn, but by
    rounding of logits. The loop of the manager runs in this thread, not in its own, so that a batch is the same steps
    every time, under the caller's autocast. Attention stays the model's: transformers would otherwise take a flash
    kernel, from the hub where none is installed. A prompt is computed once, and forked for its samples.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        """Take a model in this process. Raises ConfigError for one whose attention reads no paged cache."""
        self.model, self.ends = model, StopCriteria(tokenizer, eos_ids, stop)
        self.inner = unwrapped(model)
        check_continuous(self.inner)

    @torch.no_grad()
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job, with their log-probabilities.

        These are before top_p, and at temperature 1 where that is 0. Raises ConfigError for a prompt that fills the
        model's context, ModelError for what transformers fails at.
        """
        rows = Rows(self.model, self.ends, jobs, settings, round_number)
        if outgrows(self.model, jobs, settings):
            raise ConfigError(
                f"continuous batching: model type {self.inner.config.model_type} turns all positions anew in sequences "
                "longer than it was trained on, which no cache follows: use our engine, or lower max_new_tokens"
            )
        drawing = PagedDrawing(rows)
        with evaluating(self.model), plain_attention(self.model), undisturbed(), _silent():
            self._run(drawing, settings)
        found = iter(drawing.logprobs)
        return [[c._replace(logprobs=next(found)) for c in own] for own in rows.completions()]

    def _run(self, drawing: PagedDrawing, settings: Generation) -> None:
        """Draw every row."""
        jobs, first = drawing.rows.jobs, 0
        limits = [drawing.rows.rows[place].limit for place in range(len(drawing.rows.rows))]
        manager = ContinuousBatchingManager(
            self.inner,
            GenerationConfig(do_sample=False, max_new_tokens=max(limits), eos_token_id=self.ends.eos_ids or [-1]),
            _cache_settings(jobs, limits, settings),
        )
        manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([drawing]))
        manager.logit_processor.tensors_required = 1  # counted only of processors that it has turned into its own
        drawing.cancel = manager.cancel_request
        try:
            for job in jobs:
                alone = len(job.request.ids) == 1  # nothing to fork: the last token of a prompt is computed by each
                for number in range(len(job.numbers) if alone else 1):
                    manager.num_return_sequences = 1 if alone else len(job.numbers)
                    manager.add_request(list(job.request.ids), f"{first + number}", max_new_tokens=limits[first])
                first += len(job.numbers)
            manager.batch_processor = manager._create_batch_processor()
            _cast_to(manager.batch_processor.cache)
            manager.background_thread_status.request_stop(BackgroundThreadStatus.FLUSH_AND_STOP, 0)
            manager._run_generation_loop()
            self._check(manager, drawing)
        finally:
            _leave(manager)
            if manager._original_attn_impl is not None:
                self.inner.set_attn_implementation(manager._original_attn_impl)

    @staticmethod
    def _check(manager: Any, drawing: PagedDrawing) -> None:
        """Raise what ended the loop, and ModelError for a row that was left."""
        fault = manager.background_thread_status.fatal_error
        if isinstance(fault, torch.OutOfMemoryError):
            raise fault
        if fault is not None:
            raise ModelError(f"continuous batching of transformers failed: {type(fault).__name__}: {fault}") from fault
        left = [place for place, row in enumerate(drawing.rows.rows) if row.finish is None]
        if left:
            outputs = manager.output_router.output_queue
            said = next((one.error for one in iter(outputs.get_nowait, None) if one.error), "it says nothing")
            raise ModelError(f"continuous batching of transformers left {len(left)} samples undrawn: {said}")


def check_continuous(inner: Any) -> None:
    """Raise ConfigError for a model whose attention reads no paged cache, or is another there.

    `eager_paged.py` and `sdpa_attention.py` of transformers 5.23 leave Gemma 2's cap on attention out.
    """
    named = inner.config._attn_implementation
    if PLAIN_NAMES.get(named, named) not in ATTENTION:
        raise ConfigError(
            f"continuous batching: model.backbone.attn_implementation is {named}, expected one of "
            f"{', '.join(ATTENTION)}: set it, or use another engine"
        )
    if getattr(inner.config.get_text_config(), "attn_logit_softcapping", None) and "flash" not in named:
        raise ConfigError(
            f"continuous batching leaves out the cap on attention of model type {inner.config.model_type} with "
            f"attn_implementation {named}: use our engine, or a flash attention"
        )


def _cache_settings(jobs: Sequence[Job], limits: Sequence[int], settings: Generation) -> ContinuousBatchingConfig:
    """Return a cache for all samples, or for `batch_tokens` positions, whichever is less."""
    lengths = [len(job.request.ids) + settings.max_new_tokens for job in jobs]
    wanted = sum(length * len(job.numbers) for length, job in zip(lengths, jobs, strict=True))
    positions = max(min(wanted, settings.batch_tokens), *lengths)
    return ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=math.ceil(positions * SPARE / PAGE) + len(limits),
        max_batch_tokens=max(min(settings.batch_tokens, MOST_TOGETHER), 1),
        max_requests_per_batch=len(limits),
        max_blocks_per_request=0,
        use_async_batching=False,
        use_cuda_graph=False,
        auto_switch_to_flash=False,
        seed=0,
    )


def _cast_to(cache: Any) -> None:
    """Let a cache take keys and values of other dtypes than its own, which autocast makes of some."""
    update = cache.update

    def cast(key_states: Tensor, value_states: Tensor, layer_idx: int, kwargs: dict[str, Any]) -> Any:
        return update(key_states.to(cache.dtype), value_states.to(cache.dtype), layer_idx, kwargs)

    cache.update = cast


def _leave(manager: Any) -> None:
    """Let the cache go, which nothing refers to in a circle: its owner would have all of the process searched for some.

    That took 0.3 seconds and more for each batch.
    """
    if manager.batch_processor is None:
        return
    del manager.batch_processor.cache.update
    gc.freeze()
    try:
        manager.batch_processor = None
    finally:
        gc.unfreeze()


@contextmanager
def _silent() -> Iterator[None]:
    """Leave out what the manager says of its own doing; what fails is raised."""
    logger = logging.getLogger("ContinuousBatchingLogger")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
