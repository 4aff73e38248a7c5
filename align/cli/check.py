"""`align check`: looks at a run before it starts, and fails where the run would."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from align.cli.included_configs import with_configs
from align.cli.lightning import AlignCLI
from align.cli.start import prepare
from align.data.data_module import PreferenceDataModule
from align.data.telling import warnings_of
from align.errors import ConfigError, DataError, ModelError
from align.models.loading import describe
from align.models.model_card import PACKAGES
from align.sampling.checked import LocalEngine
from align.scoring.decoder import unwrapped
from align.training.base_module import AlignModule
from align.training.self_check import check_layouts

HELP = """usage: align check [the options of align fit]

Check a run before it starts: versions, the model's dtype, size and memory, three decoded examples with their scored
tokens, lengths, dropped rows, and whether scores, gradients and samples agree with plain forward passes. Exit code 2 on
a fault."""
BAR = 40
NOT_READ = {
    "--ckpt_path": "the model is looked at as a run would start from it",
    "--push_to_hub": "it belongs to align fit",
    "--public": "it belongs to align fit",
}
"""Options of `align fit` that say what is done with a trained model."""


class _FitWithoutRunning(AlignCLI):
    """Parses and builds everything `align fit` would, and stops there."""

    def _run_subcommand(self, subcommand: str) -> None:
        return None

    def use_folder(self, root: Path) -> None:
        """Look at used run folders too."""


def run(words: list[str]) -> int:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    for word in words:
        if (option := word.partition("=")[0]) in NOT_READ:
            raise ConfigError(f"{option}: nothing is trained or written here: leave it out, {NOT_READ[option]}")
    words = with_configs(words)
    prepare(words)
    cli = _FitWithoutRunning(["fit", *words])
    with cli.trainer.precision_plugin.forward_context():
        return examine(cli.model, cli.datamodule)


@torch.no_grad()
def examine(module: AlignModule, data: PreferenceDataModule) -> int:
    """Print the report. Raises an AlignError where the set-up is broken."""
    for section, lines in {
        "versions": _versions(),
        "data": _data(module, data),
        "examples": _examples(module, data),
        "lengths": _lengths(data),
        "model": _model(module, data),
        "checks": _checks(module, data),
    }.items():
        print(f"\n{section}")
        for line in lines:
            print(f"  {line}")
    print("\nno fault found")
    return 0


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
        yield f"[{group.id}] prompt, {len(group.prompt_ids)} tokens: {tokenizer.decode(group.prompt_ids)!r}"
        weights = group.response_weights or [[1.0] * len(ids) for ids in group.response_ids]
        rows = zip(group.ranks, group.response_ids, weights, group.truncated, strict=True)
        for rank, ids, counted, truncated in rows:
            tokens = _marked(tokenizer.convert_ids_to_tokens(ids), counted)
            yield f"    rank {rank}, {len(ids)} tokens{', truncated' if truncated else ''}: {tokens}"


def _marked(tokens: list[str], weights: Sequence[float]) -> str:
    """Return tokens as text, the scored ones apart and runs of others in brackets."""
    runs = groupby(zip(tokens, weights, strict=True), key=lambda pair: pair[1] > 0)
    texts = [(scored, [token for token, _ in run]) for scored, run in runs]
    return " ".join("·".join(run) if scored else f"⟦{''.join(run)}⟧" for scored, run in texts)


def _lengths(data: PreferenceDataModule) -> Iterator[str]:
    groups = data.groups["train"]
    for name, tokens in {"prompt": groups.prompt_tokens, "responses": groups.response_tokens}.items():
        counts, edges = np.histogram(tokens, bins=min(8, len(np.unique(tokens))))
        yield f"{name}: median {int(np.median(tokens))}, longest {tokens.max()} tokens"
        for count, low, high in zip(counts, edges, edges[1:], strict=False):
            yield f"    {int(low):>6} to {int(high):>6} {'█' * math.ceil(BAR * count / counts.max())} {count}"
    cut = sum(any(row) for row in groups.table["truncated"])
    yield f"{cut} of {len(groups)} groups have a truncated response"


def _model(module: AlignModule, data: PreferenceDataModule) -> Iterator[str]:
    module.build_model()
    yield describe(module.model)
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    config = unwrapped(module.model).config.get_text_config()
    batch = next(iter(data.train_dataloader()))[0]  # the longest of a step
    tokens = sum(batch.prompt_lengths) + sum(batch.response_lengths)
    width = next(module.model.parameters()).element_size()
    activations = 17 * width * tokens * config.hidden_size * config.num_hidden_layers
    parts = {
        "weights": weights,
        "gradients": trained,
        "optimiser": 2 * trained,
        f"activations of {tokens} tokens": activations,
    }
    listed = ", ".join(f"{name} {_bytes(size)}" for name, size in parts.items())
    yield f"memory about {_bytes(sum(parts.values()))}: {listed}"


def _checks(module: AlignModule, data: PreferenceDataModule) -> Iterator[str]:
    step = next(iter(data.train_dataloader()))
    yield _check_bos(module, data)
    yield _check_eos(data)
    yield f"self-check: {check_layouts(module, data.groups['train'], gradients=True)}"
    if module.generates:
        yield f"sampling: {LocalEngine(module.model, module.tokenizer, []).check(data.prompts(64))}"
    with torch.no_grad():
        module.begin_step(step)
        loss = sum(float(module.loss(batch, step.totals)) for batch in step)
        module.end_step()
    if not math.isfinite(loss):
        raise ModelError(f"the loss of the first step is {loss}: check the weights' dtype")
    yield f"loss of the first step: {loss:.6f}"


def _check_bos(module: AlignModule, data: PreferenceDataModule) -> str:
    bos = module.tokenizer.bos_token_id
    rows = data.groups["train"][range(min(100, len(data.groups["train"])))]
    if bos is not None and any(row.prompt_ids[:2] == [bos, bos] for row in rows):
        raise ModelError("prompts begin with two BOS tokens: the chat template and the tokenizer both add one")
    return f"at most one BOS in {len(rows)} prompts"


def _check_eos(data: PreferenceDataModule) -> str:
    eos = data.prompt_format.eos_id
    rows = data.groups["train"][range(min(100, len(data.groups["train"])))]
    for row in rows:
        for ids, truncated in zip(row.response_ids, row.truncated, strict=True):
            if (ids[-1] == eos) == truncated:
                raise DataError(f"row {row.id}: a response must end in EOS exactly when it is not truncated")
    return f"one scored EOS at the end of every whole response of {len(rows)} rows"


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
