"""Servers that sample from a policy, as it is trained or as it lies in a folder: their settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align.errors import ConfigError
from align.sampling.service_key import check_address, read_key

IMPORTANCE_CAP = 2.0
"""Also of samples that servers have drawn where a run goes on without them."""


@dataclass(frozen=True)
class ServerPool:
    """Servers that sample from the policy in the place of this process, the work spread over all that answer.

    vLLM is given a LoRA adapter for every round (start it with `--enable-lora`, a `--max-lora-rank` that fits, and
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment), as SGLang is. Where all weights are trained, those of
    SGLang, and of vLLM with VLLM_SERVER_DEV_MODE=1, are replaced; `transformers serve` loads the folder of every round.
    All read it from the run's folder, which has to be on a disk that they share. A server that does not answer is told
    and its work given to the others; where none answers, the run pauses. `align generate` and `align evaluate` take
    vLLM that was started with the model itself too, and write what others load to the folder of temporary files.
    """

    urls: list[str]
    """Such as [http://node1:8000/v1, http://node2:8000/v1]."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key of all of them; null sends none."""
    concurrency: int = 32
    """Requests to each server at a time."""
    timeout: float = 600.0
    """Seconds for one answer."""
    patience: float = 60.0
    """Seconds after which a server that answers nothing is left out until the next round."""
    most_difference: float = 0.2
    """Mean difference of a server's log-probabilities from ours, in nats a token, above which what it drew is refused:
    another base model, or weights that are not the round's. Rounding to bfloat16 makes some hundredths."""
    importance_cap: float | None = IMPORTANCE_CAP
    """In online RL, the policy's loss of a token is multiplied by the ratio of our probability to the server's, at most
    this (truncated importance sampling, as TRL's `token_truncate`); null corrects nothing."""

    def __post_init__(self) -> None:
        if not self.urls or len(set(self.urls)) < len(self.urls):
            raise ConfigError(f"ServerPool.urls: expected one or more different addresses, got {self.urls}")
        for url in self.urls:
            check_address(url, self.api_key_env, "ServerPool.urls")
        if self.concurrency < 1 or not 0 < self.timeout < math.inf or not 0 < self.patience < math.inf:
            raise ConfigError(
                f"ServerPool: concurrency must be at least 1, timeout and patience positive, got {self.concurrency}, "
                f"{self.timeout:g}, {self.patience:g}"
            )
        if not self.most_difference > 0 or (self.importance_cap is not None and not self.importance_cap > 0):
            raise ConfigError(
                f"ServerPool: most_difference and importance_cap must be positive, got {self.most_difference}, "
                f"{self.importance_cap}"
            )

    def key(self) -> str | None:
        """Return the key. Raises ConfigError where the variable is not set."""
        return read_key(self.api_key_env, "servers")
