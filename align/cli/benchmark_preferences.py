"""`align benchmark preferences`: do policies and reward models order held-out responses as the data does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import short, show, write_json
from align.cli.functions import FunctionVerb
from align.cli.policy_likelihoods import policy_likelihoods
from align.cli.reward_models import load_reward_models
from align.cli.unused import Unused, always, without
from align.data.data_module import PreferenceDataModule
from align.data.drop_report import Report
from align.data.row_validation import prompt_id
from align.data.views import RankedLists
from align.errors import ConfigError, did_you_mean
from align.evaluation.preference_ranking import MEASURES, RankedRow, measure_rows, over_prompts
from align.evaluation.response_likelihoods import Likelihoods
from align.evaluation.statistics import Interval
from align.files import atomic_write_text
from align.records import Example
from align.rewards.scorers import Direction
from align.strict_json import json_text

TRAINING = (
    *("view", "seed", "attributes", "streaming", "encoding.cache_dir", "encoding.num_proc"),
    *("batching.groups", "batching.group_by_length", "batching.num_workers", "batching.shuffle_window"),
)
"""Settings of data that decide steps, or what is kept of them."""
UNUSED = (
    Unused(
        tuple(f"data.{name}" for name in TRAINING) + tuple(f"data.init_args.{name}" for name in TRAINING),
        always,
        "belongs to training: nothing is drawn here, and the responses of a prompt are taken as one list. Leave it out",
    ),
    Unused(
        ("data.encoding", "data.init_args.encoding", "data.batching", "data.init_args.batching"),
        without("policies"),
        "belongs to --policies: a reward model reads and writes dialogues as in its training. Leave it out",
    ),
    Unused(("reference",), without("policies"), "belongs to --policies: name one, or leave it out"),
    Unused(("direction",), without("rewards"), "belongs to --rewards: name a folder, or leave it out"),
)


def preferences(
    data: PreferenceDataModule,
    *,
    policies: dict[str, str] | None = None,
    reference: dict[str, str] | str | None = None,
    rewards: dict[str, str] | None = None,
    split: Literal["train", "val", "test"] = "test",
    direction: Direction = Direction(),
    out: str | None = None,
) -> None:
    """Say how often rewards order the held-out responses of each prompt as the data does, with intervals over prompts.

    A policy is a reward too: by log p_policy - log p_reference of the whole response (`implicit`, with --reference),
    and by the log-probability of its tokens on average (`per_token`).

    Args:
        data: The data as in training, `--data HHRLHFDataModule --data.path FILE` with its `splits` and `encoding`.
        policies: Model folders by name (`--policies.NAME DIR`).
        reference: The folder that policies were trained from, for all of them or by their names (`--reference.NAME`).
        rewards: Reward model folders by name (`--rewards.NAME DIR`), read as far as in their training.
        split: Which part of the data; `test` is the fold of `--data.splits.fold`.
        direction: How several outputs of a reward model become one; the first output by default.
        out: Folder for `results.json`, and `rows.jsonl` with the rewards of every response; null prints the table.
    """
    named = {**(policies or {}), **(rewards or {})}
    if not named or len(named) < len(policies or {}) + len(rewards or {}):
        raise ConfigError("policies and rewards: name at least one folder, and no two by the same name")
    examples, report = _held_out(data, split)
    print(f"{split}: {report}")
    scored = _of_policies(data, examples, policies or {}, _references(policies or {}, reference))
    for name, model in load_reward_models(rewards or {}, None).items():
        asked = [(e.context(n), text) for e in examples for n, text in enumerate(e.responses)]
        outputs = model.score([prompt for prompt, _ in asked], [text for _, text in asked]).tolist()
        values = iter([direction.of(model.attributes, row) for row in outputs])
        scored[f"{name}.reward"] = [[next(values) for _ in e.responses] for e in examples]
        if (note := model.note()) is not None:
            print(note)
    rows = [
        RankedRow(e.id, prompt_id(e.messages), e.ranks, {name: own[n] for name, own in scored.items()})
        for n, e in enumerate(examples)
    ]
    content = {"split": split, "rows": len(rows), "folders": named, "reference": reference, "models": _figures(rows)}
    show(_table(split, rows, content["models"]))  # type: ignore[arg-type]
    if out is not None:
        lines = "".join(json_text(row.as_dict()) + "\n" for row in rows)
        Path(out).mkdir(parents=True, exist_ok=True)
        atomic_write_text(Path(out) / "rows.jsonl", lines)
        write_json(str(Path(out) / "results.json"), content)


def _held_out(data: PreferenceDataModule, split: str) -> tuple[list[Example], Report]:
    """Return the responses of every prompt of a split, best first, and how many rows have no order."""
    report = Report()
    found = data.examples(split)
    report.read = len(found)
    examples = RankedLists().apply(found, report)
    if not examples:
        raise ConfigError(
            f"split {split}: no responses in an order ({report}): hold some out by --data.splits.folds and fold, or "
            "--data.splits.val_fraction and --split val"
        )
    return examples, report


def _references(policies: Mapping[str, str], reference: dict[str, str] | str | None) -> dict[str, str]:
    """Return the reference of every policy that has one. Raises ConfigError for one of no policy."""
    if not isinstance(reference, dict):
        return {} if reference is None else dict.fromkeys(policies, reference)
    if unknown := [name for name in reference if name not in policies]:
        known = ", ".join(policies)
        raise ConfigError(
            f"reference.{unknown[0]}: no policy has that name ({known}){did_you_mean(unknown[0], policies)}"
        )
    return reference


def _of_policies(
    data: PreferenceDataModule,
    examples: Sequence[Example],
    policies: Mapping[str, str],
    references: Mapping[str, str],
) -> dict[str, list[list[float]]]:
    """Return the rewards of policies, by their names and kinds."""
    known: dict[str, Likelihoods] = {}
    scored: dict[str, list[list[float]]] = {}
    for name, folder in policies.items():
        for path in filter(None, (folder, references.get(name))):
            known[path] = known.get(path) or policy_likelihoods(data, examples, path)
        if name in references:
            scored[f"{name}.implicit"] = known[folder].less(known[references[name]])
        scored[f"{name}.per_token"] = known[folder].per_token
    return scored


def _figures(rows: Sequence[RankedRow]) -> dict[str, dict[str, Any]]:
    """Return every measure of every reward with its interval, and the difference to the first on the same rows."""
    prompts = [row.prompt for row in rows]
    values = {name: measure_rows(rows, name) for name in rows[0].rewards}
    first = next(iter(values.values()))
    found: dict[str, dict[str, Any]] = {}
    for name, own in values.items():
        figures: dict[str, Any] = {"rows": int((own[:, 0] == own[:, 0]).sum())}
        for column, measure in enumerate(MEASURES):
            figures[measure] = over_prompts(prompts, own[:, column])._asdict()
            if own is not first:
                figures[f"{measure}_over_first"] = over_prompts(prompts, own[:, column] - first[:, column])._asdict()
        found[name] = figures
    return found


def _table(split: str, rows: Sequence[RankedRow], figures: Mapping[str, Mapping[str, Any]]) -> Table:
    pairs = all(len(row.ranks) == 2 for row in rows)
    shown = MEASURES[:1] if pairs else MEASURES
    title = f"{split}, {len(rows)} rows (95 % bootstrap over prompts; * differs from the first)"
    table = Table(title=title, title_justify="left")
    for header in ("reward", "rows", *shown):
        table.add_column(header, justify="left" if header == "reward" else "right")
    for name, own in figures.items():
        cells = [short(Interval(**own[m])) + _star(own.get(f"{m}_over_first")) for m in shown]
        table.add_row(*map(Text, (name, str(own["rows"]), *cells)))
    return table


def _star(difference: Mapping[str, float] | None) -> str:
    return "*" if difference is not None and Interval(**difference).excludes_zero else " "


VERB = FunctionVerb(preferences, unused=UNUSED)
