"""One response beside its prompt: where the prompt ends in tokens, which tokens count, and the group they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from align.encoding.dialogue_spans import Span
from align.encoding.rendering import Rendered, RowRefused
from align.encoding.truncation import Fit
from align.records import EncodedGroup, Example


class EncodedCandidate(NamedTuple):
    """A response, its prompt, and their tokens once they are known."""

    rendered: Rendered
    spans: tuple[Span, ...] = ()
    """Characters that are scored; none where the whole response is."""
    encoding: Any = None

    @property
    def text(self) -> str:
        """Return prompt and response."""
        return self.rendered.prompt + self.rendered.response


@dataclass(frozen=True)
class Tokens:
    """The tokens of the candidates of a group."""

    prompts: list[list[int]]
    responses: list[list[int]]
    weights: list[list[float]]
    """Of each response token; empty where all count 1."""

    @property
    def length(self) -> int:
        """Return the length of the longest prompt with its response."""
        return max(len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True))

    @property
    def longest_prompt(self) -> int:
        """Return the length of the longest prompt."""
        return max(map(len, self.prompts))

    def group(
        self, example: Example, limits: Fit, *, instructed: list[list[int]], notes: set[str], length: int
    ) -> EncodedGroup:
        """Return the group with its responses cut. Raises RowRefused where the cut leaves nothing to learn."""
        cut = [r[: limits.response] for r in self.responses]
        truncated = [len(r) > limits.response for r in self.responses]
        weights = [w[: limits.response] for w in self.weights] if any(map(_uneven, self.weights)) else []
        if weights and not all(map(any, weights)):
            raise RowRefused("no scored token within the limit")
        ranks = list(example.ranks) or [0] * len(cut)
        own = self.prompts if any(p != self.prompts[0] for p in self.prompts) else []
        first: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        alike = cut if len(set(map(len, cut))) < len(cut) else []  # those of different lengths are not
        for prompt, response, rank in zip(own or [[]] * len(alike), alike, ranks, strict=False):
            if first.setdefault((tuple(prompt), tuple(response)), rank) != rank:
                raise RowRefused(f"identical {'after truncation' if length > self.within(limits) else 'in tokens'}")
        return EncodedGroup(
            id=example.id,
            prompt_ids=self.prompts[0],
            response_ids=cut,
            ranks=ranks,
            scores=[list(s) for s in example.scores] or [[] for _ in cut],
            weight=example.weight,
            truncated=truncated,
            instructed_ids=instructed,
            own_prompt_ids=own,
            response_weights=weights,
            length=length,
            notes=sorted(notes),
        )

    def within(self, limits: Fit) -> int:
        """Return the length of the longest prompt with its response once the responses are cut."""
        pairs = zip(self.prompts, self.responses, strict=True)
        return max(len(p) + min(len(r), limits.response) for p, r in pairs)


def boundaries(candidates: Sequence[EncodedCandidate]) -> list[int]:
    """Return how many leading ids of each candidate are its prompt: ids that end inside the prompt's text.

    A token that straddles the boundary belongs to the response. Candidates with one prompt share all of its ids.
    """
    ends = [_tokens_before(c.encoding, c.rendered) for c in candidates]
    if len({c.rendered.prompt for c in candidates}) > 1:
        return ends
    first, shared = candidates[0].encoding.ids, min(ends)
    for other in candidates[1:]:
        ids = other.encoding.ids
        if ids[:shared] == first[:shared]:
            continue
        shared = next((i for i in range(shared) if ids[i] != first[i]), shared)
    return [shared] * len(candidates)


def weights_of(candidate: EncodedCandidate, boundary: int) -> list[float]:
    """Return how much each response token counts, the end of the turn included; nothing where all count 1.

    A token belongs to the span of its first character that is no white space: ` Yes` behind `ASSISTANT: ` is the
    answer's.
    """
    if not candidate.spans:
        return []
    text = candidate.text
    places = [_shown_from(text, start, end) for start, end in candidate.encoding.offsets[boundary:]] + [len(text)]
    return [next((s.weight for s in candidate.spans if s.start <= p < s.end), 0.0) for p in places]


def _shown_from(text: str, start: int, end: int) -> int:
    """Return where a token's first character that is no white space stands, its start where it has none."""
    if start == end or not text[start].isspace():
        return start
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()) if piece.strip() else start


def _uneven(weights: Sequence[float]) -> bool:
    return any(w != 1 for w in weights)


def _tokens_before(encoding: Any, rendered: Rendered) -> int:
    """Return the index of the token that holds the first character after the prompt (a character may have no token)."""
    start = len(rendered.prompt)
    for character in range(start, start + len(rendered.response)):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return len(encoding.ids)


def drawn_group(example: Example, prompts: list[list[int]], eos_id: int, most: int) -> EncodedGroup:
    """Return a group of responses as a policy drew them, nothing cut; one without tokens is its end alone.

    The first prompt is the group's, others are the same under instructions. Raises RowRefused for a prompt without
    tokens, a prompt for each response, and more than `most` tokens in all.
    """
    if example.contexts:
        raise RowRefused("drawn tokens under several prompts")
    prompt, *instructed = prompts
    responses = [list(ids) or [eos_id] for ids in example.response_ids]
    length = max(map(len, prompts)) + max(map(len, responses))
    if not prompt:
        raise RowRefused("prompt without tokens")
    if length > most:
        raise RowRefused("drawn tokens over the limit" if any(example.response_ids) else "prompt over the limit")
    return EncodedGroup(
        id=example.id,
        prompt_ids=prompt,
        response_ids=responses,
        ranks=list(example.ranks) or [0] * len(responses),
        scores=[list(s) for s in example.scores] or [[] for _ in responses],
        weight=example.weight,
        truncated=[False] * len(responses),
        instructed_ids=instructed,
        length=length,
    )
