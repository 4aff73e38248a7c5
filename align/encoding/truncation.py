"""What gives way when a prompt and its responses are too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from align.errors import ConfigError
from align.records import TruncationPreset


@dataclass(frozen=True)
class Truncation:
    """Limits in tokens. Prompts are cut on the left, responses on the right and then without EOS."""

    max_prompt: int | None = None
    """Longest prompt; null leaves room for the longest response, and keeps the last turn before a response."""
    max_total: int = 1024
    """Longest prompt plus response."""
    long_prompt: Literal["cut", "cut_if_needed", "drop"] = "cut_if_needed"
    """`cut` to max_prompt, `cut_if_needed` only when prompt and response exceed max_total, or `drop` the row."""
    long_response: Literal["cut", "drop"] = "cut"
    """`cut` a response that does not fit beside its prompt, or `drop` the row."""
    at_turn: bool = True
    """Drop whole turns, then the start of the last one's text; false cuts by tokens, through a template's markup."""
    max_response: int | None = None
    """Longest response; null allows what the prompt leaves."""

    @property
    def cuts_short(self) -> bool:
        """Tell whether something may be cut though all of it would fit."""
        return self.long_prompt == "cut" or self.max_response is not None

    def __post_init__(self) -> None:
        if self.max_total < 2:
            raise ConfigError(f"truncation.max_total must be at least 2 tokens, got {self.max_total}")
        if self.max_prompt is not None and not 1 <= self.max_prompt < self.max_total:
            raise ConfigError(
                f"truncation.max_prompt must lie in 1..max_total-1, got {self.max_prompt} of {self.max_total}"
            )
        if self.max_response is not None and self.max_response < 1:
            raise ConfigError(f"truncation.max_response must be at least 1 token, got {self.max_response}")
        if self.long_prompt != "cut_if_needed" and self.max_prompt is None:
            raise ConfigError(f"truncation.long_prompt {self.long_prompt!r} needs truncation.max_prompt")


PRESETS: dict[TruncationPreset, Truncation] = {
    "usual": Truncation(None, 2048, "cut_if_needed", "cut"),
    "sft": Truncation(None, 4096, "cut_if_needed", "cut"),
    "reward": Truncation(None, 2048, "cut_if_needed", "drop"),
    "rahf": Truncation(256, 512, "drop", "cut"),
    "pro": Truncation(384, 512, "cut", "cut"),
    "dpo": Truncation(256, 512, "cut_if_needed", "cut"),
    "rm": Truncation(None, 1024, "cut_if_needed", "drop"),
    "dpa": Truncation(None, 4096, "cut_if_needed", "cut"),
}
"""What methods take (a reward model's responses stay whole); RAHF's paper, PRO's and DPO's released code, reward models
of up to 1024 tokens, DPA's paper."""


class Fit(NamedTuple):
    """How many tokens a group may keep, or why it is dropped."""

    prompt: int = 0
    response: int = 0
    dropped: str = ""


def fit(rule: Truncation, prompt: int, longest: int, *, keeps_prompt: bool = False) -> Fit:
    """Return the limits for a prompt of `prompt` tokens whose longest response has `longest`, EOS included.

    With `keeps_prompt` the prompt has no older turn to lose, and a response that may be cut gives way once the prompt
    is down to three quarters of the whole.
    """
    limit = rule.max_prompt
    longest = min(longest, rule.max_response or longest) if rule.long_response == "cut" else longest
    keep = prompt
    if rule.long_prompt == "drop" and limit is not None and prompt > limit:
        return Fit(dropped=f"prompt longer than {limit} tokens")
    if rule.long_prompt == "cut" and limit is not None:
        keep = min(prompt, limit)
    if rule.long_prompt == "cut_if_needed" and prompt + longest > rule.max_total:
        least = 3 * rule.max_total // 4 if keeps_prompt and rule.long_response == "cut" else 1
        keep = min(prompt, limit if limit is not None else max(rule.max_total - longest, least))
    room = min(rule.max_total - keep, rule.max_response or rule.max_total)
    if room < 1:
        return Fit(dropped="no room left for a response token")
    if rule.long_response == "drop" and longest > room:
        return Fit(dropped=f"response longer than {room} tokens")
    return Fit(keep, room)
