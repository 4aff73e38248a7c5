"""`align benchmark rewards`: reward models on published or own benchmark files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from align.cli.evaluation_tables import name, parts_table, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.reward_models import RewardFolders, load_reward_models, tell_reading
from align.data.readers import read_rows
from align.errors import ConfigError
from align.evaluation.reward_benchmark import Kind, RewardBenchmarkItem, Scored, differences, judge_items, summarise
from align.evaluation.reward_benchmark_files import read_items
from align.rewards.named_rewards import Tokens
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.scorers import Direction


def rewards(
    models: RewardFolders,
    data: str,
    *,
    kind: Kind | None = None,
    direction: Direction = Direction(),
    reward_tokens: Tokens = None,
    out: str | None = None,
) -> None:
    """Say how often reward models give the right response the higher reward, by subset and section, with intervals.

    Args:
        models: Reward model folders, ours or any sequence classifier, or folders by name (`--models.NAME DIR`); the
            first is what the others are compared with.
        data: JSONL, JSON, Parquet, CSV or TSV file with `prompt`, `chosen`, `rejected` and `subset` (or `domain`);
            lists of chosen and rejected responses are best of n (RewardBench 2), or n by n (RM-Bench) where both are
            as long and no column counts them.
        kind: What the rows hold; null tells it from the first.
        direction: How several outputs become one reward; the first output by default.
        reward_tokens: Longest dialogue they read whole, for all (2048) or by name, or the last part of a folder's path
            ({rm: 2048}); null takes that of their training, or their context.
        out: JSON file to write; null prints the table alone.
    """
    found, items = read_items(((row.where, row.row) for row in read_rows(Path(data))), kind)
    names = list(dict.fromkeys(models))
    if not names:
        raise ConfigError("models: name at least one reward model folder")
    reward_models = load_reward_models(models if isinstance(models, dict) else names, reward_tokens)
    scored = {path: _score(reward_model, items, found, direction) for path, reward_model in reward_models.items()}
    lines = {path: summarise(found, values) for path, values in scored.items()}
    apart = {path: differences(found, values, scored[names[0]]) for path, values in scored.items() if path != names[0]}
    shown = parts_table(f"{found}, {len(items)} rows: % right (95 % bootstrap over rows)", lines, apart)
    show(shown)
    read = tell_reading(reward_models)
    content = {
        "data": data,
        "kind": found,
        "reading": read,
        "models": {path: [line._asdict() for line in part] for path, part in lines.items()},
        "differences": {path: [line._asdict() for line in part] for path, part in apart.items()},
    }
    write_json(out, content)


def _score(
    reward_model: RewardModelScorer, items: list[RewardBenchmarkItem], kind: Kind, direction: Direction
) -> Scored:
    path = reward_model.backbone.path
    texts = [(item, text) for item in items for text in (*item.correct, *item.incorrect)]
    outputs = reward_model.score([item.prompt for item, _ in texts], [text for _, text in texts]).tolist()
    values = iter([direction.of(reward_model.attributes, row) for row in outputs])
    both = [([next(values) for _ in item.correct], [next(values) for _ in item.incorrect]) for item in items]
    scored = judge_items(kind, items, [right for right, _ in both], [wrong for _, wrong in both])
    if unread := int(np.isnan(scored.values[:, 0]).sum()):
        print(f"{name(path)}: {unread} of {len(scored.values)} rows left out, a response in them is too long to read")
    if unread == len(scored.values):
        raise ConfigError(f"{path}: the model could read none of {unread} rows of the file")
    return scored


VERB = FunctionVerb(rewards)
