"""What the tests of options give to verbs: tiny models, data in small files, steering vectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from align.activations.artefact import VectorNote, save_vectors
from align.annotation.annotation_store import AnnotationStore
from align.annotation.items import Choice
from align.models.condition_file import Conditions, write_condition_file
from align.records.conditions import WeightedRating
from tests.tiny import save_reward_model, save_tiny, write_pairs

TEMPLATE = (
    "{{ '!' if loud else '' }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
OTHER = TEMPLATE.replace("[{{", "<{{").replace("}}]", "}}>").replace("[assistant]", "<assistant>")


def make(folder: Path) -> Path:
    """Write everything into a folder and return it."""
    for name, seed in (("model", 0), ("model2", 1), ("other", 1), ("rated", 0)):
        torch.manual_seed(seed)
        save_tiny(folder / name, template=TEMPLATE, max_position_embeddings=2048, initializer_range=0.6 + 0.2 * seed)
    conditioning = WeightedRating(system="")
    write_condition_file(Conditions(conditioning, "direction", []), folder / "model")
    write_condition_file(Conditions(conditioning, "direction", []), folder / "model2")
    write_condition_file(Conditions(conditioning, "ratings", [(80.0, 20.0), (20.0, 80.0)]), folder / "rated")
    save_tiny(folder / "gpt2", "gpt2")
    for name, seed in (("reward", 0), ("reward2", 1)):
        save_reward_model(folder / name, seed)
    for name, seed in (("two", 2), ("two2", 3)):
        save_reward_model(folder / name, seed, ("helpfulness", "verbosity"))
    (folder / "plain").mkdir()
    shutil.copytree(folder / "model", folder / "plain", dirs_exist_ok=True)
    (folder / "plain" / "conditions.json").unlink()
    (folder / "template.jinja").write_text(OTHER)
    for name, layers in (("vectors", (1, 2)), ("vectors2", (1, 2)), ("deep", (2, 3)), ("deep2", (2, 3))):
        states = {kind: torch.randn(2, 32) for kind in ("mean", "pca")}
        save_vectors(folder / f"{name}.safetensors", states, VectorNote(layers, "good - bad", str(folder / "model")))
    write_pairs(folder / "pairs.jsonl", 4)
    write_pairs(folder / "pairs2.jsonl", 3, seed=5)
    lines(folder / "alpaca.json", [[{"instruction": f"Say {i}.", "dataset": "d"} for i in range(3)]])
    lines(folder / "alpaca2.json", [[{"instruction": f"Ask {i}.", "dataset": "d"} for i in range(3)]])
    for name, first in (("mt.jsonl", 81), ("mt2.jsonl", 90)):
        kinds = ("writing", "writing", "math")
        lines(
            folder / name,
            [{"question_id": first + i, "category": c, "turns": ["Hi", "And?"]} for i, c in enumerate(kinds)],
        )
    return folder


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judge_all(path: Path, number: int) -> None:
    """Judge and rate every item: raters agree on some, call one a tie, and differ on the rest."""
    store = AnnotationStore(path)
    for rater in store.raters():
        for place, item in enumerate(store.items()):
            shown = store.show(rater.id, item.id)
            assert shown is not None
            best = (place + (rater.name == "bob") * place) % 2
            first, second = (shown.order.index(side) for side in (best, 1 - best))
            choice = Choice(None, None) if place == number else Choice(first, second)
            said = {"rating": [1 + place + 2 * side for side in shown.order]}
            store.submit(rater.id, item.id, choice, key=f"{rater.name} {place}", replaces=None, remarks=said)
    store.close()
