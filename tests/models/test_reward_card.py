"""The lines of a reward model's card score a dialogue as align does, whatever its chat template ends with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from align.cli.main import main
from align.records import Message
from align.rewards.scorers import RewardModelScorer
from tests.test_configs import CPU
from tests.tiny import save_tiny

TEMPLATES = {
    "a line break after the end": "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}",
    "the end": "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}",
    "no end": None,
}
SAID = {
    "a line break after the end": "writes more",
    "the end": "ends a dialogue",
    "no end": "does not write",
}
DIALOGUES: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On the mat."}],
    [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "No more."},
    ],
]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_lines_of_a_card_score_as_align_does(kind: str, pairs_file: Path, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", template=TEMPLATES[kind])
    run = ["fit", "-c", "reward_model", "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", pairs_file]
    run += ["--model.backbone.path", base, "--trainer.max_steps", 2, "--data.batching.groups", 8]
    run += ["--model.optimizer.learning_rate", 0.01, "--trainer.default_root_dir", tmp_path / "run"]
    assert main([str(word) for word in run]) == 0
    folder = tmp_path / "run" / "model"
    card = (folder / "README.md").read_text()
    (section,) = re.findall(r"## Scoring without align\n(.*?```python\n.*?```)", card, re.DOTALL)
    assert SAID[kind] in section
    (lines,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "tokenizer": AutoTokenizer.from_pretrained(folder)}
    names["model"] = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scorer = RewardModelScorer(str(folder))
    for dialogue in DIALOGUES:
        *prompt, last = dialogue
        with torch.no_grad():
            exec(compile(lines, "README.md", "exec"), names | {"messages": dialogue}, found := {})
        ours = scorer.score([[Message(m["role"], m["content"]) for m in prompt]], [last["content"]])
        assert float(found["rewards"]) == pytest.approx(float(ours[0][0]), rel=1e-5)
