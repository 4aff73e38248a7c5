"""The demo: makes a small pair file, then runs SFT, a reward model and DPO on it with the real commands.

`make demo` runs it on a fresh machine; everything it writes is under runs/demo.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from align.cli.main import main

ROOT = Path(__file__).parents[2]
RUN = ROOT / "runs" / "demo"
SOUNDS = {
    **{"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "oink", "owl": "hoot"},
    **{
        "crow": "caw",
        "frog": "croak",
        "horse": "neigh",
        "bee": "buzz",
        "snake": "hiss",
        "lion": "roar",
        "mouse": "squeak",
    },
}
QUESTIONS = (
    "What does the {} say?",
    "Tell me the sound of a {}.",
    "How does a {} sound?",
    "Which noise does the {} make?",
)
POLITE, RUDE = ("Gladly! ", "Of course. ", "Sure: "), ("Who cares. ", "Look it up. ", "Again? ")


def write_pairs(path: Path, count: int, seed: int) -> None:
    """Write pairs whose chosen answer is right and polite, and whose rejected one is wrong, rude or both."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        animal, sound = draw.choice(list(SOUNDS.items()))
        wrong = draw.choice([s for s in SOUNDS.values() if s != sound])
        manners, said = draw.choice([(POLITE, wrong), (RUDE, sound), (RUDE, wrong)])
        good = f"{draw.choice(POLITE)}The {animal} says {sound}."
        bad = f"{draw.choice(manners)}The {animal} says {said}."
        rows.append({"prompt": draw.choice(QUESTIONS).format(animal), "chosen": good, "rejected": bad})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def align(*words: str) -> None:
    """Run one command of the program and stop where it fails."""
    print(f"\n$ align {' '.join(words)}", flush=True)
    if code := main(list(words)):
        sys.exit(code)


def fit(method: str, model: Path, run: str, rate: str, *more: str) -> None:
    """Fit a method on the pairs."""
    align(
        *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml")),
        *("-c", str(ROOT / "configs" / "trainer" / "cpu.yaml"), "--data", "PreferenceFileDataModule"),
        *("--data.path", str(RUN / "pairs.jsonl"), "--model.backbone.path", str(model)),
        *("--model.optimizer.learning_rate", rate, "--trainer.default_root_dir", str(RUN / run), *more),
    )


def ends(run: str, tag: str) -> tuple[float, float]:
    """Return the first and the last logged value of a metric."""
    events = EventAccumulator(str(RUN / run))
    events.Reload()
    values = [event.value for event in events.Scalars(tag)]
    return values[0], values[-1]


def completions(run: str) -> list[dict]:
    """Sample answers of a run's model."""
    asked = json.dumps([QUESTIONS[0].format(animal) for animal in SOUNDS])
    out = RUN / f"{run}.jsonl"
    drawn = ("--generation.max_new_tokens", "48", "--generation.num_samples", "8")
    align("generate", "--model.path", str(RUN / run / "model"), "--prompt", asked, *drawn, "--out", str(out))
    return [json.loads(line) for line in out.read_text().splitlines()]


def share(rows: list[dict]) -> float:
    """Return the share of answers that are right and polite."""
    animals = [next(a for a in SOUNDS if f" {a} " in row["prompt"][0]["content"].replace("?", " ")) for row in rows]
    right = [
        any(row["completion"] == f"{p}The {a} says {SOUNDS[a]}." for p in POLITE)
        for row, a in zip(rows, animals, strict=True)
    ]
    return sum(right) / len(right)


def run() -> None:
    """Run the demo and print what came of it."""
    torch.set_num_threads(2)
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
    write_pairs(RUN / "pairs.jsonl", 2000, seed=0)
    align("init-model", "--tokenizer", "bytes", "--out", str(RUN / "base"), "--max_positions", "256")
    every_answer = ("--data.view", "Singles", "--data.view.responses", "all")
    fit(
        "sft", RUN / "base", "sft", "3e-3", *every_answer, "--trainer.max_epochs", "3", "--data.batching.tokens", "1500"
    )
    fit("reward_model", RUN / "sft" / "model", "rm", "5e-4")
    fit("dpo", RUN / "sft" / "model", "dpo", "6e-5", "--trainer.max_epochs", "2")
    before, after = completions("sft"), completions("dpo")
    print(f"\n{'':34}{'start':>10}{'end':>10}")
    for name, (first, last) in {
        "SFT loss, nats per token": ends("sft", "train/loss"),
        "reward model loss": ends("rm", "train/loss"),
        "DPO loss": ends("dpo", "train/loss"),
        "DPO reward margin": ends("dpo", "train/rewards/margins"),
        "right and polite answers": (share(before), share(after)),
    }.items():
        print(f"{name:34}{first:10.3f}{last:10.3f}")
    print(f"{'reward model accuracy, held out':44}{ends('rm', 'val/accuracy')[1]:10.3f}")
    print(f"{'DPO accuracy, held out':44}{ends('dpo', 'val/rewards/accuracies')[1]:10.3f}")
    for old, new in list(zip(before, after, strict=True))[::8][:5]:
        print(f"\n{old['prompt'][0]['content']}\n  before: {old['completion']}\n  after:  {new['completion']}")
    print(f"\ntensorboard --logdir {RUN.relative_to(ROOT)}; models in {RUN.relative_to(ROOT)}/*/model")


if __name__ == "__main__":
    run()
