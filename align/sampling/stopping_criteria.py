"""When a row has ended: an EOS token, a stop string, or its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.sampling.generation import Completion, Finish


class StopCriteria:
    """Tells of growing token lists whether they have ended, and turns them into text."""

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.eos_ids, self.stop = tokenizer, list(eos_ids), tuple(stop)
        self._closing: dict[int, bool] = {}

    def reason(self, ids: list[int], limit: int) -> Finish | None:
        """Return why a row ends with its last token, None when it goes on."""
        if ids[-1] in self.eos_ids:
            return "eos"
        if self.stop and self._may_close(ids[-1]) and self._cut(self._decode(ids)) is not None:
            return "stop"
        return "length" if len(ids) >= limit else None

    def completion(self, ids: list[int], finish: Finish) -> Completion:
        """Return a row as text, cut at the first stop string."""
        text = self._decode(ids)
        return Completion(ids, text[: self._cut(text)], finish)

    def of_text(self, text: str, finish: Finish) -> Completion:
        """Return the completion for a text another program wrote, which may have left out what ended it."""
        if (cut := self._cut(text)) is not None:  # a server may leave the stop string in, and calls it an end
            text, finish = text[:cut], "stop"
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Completion([*ids, self.eos_ids[0]] if finish == "eos" else ids, text, finish)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _cut(self, text: str) -> int | None:
        return min((place for mark in self.stop if (place := text.find(mark)) >= 0), default=None)

    def _may_close(self, token: int) -> bool:
        """Tell whether a token can complete a stop string, so that rows need not be decoded at every step."""
        if token not in self._closing:
            text = self.tokenizer.decode([token])
            last = {mark.rstrip()[-1:] for mark in self.stop}
            whole = "\ufffd" not in text and "" not in last and all(m == m.rstrip() for m in self.stop)
            self._closing[token] = not whole or any(mark in text for mark in last)
        return self._closing[token]
