"""`align check`: looks at a run before it starts, and fails where the run would."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import nn

from align.cli.check_fit import FitRequest, tell_fit
from align.cli.check_passes import passes_told
from align.cli.check_plan import Load, memory_told, tell_plan
from align.cli.check_settings import FitWithoutRunning, own_options, parsed, price_of
from align.cli.included_configs import with_configs
from align.cli.start import prepare
from align.data.data_module import PreferenceDataModule
from align.data.telling import warnings_of
from align.errors import ConfigError
from align.models.description import describe
from align.models.held_short import SHORT, cast_less
from align.models.masters import check_precision
from align.models.model_card import PACKAGES
from align.rounds.settings import RoundSettings
from align.sizing.cards import place_of
from align.sizing.pass_cost import PassConditions
from align.training.base_module import AlignModule
from align.training.rollout_module import RolloutModule
from align.training.rollouts import require_rounds

HELP = """usage: align check [the options of align fit] [--fit_into 8xH100-80GB [--out FILE] [--price_per_hour 2.5]]

Check a run before it starts: versions, the model's dtype, size and memory, three decoded examples with their scored
tokens, lengths, dropped rows, and whether scores, gradients and samples agree with plain forward passes. Exit code 2 on
a fault.

A folder with a config.json and no weights is enough to know memory and time: of each GPU, for 1 to 64 of them, and on
named cards. --fit_into proposes the settings that fit into some cards, and --out writes them as a fragment for -c;
neither needs weights or data. With the price of one card for an hour it says what the run costs."""
BAR = 40
PROMPT_SHOWN, TOKENS_SHOWN = 400, 30
"""Characters and tokens of an example that are shown at each end."""
NOT_READ = {
    "--ckpt_path": "the model is looked at as a run would start from it",
    "--push_to_hub": "it belongs to align fit",
    "--public": "it belongs to align fit",
}
"""Options of `align fit` that say what is done with a trained model."""


def run(words: list[str]) -> int:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    for word in words:
        if (option := word.partition("=")[0]) in NOT_READ:
            raise ConfigError(f"{option}: nothing is trained or written here: leave it out, {NOT_READ[option]}")
    words, own = own_options(words)
    price = price_of(own.get("--price_per_hour"))
    place = place_of(own["--fit_into"]) if "--fit_into" in own else None
    words = with_configs(words)
    prepare(words)
    cli, has_data = parsed(words, place)
    if cli.planned:
        return plan(cli, FitRequest(cli.place, own.get("--out"), price), has_data=has_data)
    if isinstance(cli.model, RolloutModule):
        settings = (getattr(callback, "settings", None) for callback in vars(cli.trainer)["callbacks"])
        require_rounds(cli.model, next((s for s in settings if isinstance(s, RoundSettings)), None))
    precision, gpu = str(cli.trainer.precision), cli.trainer.strategy.root_device.type == "cuda"
    conditions = PassConditions(cli.model.backbone.layout, "mixed" in precision, gpu, short=precision == SHORT)
    with cli.trainer.precision_plugin.forward_context():
        return examine(cli.model, cli.datamodule, cli.trainer, conditions)


def plan(cli: FitWithoutRunning, request: FitRequest, *, has_data: bool) -> int:
    """Print what is known without weights."""
    module, data = cli.model, cli.datamodule if has_data else None
    module.backbone = replace(module.backbone, random_init=True)  # its weights are not looked for
    sections = {"versions": _versions()}
    if data is not None:
        sections |= {"data": _data(module, data), "examples": _examples(module, data), "lengths": _lengths(data)}
    _tell(sections)
    load = Load.of(module, data, cli.asked.epochs)
    _tell({"size": tell_plan(module, cli.asked, load)})
    if request.place is not None:
        _tell({f"fit into {request.place}": tell_fit(module, cli.asked, load, request)})
    print("\nno weights were read: scores, gradients and samples were not compared")
    return 0


@torch.no_grad()
def examine(module: AlignModule, data: PreferenceDataModule, trainer: Trainer, conditions: PassConditions) -> int:
    """Print the report. Raises an AlignError where the set-up is broken."""
    _tell(
        {
            "versions": _versions(),
            "data": _data(module, data),
            "examples": _examples(module, data),
            "lengths": _lengths(data),
            "model": _model(module, data, trainer, conditions),
            "checks": passes_told(module, data),
        }
    )
    print("\nno fault found")
    return 0


def _tell(sections: Mapping[str, Iterable[str]]) -> None:
    for section, lines in sections.items():
        print(f"\n{section}")
        for line in lines:
            print(f"  {line}")


def _versions() -> Iterator[str]:
    yield f"python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield f"{torch.get_num_threads()} threads, {torch.cuda.device_count()} GPUs"


def _data(module: AlignModule, data: PreferenceDataModule) -> Iterator[str]:
    data.connect(module)
    yield f"view {module.view}, fingerprint {data.fingerprint}"
    yield from (f"WARNING {line}" for line in warnings_of(data.reports, data.groups))
    part = "every assistant turn of whole dialogues, otherwise " if module.scores_turns else ""
    yield f"scored: {part}{'all tokens' if getattr(module, 'loss_on', '') == 'all' else 'the response'}"
    yield from data.steps_told()
    yield from (f"template: {line}" for line in data.template_told())
    for name, report in data.reports.items():
        yield f"{name}: {report}"
        for reason, ids in report.ids.items():
            yield f"    {reason}: {', '.join(ids)}{' …' if report.dropped[reason] > len(ids) else ''}"


def _examples(module: AlignModule, data: PreferenceDataModule) -> Iterator[str]:
    tokenizer = module.tokenizer
    yield "scored tokens are set apart by ·, the prompt and what stands in ⟦ ⟧ are not scored"
    for group in data.groups["train"][range(min(3, len(data.groups["train"])))]:
        prompt = "".join(_ends(tokenizer.decode(group.prompt_ids), PROMPT_SHOWN))
        yield f"[{group.id}] prompt, {len(group.prompt_ids)} tokens: {prompt!r}"
        weights = group.response_weights or [[1.0] * len(ids) for ids in group.response_ids]
        rows = zip(group.ranks, group.response_ids, weights, group.truncated, strict=True)
        for rank, ids, counted, truncated in rows:
            tokens = _marked(tokenizer.convert_ids_to_tokens(ids), counted)
            yield f"    rank {rank}, {len(ids)} tokens{', truncated' if truncated else ''}: {tokens}"


def _marked(tokens: list[str], weights: Sequence[float]) -> str:
    """Return tokens as text, the scored ones apart and runs of others in brackets."""
    runs = groupby(zip(tokens, weights, strict=True), key=lambda pair: pair[1] > 0)
    texts = [(scored, _ends([token for token, _ in run], TOKENS_SHOWN)) for scored, run in runs]
    return " ".join("·".join(run) if scored else f"⟦{''.join(run)}⟧" for scored, run in texts)


def _ends(whole: Sequence[str], shown: int) -> Sequence[str]:
    """Return the start and the end of what is long: templates, turns and the end token are seen there."""
    left_out = len(whole) - 2 * shown
    return whole if left_out <= shown else [*whole[:shown], f" … {left_out} more … ", *whole[-shown:]]


def _lengths(data: PreferenceDataModule) -> Iterator[str]:
    groups = data.groups["train"]
    for name, tokens in {"prompt": groups.prompt_tokens, "responses": groups.response_tokens}.items():
        counts, edges = np.histogram(tokens, bins=min(8, len(np.unique(tokens))))
        yield f"{name}: median {int(np.median(tokens))}, longest {tokens.max()} tokens"
        for count, low, high in zip(counts, edges, edges[1:], strict=False):
            yield f"    {int(low):>6} to {int(high):>6} {'█' * math.ceil(BAR * count / counts.max())} {count}"
    cut = sum(any(row) for row in groups.table["truncated"])
    yield f"{cut} of {len(groups)} groups have a truncated response"


def _model(
    module: AlignModule, data: PreferenceDataModule, trainer: Trainer, conditions: PassConditions
) -> Iterator[str]:
    told = memory_told(module, data, conditions)  # before there are weights
    yield describe(built(module, trainer))
    yield told


def built(module: AlignModule, trainer: Trainer) -> nn.Module:
    """Return the model of a module, which is built, and held, as in a run of a Trainer that is not attached.

    Raises ConfigError for a precision in which it would not be trained.
    """
    module.build_model()
    check_precision(module.model, module.backbone, str(trainer.precision), kahan=module.optimizer.kahan)
    cast_less(module.models(), str(trainer.precision))
    return module.model
