"""Models behind a server of the OpenAI kind, as lm-eval asks them: prompts scored, or texts completed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from align.errors import ConfigError, ModelError
from align.evaluation.harness import asked_class, harness
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.models.loading import max_positions
from align.models.tokenizer import load_tokenizer
from align.records.asking import MeasuredModel
from align.sampling.http import Server
from align.sampling.server_faults import printable

USUAL_CONTEXT = 2048
TRIES = 3
SECONDS_TO_ANSWER = 10.0
UNSEEN = "exception was never retrieved"
"""What asyncio tells, with a traceback, of every request that was under way when one has failed."""


def server_of(model: MeasuredModel) -> Server | None:
    """Return the server, None for a folder. Raises ConfigError for settings that contradict each other."""
    if model.base_url is None:
        if not model.path:
            raise ConfigError("a model needs a path, or the base_url of a server")
        if model.model:
            raise ConfigError(f"model {model.model!r} is what a server is asked for: name its base_url too")
        return None
    if not model.model:
        raise ConfigError(f"base_url {model.base_url}: name the model to ask the server for too")
    if model.api == "completions" and not model.path:
        raise ConfigError("api completions sends token ids: name the folder of the tokenizer as path, or api chat")
    return Server(
        model.base_url,
        model.model,
        model.api,
        model.api_key_env,
        concurrency=model.concurrency,
        timeout=model.timeout,
        deadline=model.timeout,
    )


def check_server(server: Server) -> None:
    """Raise ConfigError without the key, ModelError for a server that is not there: before any model is measured."""
    server.key()
    try:
        httpx2.get(f"{server.base_url.rstrip('/')}/models", timeout=min(server.timeout, SECONDS_TO_ANSWER))
    except httpx2.TimeoutException:
        return  # it is there, and may be loading; a request has more patience
    except httpx2.TransportError as error:
        raise ModelError(f"server {server.base_url}: does not answer ({printable(error)}): is it running?") from error


def served(server: Server, path: str, asking: ModelAsking) -> tuple[Any, Any]:
    """Return lm-eval's wrapper of a served model, and its tokenizer, which a chat server has none of.

    Raises ConfigError for a model that is steered, which only a loaded one is.
    """
    if asking.steer is not None:
        raise ConfigError(f"{path}: steering changes states inside the model: load the folder, or ask plainly")
    harness()
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

    key = server.key()
    header = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    options: dict[str, Any] = {"model": server.model, "header": header, "timeout": server.timeout}
    options |= {"num_concurrent": server.concurrency, "max_retries": TRIES}
    url = server.base_url.rstrip("/")
    own = {"chat_template_kwargs": asking.chat_template_kwargs} if asking.chat_template_kwargs else {}
    if server.api == "chat":

        class Chat(asked_class(LocalChatCompletion, asking)):  # type: ignore[misc]
            """Sends the settings of the template, which the server fills."""

            def _create_payload(self, *given: Any, **more: Any) -> dict[str, Any]:
                found: dict[str, Any] = super()._create_payload(*given, **more)
                if not (stop := [text for text in found.pop("stop") if text]):
                    return {**found, **own}
                return {**found, "stop": stop, **own}

        return Chat(base_url=f"{url}/chat/completions", eos_string="", **options), None
    tokenizer = load_tokenizer(Backbone(path))
    has_config = Path(path, "config.json").is_file() or Path(path, "adapter_config.json").is_file()
    options |= {"max_length": max_positions(Backbone(path)) if has_config else USUAL_CONTEXT}
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    model = asked_class(_scoring(LocalCompletionsAPI), asking)(
        base_url=f"{url}/completions", tokenizer_backend="huggingface", tokenizer=path, add_bos_token=begins, **options
    )
    model.tokenizer = tokenizer
    return model, tokenizer


def _scoring(base: Any) -> Any:
    class Scoring(base):  # type: ignore[misc]
        """Reads the log-probabilities of a prompt, and refuses an answer that has none of them."""

        def tok_encode(self, string: Any, *given: Any, **more: Any) -> Any:
            """Return the tokens of a text, or of several, each with one BOS where the tokenizer puts one."""
            if not isinstance(string, str):
                return [self.tok_encode(text, *given, **more) for text in string]
            if self.add_bos_token and string.startswith(self.tokenizer.bos_token):
                ids = self.tokenizer(string, add_special_tokens=False)["input_ids"]
                return ids[-more["left_truncate_len"] :] if more.get("left_truncate_len") else ids
            return super().tok_encode(string, *given, **more)

        @staticmethod
        def parse_logprobs(
            outputs: Any, tokens: Sequence[Sequence[int]] = (), ctxlens: Sequence[int] = (), **_: Any
        ) -> list[tuple[float, bool]]:
            """Return the sum over each continuation, and whether it is the likeliest; our reading of `echo`."""
            answers = [c for out in (outputs if isinstance(outputs, list) else [outputs]) for c in out["choices"]]
            return [_continued(*each) for each in zip(answers, tokens, ctxlens, strict=True)]

    return Scoring


def _continued(answer: dict[str, Any], ids: Sequence[int], start: int) -> tuple[float, bool]:
    found = answer.get("logprobs") or {}
    each, best = found.get("token_logprobs") or [], found.get("top_logprobs") or []
    if len(each) < len(ids):
        raise ModelError(
            f"the server gave {len(each)} log-probabilities for a prompt of {len(ids)} tokens: tasks that score texts "
            "need one that echoes a prompt with them (vLLM does): take tasks that generate, or load the folder"
        )
    own, top = each[start : len(ids)], best[start : len(ids)]
    greedy = bool(top) and all(value >= max(others.values()) for value, others in zip(own, top, strict=True))
    return float(sum(own)), greedy


def _seen(record: logging.LogRecord) -> bool:
    return UNSEEN not in record.getMessage()


@contextmanager
def faults_told(server: Server | None) -> Iterator[None]:
    """Tell what a server does not do. Raises ModelError where it refuses or does not answer, ConfigError for tasks."""
    if server is None:
        yield
        return
    import aiohttp
    import requests

    logging.getLogger("asyncio").addFilter(_seen)
    try:
        yield
    except NotImplementedError as error:
        raise ConfigError(
            f"api chat: a task scores texts ({printable(error)}): take tasks that generate, or api completions"
        ) from error
    except (requests.RequestException, aiohttp.ClientError, TimeoutError, KeyError, TypeError) as error:
        raise ModelError(
            f"server {server.base_url}: no answer that lm-eval can read ({type(error).__name__}: {printable(error)})"
        ) from error
