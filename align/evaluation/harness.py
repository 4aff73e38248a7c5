"""Tasks of EleutherAI's lm-eval on our folders: their prompts and their measures, rows from a local file, no hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from align.errors import ConfigError
from align.evaluation.policy import Policy
from align.models.asked import ModelAsking
from align.records import Message

Document = dict[str, Any]
GENERATED = 256
"""Tokens lm-eval leaves room for where a task does not say."""


class Answered(NamedTuple):
    """What lm-eval measured on one row."""

    row: Document
    values: dict[str, float]
    cut: bool
    """Whether the start of its prompt was cut off to fit the context."""


def run_tasks(
    policy: Policy,
    tasks: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Document],
    *,
    folder: str,
    chat: bool | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> dict[str, list[Answered]]:
    """Run registered tasks of lm-eval on rows of our own and return what each measured, row by row.

    Args:
        policy: The model.
        tasks: What to change of each task by its name; nothing keeps it as lm-eval ships it.
        rows: The data, in the columns of the data set the tasks were written for.
        folder: Name of the tasks' folder inside `lm_eval.tasks`.
        chat: Put the prompt into the chat template, as the model is asked; null does where prompts are put under
            something, and leaves them plain text otherwise.
        batch_size: Sequences at a time.
        seed: Of sampling.

    Raises ConfigError without lm-eval, for `chat` without a chat template, and for plain text where a model is put
    under something.
    """
    lm_eval, model = harness(), wrapped(policy, batch_size)
    chat = in_chat(policy.asking, chat, template=bool(policy.tokenizer.chat_template))
    from datasets import Dataset, DatasetDict

    split = Dataset.from_list(list(rows))
    data = DatasetDict(dict.fromkeys(("train", "validation"), split))
    changed = [
        {"task": name, "num_fewshot": 0, "custom_dataset": lambda **_: data, **changes}
        for name, changes in tasks.items()
    ]
    place = Path(lm_eval.tasks.__file__).parent / folder
    manager = lm_eval.tasks.TaskManager(include_path=str(place), include_defaults=False)
    with torch.random.fork_rng(), policy.asking.steering(policy.model):
        torch.manual_seed(seed)
        found = lm_eval.evaluate(
            model,
            manager.load([{"group": "local", "task": changed}]),
            apply_chat_template=chat,
            bootstrap_iters=0,  # our own intervals are over rows
        )
    return {name: [_answered(sample, rows, model) for sample in found["samples"][name]] for name in tasks}


def in_chat(asking: ModelAsking, chat: bool | None, *, template: bool) -> bool:
    """Return whether prompts go into the chat template: as asked for, else where a model is put under something.

    Raises ConfigError without a template, and for plain text where a model is put under something.
    """
    if chat is False and asking.puts:
        raise ConfigError(f"chat false: plain text cannot be asked {asking.told!r}: leave chat out, or ask plainly")
    found = asking.puts if chat is None else chat
    if found and not template:
        raise ConfigError("chat: the tokenizer has no chat template: leave it out, or set model.chat_template")
    return found


def _answered(sample: Mapping[str, Any], rows: Sequence[Document], model: Any) -> Answered:
    values = {name: float(sample[name]) for name in sample["metrics"]}
    cut = any(too_long(context, rest, model) for context, rest in sample["arguments"])
    return Answered(rows[sample["doc_id"]], values, cut)


def too_long(context: str, rest: Any, model: Any) -> bool:
    """Return whether a request does not fit: a context with an answer to score, or with room for a continuation."""
    text, room = (context + rest, 0) if isinstance(rest, str) else (context, rest.get("max_gen_toks", GENERATED))
    return bool(len(model.tok_encode(text)) + room > model.max_length)


def harness() -> Any:
    """Return lm-eval. Raises ConfigError without it."""
    try:
        import lm_eval
        import lm_eval.tasks  # noqa: F401  puts its tasks below it
    except ImportError as error:
        raise ConfigError(
            f"this benchmark needs lm-eval ({error}): pip install 'align-lm[lm-eval]' -c constraints.txt"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval


def wrapped(policy: Policy, batch_size: int) -> Any:
    """Return lm-eval's wrapper of the model, which cuts sequences longer than the context from the left."""
    harness()
    from lm_eval.models.huggingface import HFLM

    model: Any = policy.model
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    own = {"tokenizer": policy.tokenizer, "batch_size": batch_size, "max_length": limit}

    return asked_class(HFLM, policy.asking)(pretrained=model, trust_remote_code=False, **own)


def asked_class(base: Any, asking: ModelAsking) -> Any:
    """Return one of lm-eval's classes of models that puts every dialogue as a model is asked."""

    class Asked(base):  # type: ignore[misc]
        """Puts every dialogue as the model is asked."""

        def apply_chat_template(self, chat_history: list[dict[str, str]], *more: Any, **options: Any) -> Any:
            turns: Any = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)  # type: ignore[arg-type]
            asked = [{"role": m.role, "content": m.content} for m in asking.apply(turns)]
            kwargs = asking.chat_template_kwargs
            if not kwargs or self.tokenizer is None:
                return super().apply_chat_template(asked, *more, **options)
            self.tokenizer.apply_chat_template = partial(self.tokenizer.apply_chat_template, **kwargs)
            try:
                return super().apply_chat_template(asked, *more, **options)
            finally:
                del self.tokenizer.apply_chat_template

    return Asked
