"""From examples to token ids: one prompt shared by all candidates, one scored EOS per response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from align.encoding.dialogue_spans import whole_dialogue
from align.encoding.encoded_candidate import EncodedCandidate, Tokens, boundaries, drawn_group, weights_of
from align.encoding.put import Put
from align.encoding.rendered import special_tokens
from align.encoding.rendering import RowRefused, Template
from align.encoding.said import typed
from align.encoding.shortening import fewest_turns, shorter
from align.encoding.truncation import Fit, Truncation, fit
from align.encoding.words import Words
from align.errors import ModelError
from align.records import BOTH, EncodedGroup, Example, Instructions, Message

MAX_CHARACTERS = 1_000_000


class Dropped(NamedTuple):
    """A row that was not encoded, and why."""

    id: str
    reason: str


class Encoder:
    """Renders, tokenises and truncates. Needs a fast tokenizer, whose character offsets find the prompt boundary."""

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        truncation: Truncation,
        *,
        instructions: Instructions | None = None,
        context: int = 10**9,
        scores_turns: bool = False,
        put: Put | None = None,
    ) -> None:
        """Describe the encoding.

        Args:
            tokenizer: A fast tokenizer.
            template: How messages become text.
            truncation: Limits; they count the plain prompt, so that an instruction takes no room from the query.
            instructions: Encode every prompt under each of them as well; one query and one response for all.
            context: Longest sequence the model takes; with instructions, all of it.
            scores_turns: Of an example that is a whole dialogue, score every assistant turn, not the last alone.
            put: What goes into every prompt of an example. It stays whole: what is cut is cut from the prompt itself.
        """
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer has no fast version: convert it to a tokenizer.json first")
        self.tokenizer, self.template, self.truncation = tokenizer, template, truncation
        self.instructions, self.context, self.scores_turns = instructions, context, scores_turns
        self.put = put
        self._special = special_tokens(tokenizer)
        self._words = Words(tokenizer, parses_special=template.parses_special)
        self._turn_end = tokenizer.convert_ids_to_tokens(template.eos_id) if template.parses_special else ""

    @property
    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids of a text: tokenizer, template, limits."""
        parts = [
            self.tokenizer.backend_tokenizer.to_str(),
            self.template.fingerprint,
            repr(self.truncation),
            repr((self.template.eos_id, self.template.adds_bos, MAX_CHARACTERS, self.scores_turns)),
            *([] if self.instructions is None else [repr((self.instructions, self.context))]),
            *([] if self.put is None else [self.put.fingerprint]),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def prompt_ids(self, messages: Sequence[Any], tools: str = "") -> list[int]:
        """Return the ids of a prompt alone, as the sampler continues it."""
        return self._with_bos(self._words.encode([self.template.prompt(messages, tools)])[0].ids)

    def encode(self, examples: Sequence[Example]) -> list[EncodedGroup | Dropped]:
        """Encode each example, or say why not. Candidates keep their order."""
        rendered = [self._render(example) for example in examples]
        encodings = iter(self._words.encode([c.text for rows in rendered if isinstance(rows, list) for c in rows]))
        return [
            self._fitted(example, [EncodedCandidate(*c[:2], next(encodings)) for c in found])
            if isinstance(found, list)
            else found
            for example, found in zip(examples, rendered, strict=True)
        ]

    def _render(self, example: Example) -> list[EncodedCandidate] | EncodedGroup | Dropped:
        prompts, answers = example.contexts or (example.messages,), example.turns
        asked, said = ([text for m in turns for text in typed(m)] for turns in (chain.from_iterable(prompts), answers))
        often = 1 if example.contexts else len(example.responses)
        if often * sum(map(len, asked)) + sum(map(len, said)) > MAX_CHARACTERS:
            return Dropped(example.id, f"text over {MAX_CHARACTERS:,} characters")
        if self.template.parses_special and any(map(self._special.search, (*asked, *said))):
            return Dropped(example.id, "special token typed in the text")
        try:
            if example.response_ids:
                both = [] if self.instructions is None else [self.instructions.apply(example.messages, w) for w in BOTH]
                drawn_under = [self.prompt_ids(m, example.tools) for m in (self._context(example, 0), *both)]
                return drawn_group(example, drawn_under, self.template.eos_id, self.truncation.max_total)
            return [self._candidate(example, place, answer) for place, answer in enumerate(answers)]
        except RowRefused as refusal:
            return Dropped(example.id, str(refusal))

    def _candidate(self, example: Example, place: int, answer: Message) -> EncodedCandidate:
        messages = self._context(example, place)
        if self.scores_turns and example.whole:
            return EncodedCandidate(*whole_dialogue(self.template, messages, answer, example.tools, self._turn_end))
        if answer.weight == 0:
            raise RowRefused("response with weight 0")
        return EncodedCandidate(self.template.render(messages, answer, example.tools))

    def _context(self, example: Example, place: int) -> tuple[Message, ...]:
        messages = example.context(place)
        return messages if self.put is None else self.put.apply(messages)

    def _with_bos(self, ids: list[int]) -> list[int]:
        return [self.tokenizer.bos_token_id, *ids] if self.template.adds_bos else list(ids)

    def _fitted(self, example: Example, candidates: list[EncodedCandidate]) -> EncodedGroup | Dropped:
        """Return the group within the limits; a dialogue that is too long is made shorter and rendered again."""
        length = 0
        try:
            while True:
                tokens = self._tokens(candidates)
                length = length or tokens.length
                instructed = self._instructed(example, tokens.responses[0][:-1])
                limits = self._limits(example, tokens, instructed)
                if tokens.longest_prompt <= limits.prompt:
                    break
                if not (self.truncation.at_turn or instructed or self.put):  # cutting ids would cut an instruction
                    tokens = replace(tokens, prompts=[self._cut_left(p, limits.prompt) for p in tokens.prompts])
                    break
                example = shorter(example, tokens, limits.prompt, self.truncation, self._words.encode)
                candidates = self._again(example)
            notes = {note for c in candidates for note in c.rendered.notes}
            return tokens.group(example, limits, instructed=instructed, notes=notes, length=length)
        except RowRefused as refusal:
            return Dropped(example.id, str(refusal))

    def _again(self, example: Example) -> list[EncodedCandidate]:
        if isinstance(rendered := self._render(example), Dropped):
            raise RowRefused(rendered.reason)
        assert isinstance(rendered, list)
        encodings = self._words.encode([c.text for c in rendered])
        return [c._replace(encoding=e) for c, e in zip(rendered, encodings, strict=True)]

    def _tokens(self, candidates: list[EncodedCandidate]) -> Tokens:
        ends = boundaries(candidates)
        pairs = list(zip(candidates, ends, strict=True))
        prompts = [self._with_bos(c.encoding.ids[:end]) for c, end in pairs]
        if not all(prompts):
            raise RowRefused("prompt without tokens")
        responses = [[*c.encoding.ids[end:], self.template.eos_id] for c, end in pairs]
        return Tokens(prompts, responses, [weights_of(c, end) for c, end in pairs])

    def _instructed(self, example: Example, response: list[int]) -> list[list[int]]:
        """Return the prompt under each instruction, none without instructions; the response keeps its ids."""
        if self.instructions is None:
            return []
        if example.contexts:
            raise RowRefused("a prompt per response, where all are put under instructions")
        asked = [self.instructions.apply(example.messages, which) for which in BOTH]
        rendered = [self.template.render(messages, example.answer(0), example.tools) for messages in asked]
        found = [e.ids for e in self._words.encode([r.prompt + r.response for r in rendered])]
        if any(ids[len(ids) - len(response) :] != response for ids in found):
            raise RowRefused("response tokenised otherwise under an instruction")
        return [self._with_bos(ids[: len(ids) - len(response)]) for ids in found]

    def _limits(self, example: Example, tokens: Tokens, instructed: list[list[int]]) -> Fit:
        """Return what the group may keep; raises RowRefused where that is nothing."""
        rule = self._beside(tokens.longest_prompt, instructed)
        last = not self.truncation.at_turn or all(map(fewest_turns, example.contexts or (example.messages,)))
        limits = fit(rule, tokens.longest_prompt, max(map(len, tokens.responses)), keeps_prompt=last)
        if limits.dropped:
            raise RowRefused(limits.dropped)
        return limits

    def _beside(self, prompt: int, instructed: list[list[int]]) -> Truncation:
        """Return the limits that leave room for the longest instruction."""
        longest = self.context - max((len(ids) - prompt for ids in instructed), default=0)
        if longest >= self.truncation.max_total:
            return self.truncation
        if longest < 2:
            raise RowRefused(f"instruction does not fit the model's context of {self.context} tokens")
        limit = self.truncation.max_prompt
        return replace(self.truncation, max_prompt=limit and min(limit, max(longest // 2, 1)), max_total=longest)

    def _cut_left(self, prompt: list[int], length: int) -> list[int]:
        if prompt[0] == self.tokenizer.bos_token_id and 1 < length < len(prompt):
            return [prompt[0], *prompt[len(prompt) - length + 1 :]]
        return prompt[max(len(prompt) - length, 0) :]
