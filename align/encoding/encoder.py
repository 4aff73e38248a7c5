"""From examples to token ids: one prompt shared by all candidates, one scored EOS per response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from align.encoding.rendered import special_tokens
from align.encoding.templates import Rendered, RowRefused, Template
from align.encoding.truncation import Truncation, fit
from align.errors import ModelError
from align.records import BOTH, EncodedGroup, Example, Instructions

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
    ) -> None:
        """Describe the encoding.

        Args:
            tokenizer: A fast tokenizer.
            template: How messages become text.
            truncation: Limits; they count the plain prompt, so that an instruction takes no room from the query.
            instructions: Encode every prompt under each of them as well; one query and one response for all.
            context: Longest sequence the model takes; with instructions, all of it.
        """
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer has no fast version: convert it to a tokenizer.json first")
        self.tokenizer, self.template, self.truncation = tokenizer, template, truncation
        self.instructions, self.context = instructions, context
        self._special = special_tokens(tokenizer)

    @property
    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids of a text: tokenizer, template, limits."""
        parts = [
            self.tokenizer.backend_tokenizer.to_str(),
            self.tokenizer.chat_template if self.template.parses_special else "plain",
            repr(self.truncation),
            repr((self.template.eos_id, self.template.adds_bos, MAX_CHARACTERS)),
            *([] if self.instructions is None else [repr((self.instructions, self.context))]),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def prompt_ids(self, messages: Sequence[Any]) -> list[int]:
        """Return the ids of a prompt alone, as the sampler continues it."""
        return self._with_bos(self._tokenize([self.template.prompt(messages)])[0].ids)

    def encode(self, examples: Sequence[Example]) -> list[EncodedGroup | Dropped]:
        """Encode each example, or say why not. Candidates keep their order."""
        rendered = [self._render(example) for example in examples]
        texts = [r.prompt + r.response for rows in rendered if isinstance(rows, list) for r in rows]
        encodings = iter(self._tokenize(texts))
        results: list[EncodedGroup | Dropped] = []
        for example, rows in zip(examples, rendered, strict=True):
            if isinstance(rows, Dropped):
                results.append(rows)
            else:
                results.append(self._group(example, rows, [next(encodings) for _ in rows]))
        return results

    def _render(self, example: Example) -> list[Rendered] | Dropped:
        contents = [m.content for m in example.messages] + list(example.responses)
        if sum(map(len, contents)) > MAX_CHARACTERS:
            return Dropped(example.id, f"text over {MAX_CHARACTERS:,} characters")
        if self.template.parses_special and any(self._special.search(c) for c in contents):
            return Dropped(example.id, "special token typed in the text")
        try:
            return [self.template.render(example.messages, response) for response in example.responses]
        except RowRefused as refusal:
            return Dropped(example.id, str(refusal))

    def _tokenize(self, texts: list[str]) -> list[Any]:
        if not texts:
            return []
        plain = not self.template.parses_special  # then special tokens typed in the text are ordinary characters
        batch = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=plain, verbose=False)
        return list(batch.encodings)

    def _with_bos(self, ids: list[int]) -> list[int]:
        return [self.tokenizer.bos_token_id, *ids] if self.template.adds_bos else list(ids)

    def _group(self, example: Example, rendered: list[Rendered], encodings: list[Any]) -> EncodedGroup | Dropped:
        boundary = _shared_prompt(encodings, rendered)
        prompt = self._with_bos(encodings[0].ids[:boundary])
        responses = [[*e.ids[boundary:], self.template.eos_id] for e in encodings]
        if not prompt:
            return Dropped(example.id, "prompt without tokens")
        try:
            instructed = self._instructed(example, encodings[0].ids[boundary:])
            limits = fit(self._beside(prompt, instructed), len(prompt), max(map(len, responses)))
        except RowRefused as refusal:
            return Dropped(example.id, str(refusal))
        if limits.dropped:
            return Dropped(example.id, limits.dropped)
        if limits.prompt < len(prompt):
            shorter = _without_oldest_exchange(example) if self.truncation.at_turn else None
            if shorter is None and instructed:  # cutting ids would cut the instruction
                shorter = self._without_start(example, len(prompt) - limits.prompt)
            if shorter is not None:
                return self.encode([shorter])[0]
            if instructed:
                return Dropped(example.id, "no room for the query beside the response")
            prompt = _cut_left(prompt, limits.prompt, keep_first=prompt[0] == self.tokenizer.bos_token_id)
        cut = [r[: limits.response] for r in responses]
        truncated = [len(r) > limits.response for r in responses]
        ranks = list(example.ranks) or [0] * len(cut)
        scores = [list(s) for s in example.scores] or [[] for _ in cut]
        return EncodedGroup(example.id, prompt, cut, ranks, scores, example.weight, truncated, instructed)

    def _instructed(self, example: Example, response: list[int]) -> list[list[int]]:
        """Return the prompt under each instruction, none without instructions; the response keeps its ids."""
        if self.instructions is None:
            return []
        asked = [self.instructions.apply(example.messages, which) for which in BOTH]
        rendered = [self.template.render(messages, example.responses[0]) for messages in asked]
        found = [e.ids for e in self._tokenize([r.prompt + r.response for r in rendered])]
        if any(ids[len(ids) - len(response) :] != response for ids in found):
            raise RowRefused("response tokenised otherwise under an instruction")
        return [self._with_bos(ids[: len(ids) - len(response)]) for ids in found]

    def _beside(self, prompt: list[int], instructed: list[list[int]]) -> Truncation:
        """Return the limits that leave room for the longest instruction."""
        longest = self.context - max((len(ids) - len(prompt) for ids in instructed), default=0)
        if longest >= self.truncation.max_total:
            return self.truncation
        if longest < 2:
            raise RowRefused(f"instruction does not fit the model's context of {self.context} tokens")
        limit = self.truncation.max_prompt
        return replace(self.truncation, max_prompt=limit and min(limit, max(longest // 2, 1)), max_total=longest)

    def _without_start(self, example: Example, excess: int) -> Example | None:
        """Return the example without the first tokens of its first user turn, None when none would be left."""
        first = next(i for i, m in enumerate(example.messages) if m.role == "user")
        turn = example.messages[first]
        offsets = self._tokenize([turn.content])[0].offsets
        if excess >= len(offsets):
            return None
        kept = turn.content[max(offsets[excess][0], 1) :].lstrip()
        messages = (*example.messages[:first], turn._replace(content=kept), *example.messages[first + 1 :])
        return replace(example, messages=messages) if kept else None


def _shared_prompt(encodings: list[Any], rendered: list[Rendered]) -> int:
    """Return how many leading ids all candidates share and that end inside the prompt text.

    A token that straddles the boundary belongs to the response.
    """
    boundary = min(_tokens_before(e, r) for e, r in zip(encodings, rendered, strict=True))
    first = encodings[0].ids
    for other in encodings[1:]:
        ids = other.ids
        boundary = next((i for i in range(boundary) if ids[i] != first[i]), boundary)
    return boundary


def _tokens_before(encoding: Any, rendered: Rendered) -> int:
    """Return the index of the token that holds the first character after the prompt (a character may have no token)."""
    start = len(rendered.prompt)
    for character in range(start, start + len(rendered.response)):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return len(encoding.ids)


def _cut_left(prompt: list[int], length: int, *, keep_first: bool) -> list[int]:
    if keep_first and length > 1:
        return [prompt[0], *prompt[len(prompt) - length + 1 :]]
    return prompt[len(prompt) - length :]


def _without_oldest_exchange(example: Example) -> Example | None:
    """Return the example without its first user turn and what answered it, or None when one user turn is left."""
    system = [m for m in example.messages if m.role == "system"]
    turns = [m for m in example.messages if m.role != "system"]
    starts = [i for i, m in enumerate(turns) if m.role == "user"]
    return replace(example, messages=tuple(system + turns[starts[1] :])) if len(starts) > 1 else None
