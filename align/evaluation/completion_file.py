"""Responses of one model kept in a file, under a name that tells everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from align.errors import StoreError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.files import atomic_file
from align.models.backbone import Backbone
from align.models.folder_checks import folder_hash, local_folder
from align.strict_json import json_text


class CompletionFile:
    """The responses of one model to one prompt set under one setting, in a file named by a hash of all three."""

    def __init__(
        self, folder: Path, backbone: Backbone, prompts: Sequence[EvaluationPrompt], settings: dict[str, Any]
    ) -> None:
        place = local_folder(backbone.path)
        weights = backbone.revision if place is None else folder_hash(place)
        loaded = asdict(replace(backbone, check=True))  # a check changes no response
        parts = [loaded, weights, [(p.messages, p.tools) for p in prompts], settings]
        name = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.path, self.prompts = folder / "completions" / f"{name}.jsonl", prompts

    def read(self) -> list[EvaluatedCompletion] | None:
        """Return the responses, None where there are none yet."""
        if not self.path.exists():
            return None
        rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [EvaluatedCompletion(r["index"], r["completion"], r["ids"], r["finished"], r["cut"]) for r in rows]

    def write(self, completions: Sequence[EvaluatedCompletion]) -> None:
        """Write the responses, whole or not at all."""
        try:
            with atomic_file(self.path) as part, part.open("w", encoding="utf-8") as file:
                for found in completions:
                    print(json_text(self._row(found), ascii_only=True), file=file)
        except OSError as error:
            raise StoreError(f"completions not written: {self.path} ({error.strerror})") from error

    def _row(self, found: EvaluatedCompletion) -> dict[str, Any]:
        prompt = self.prompts[found.prompt]
        return {
            "index": found.prompt,
            "subset": prompt.subset,
            "prompt": [m.as_turn() for m in prompt.messages],
            "completion": found.text,
            "finished": found.finished,
            "cut": found.cut,
            "ids": found.ids,
        }
