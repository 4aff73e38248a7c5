"""The settings that turn text into tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from align.data.needs import Needs
from align.encoding.encoder import Encoder
from align.encoding.put import Put
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import PRESETS, Truncation
from align.errors import ConfigError
from align.records import MethodLimits, TruncationPreset


@dataclass(frozen=True)
class EncodingConfig:
    """How text becomes tokens, and where the result is kept."""

    template: TemplateName = "auto"
    """`chat`: the tokenizer's template, `plain`: a Human/Assistant transcript, `auto`: chat where there is one; or a
    Jinja file. It stays with the model, in the run and in its folder."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """What the chat template is given beside the dialogue, such as `enable_thinking: false`, a date or `tools`."""
    truncation: TruncationPreset | Truncation | None = None
    """Own limits, a preset, or null for the method's: `model.truncation`, or 2048 tokens (SFT 4096); no more than the
    model's context."""
    cache_dir: str = "runs/cache/tokenised"
    """Tokenised data is kept here and found again by a hash of data, view, tokenizer, template and limits."""
    num_proc: int | None = None
    """Processes that tokenise; null uses every core for large data and one for small."""

    def __post_init__(self) -> None:
        if self.num_proc is not None and self.num_proc < 1:
            raise ConfigError(f"encoding.num_proc must be at least 1, got {self.num_proc}")

    def encoder(self, needs: Needs, put: Put | None = None) -> Encoder:
        """Return the encoder for a module, whose tokenizer from now on carries the template."""
        settings = {**self.chat_template_kwargs, **(put.chat_template_kwargs if put else {})}
        template = make_template(needs.tokenizer, self.template, settings)
        needs.tokenizer.chat_template = template.jinja
        return Encoder(
            needs.tokenizer,
            template,
            self.limits(needs),
            instructions=needs.instructions,
            context=needs.max_positions,
            scores_turns=needs.scores_turns,
            put=put,
        )

    def limits(self, needs: Needs) -> Truncation:
        """Return the limits for a module. Raises ConfigError where those asked for pass the model's context."""
        chosen = self.truncation
        limits = limits_of(chosen or needs.truncation)
        if needs.max_response is not None:
            limits = replace(limits, max_response=needs.max_response)
        if limits.max_total <= needs.max_positions:
            return limits
        if chosen is not None:
            raise ConfigError(
                f"data.encoding.truncation allows {limits.max_total} tokens, the model's context is "
                f"{needs.max_positions}: lower truncation.max_total"
            )
        rank_zero_info(f"data: sequences are limited to the model's context of {needs.max_positions} tokens")
        prompt = None if limits.max_prompt is None else min(limits.max_prompt, needs.max_positions // 2)
        return replace(limits, max_prompt=prompt, max_total=needs.max_positions)


def limits_of(wanted: MethodLimits) -> Truncation:
    """Return limits by their name, or those that are given. Raises ConfigError for what is neither."""
    if isinstance(wanted, Truncation):
        return wanted
    if not isinstance(wanted, str) or wanted not in PRESETS:
        raise ConfigError(
            f"truncation {wanted!r}: expected one of {', '.join(PRESETS)}, or limits of your own: an instance of "
            "align.encoding.truncation.Truncation"
        )
    return PRESETS[wanted]
