"""`align data rank`: fills lists up with other models' responses and ranks them with a reward model or any scorer."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from align.cli import evaluation_tables
from align.cli.functions import FunctionVerb
from align.cli.reward_models import RewardFolders, tell_reading
from align.cli.unused import KEEP_COLUMNS, Unused, without
from align.data.augment import Expansion, Generations, by_prompt
from align.data.preference_file import PreferenceFile
from align.data.row_validation import prompt_id
from align.data.source import Report
from align.data.telling import warning
from align.errors import ConfigError, DataError
from align.files import atomic_file
from align.records import Beside, Example
from align.rewards.named_rewards import Tokens, limits
from align.rewards.scorers import RewardFolder, Scorer
from align.strict_json import json_text
from align.workers.ray_settings import RayWorkers

UNUSED = (
    KEEP_COLUMNS,
    Unused(("plan", "order"), without("add"), "belongs to --add: name files of generations, or leave it out"),
    Unused(("ray",), without("rewards"), "belongs to --rewards: set RewardFolder's own, or leave it out"),
    Unused(("reward_tokens",), without("rewards"), "belongs to --rewards: set the scorer's own, or leave it out"),
)


def rank(  # noqa: PLR0913  the signature is the command line
    data: str,
    out: str,
    rewards: RewardFolders | None = None,
    *,
    scorer: Scorer | None = None,
    keep_columns: list[str] | None = None,
    add: dict[str, str] | None = None,
    plan: list[str] | None = None,
    order: Literal["given", "random"] = "given",
    length: int = 5,
    attributes: dict[str, float] | None = None,
    reward_tokens: Tokens = None,
    ray: RayWorkers | None = None,
) -> None:
    """Write ranked lists as JSONL with the columns prompt, completions, scores, origins and ranks, best first.

    `PreferenceFileDataModule` reads them. `ranks` is the order the data had, null for added responses; train with
    `model.ranking_source: human` to keep it where nothing was added.

    Args:
        data: Pairs, lists or prompts in any of the conventions `PreferenceFileDataModule` reads; of a folder the
            training split.
        out: JSONL file to write.
        rewards: The reward model folder, `--rewards DIR` or by a name of its own.
        scorer: In place of `rewards`: LanguageModelScorer, RubricScorer, YesProbability, FunctionRewards ...
        keep_columns: Columns of the data that reward functions read, such as `[answer]`.
        add: Files of generations by a name for each, as `align generate` writes them (`--add.weak FILE`).
        plan: The names in `add` in the order they are taken, some perhaps several times; null takes each once.
        order: Take the plan as it stands, or shuffled for every record.
        length: Responses of a list, at most.
        attributes: Weights of the reward model's outputs, or of the scorer's; null takes the first.
        reward_tokens: Longest dialogue the reward model reads whole; null takes that of its training, or its context.
        ray: Workers on a Ray cluster that hold the reward model, to equal scores.
    """
    names = list(add or {}) if plan is None else plan
    if unknown := [name for name in names if name not in (add or {})]:
        raise ConfigError(f"plan names {unknown[0]!r}, which --add does not have (there: {', '.join(add or {})})")
    expansion = Expansion(length, tuple(names), order)
    ranker = _scorer(rewards, scorer, reward_tokens, ray)
    weights = _weights(attributes, ranker.attributes, "scorer" if scorer else "reward model")
    report, added = Report(), Report()
    examples = _plain(PreferenceFile(data, keep_columns=keep_columns or ()).read("train", report), report)
    report.kept = len(examples)
    generations = {name: by_prompt(PreferenceFile(path).read("train", Report())) for name, path in (add or {}).items()}
    lists = [expansion.expand(example, generations, added) for example in examples]
    ranker.check_examples(lists)
    scores = ranker.score_examples([e for e in lists for _ in e.responses], [t for e in lists for t in e.responses])
    picked = scores[:, [name in weights for name in ranker.attributes]]
    values = iter((picked @ scores.new_tensor([weights[n] for n in ranker.attributes if n in weights])).tolist())
    rows = [
        _row(known, full, [next(values) for _ in full.responses], added)
        for known, full in zip(examples, lists, strict=True)
    ]
    print(f"data: {report}")
    if isinstance(ranker, RewardFolder):
        tell_reading({ranker.path: ranker.oracle})
    if told := warning(report):
        print(f"WARNING data: {told}", file=sys.stderr)
    _tell_sources(generations, {prompt_id(example.messages) for example in examples}, added)
    if told_by := ranker.report():
        print(f"scorer: {json_text(told_by)}")
    _write(Path(out), [row for row in rows if len(row["completions"]) > 1])
    _tell_sizes(out, [len(row["completions"]) for row in rows])


def _scorer(rewards: RewardFolders | None, scorer: Scorer | None, tokens: Tokens, workers: RayWorkers | None) -> Scorer:
    """Return what ranks. Raises ConfigError where both or neither are named, or a key is missing."""
    if (rewards is None) == (scorer is None):
        given = "both" if rewards else "neither"
        raise ConfigError(f"name --rewards DIR or --scorer CLASS, one of the two, got {given}")
    found = scorer or _folder(rewards or [], tokens, workers)
    found.ready()
    return found


def _folder(rewards: RewardFolders, tokens: Tokens, workers: RayWorkers | None) -> RewardFolder:
    if len(rewards) != 1:
        raise ConfigError(f"rewards: one model ranks, got {len(rewards)}: --scorer RewardEnsemble takes several")
    path = next(iter(rewards.values())) if isinstance(rewards, dict) else rewards[0]
    [limit] = limits([evaluation_tables.name(one) for one in rewards], tokens)
    return RewardFolder(path, limit, workers)


def _plain(examples: Sequence[Example], report: Report) -> list[Example]:
    """Return the examples whose responses are texts to one prompt; a list holds nothing else."""
    for example in examples:
        if example.answers or example.contexts:
            report.drop("response is more than a text to a shared prompt", example.id)
    return [e for e in examples if not (e.answers or e.contexts)]


def _weights(attributes: dict[str, float] | None, known: Sequence[str], kind: str) -> dict[str, float]:
    weights = {known[0]: 1.0} if attributes is None else attributes
    if unknown := [name for name in weights if name not in known]:
        raise ConfigError(f"attributes names {unknown[0]!r}, the {kind} has {', '.join(known)}")
    return weights


def _row(known: Example, full: Example, rewards: list[float], report: Report) -> dict[str, Any]:
    order = sorted((i for i, r in enumerate(rewards) if not math.isnan(r)), key=lambda i: -rewards[i])
    if len(order) < len(rewards):
        report.drop("response without a score", known.id)
    return {
        "id": known.id,
        "prompt": [message.as_turn() for message in known.messages],
        **Beside.of(known.tools).columns,
        "completions": [full.responses[i] for i in order],
        "scores": [rewards[i] for i in order],
        "origins": [full.origins[i] for i in order],
        "ranks": [known.ranks[i] if i < len(known.ranks) else None for i in order],
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        raise DataError("no list of at least two responses: nothing was written")
    with atomic_file(path) as part:
        part.write_text("".join(json_text(row) + "\n" for row in rows), encoding="utf-8")


def _tell_sources(generations: Generations, prompts: set[str], added: Report) -> None:
    for name, found in generations.items():
        unmatched = len(set(found) - prompts)
        print(f"{name}: generations for {len(found)} prompts, {unmatched} of them not in the data")
    for reason, count in added.dropped.most_common():
        print(f"left out: {count} {reason} ({', '.join(added.ids[reason])}{' …' if count > 5 else ''})")


def _tell_sizes(out: str, sizes: list[int]) -> None:
    counts = ", ".join(f"{sizes.count(n)} of {n}" for n in sorted(set(sizes)))
    print(f"{out}: {sum(n > 1 for n in sizes)} lists written (by responses: {counts})")


VERB = FunctionVerb(rank, unused=UNUSED)
