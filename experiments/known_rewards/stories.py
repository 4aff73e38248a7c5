"""Stories that the model itself begins: prompts to train, to tune and to measure on, each without its ending.

    python stories.py MODEL FOLDER TRAIN TUNING HELD_OUT

writes `model`, the same model with a chat template that puts nothing around a text, and `train.jsonl`, `tuning.jsonl`,
`held_out.jsonl` (prompt). A prompt is a story without its last 15 to 40 words, cut where a sentence ends.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from align.sampling.generation import Generation
from align.sampling.sampler import sample

NAMES = [
    "Lily",
    "Tom",
    "Ben",
    "Mia",
    "Sam",
    "Anna",
    "Max",
    "Sue",
    "Tim",
    "Lucy",
    "Jack",
    "Sara",
    "Bob",
    "Amy",
    "Leo",
    "Jane",
    "Fin",
    "Kitty",
    "Zoe",
    "Joe",
]
KINDS = ["little girl", "little boy", "cat", "dog", "bird", "bear", "rabbit", "fish", "mouse", "duck"]
OPENINGS = (
    "Once upon a time, there was a {kind} named {name}.",
    "One day, a {kind} named {name} went to the park.",
    "{name} was a {kind} who liked to play outside.",
    "There was once a {kind}. The name of the {kind} was {name}.",
)
LEFT = (15, 40)
"""Words of the ending that a prompt leaves out, at least and at most."""
LONGEST = 360
"""Tokens of a story, its ending included; the model's context is 512."""


def beginning(story: str, draw: random.Random) -> str | None:
    """Return a story without its ending, None where no sentence ends in the right place."""
    words = len(story.split())
    places = [end.end() for end in re.finditer(r"[.!?][\"”]?(?=\s)", story)]
    fitting = [p for p in places if LEFT[0] <= words - len(story[:p].split()) <= LEFT[1]]
    return story[: draw.choice(fitting)] if fitting else None


def main(model_path: Path, folder: Path, sizes: list[int]) -> None:
    """Let the model tell stories, cut them, and write the files; no prompt is in two of them."""
    draw = random.Random(0)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(model_path).eval(),
        AutoTokenizer.from_pretrained(model_path),
    )
    every = [opening.format(kind=kind, name=name) for opening in OPENINGS for kind in KINDS for name in NAMES]
    draw.shuffle(every)
    found: dict[str, None] = {}
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    settings = Generation(max_new_tokens=LONGEST, num_samples=2, temperature=0.8, batch_tokens=65536)
    for first in range(0, len(every), 100):
        openings = every[first : first + 100]
        told = sample(model, tokenizer, [tokenizer(o).input_ids for o in openings], settings, eos_ids=ends)
        cut = [beginning(f"{openings[s.prompt]} {s.text.strip()}", draw) for s in told if s.finished]
        found |= dict.fromkeys(prompt for prompt in cut if prompt)
        if len(found) >= sum(sizes):
            break
    if len(found) < sum(sizes):
        raise SystemExit(f"{len(found)} stories have an end, {sum(sizes)} are asked for: lower the sizes")
    prompts = iter(found)
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in zip(("held_out", "tuning", "train"), reversed(sizes), strict=True):
        rows = [json.dumps({"prompt": next(prompts)}) for _ in range(size)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    tokenizer.chat_template = (Path(__file__).parent / "story.jinja").read_text(encoding="utf-8")
    shutil.copytree(model_path, folder / "model", dirs_exist_ok=True, copy_function=shutil.copyfile)
    tokenizer.save_pretrained(folder / "model")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(size) for size in sys.argv[3:6]])
