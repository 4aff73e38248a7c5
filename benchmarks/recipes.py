"""What the recipes of configs/recipe take, by the counting of `align check`: python -m benchmarks.recipes

Writes the table of docs/recipes.md. Shapes are those of the models' published config.json, typed off here: nothing is
downloaded. Memory is counted, time is a share of a card's peak that one H100 reached (benchmarks/README.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Qwen3Config,
    SmolLM3Config,
)

from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.sft import SFTModule
from align.sizing.cards import place_of
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Spread
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from benchmarks.gpu.shapes import Shape

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipes.md"
START = "<!-- written by python -m benchmarks.recipes -->"
PAIRS, ULTRAFEEDBACK = 61_000, TypicalGroup(prompt=223, response=331)
"""UltraFeedback's pairs, and their mean lengths in tokens of Qwen2 (`benchmarks/gpu/lengths.json`)."""


def _sizes(width: int, inner: int, layers: int, heads: int, keys: int, vocab: int, **more: int) -> dict[str, int]:  # noqa: PLR0917
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocab,
        **more,
    }


SHAPES = {
    "qwen3_0_6b": Shape(Qwen3Config, _sizes(1024, 3072, 28, 16, 8, 151936, head_dim=128), tied=True),
    "gemma_3_1b_it": Shape(
        Gemma3TextConfig, _sizes(1152, 6912, 26, 4, 1, 262144, head_dim=256, sliding_window=512), tied=True
    ),
    "smollm2_1_7b_instruct": Shape(LlamaConfig, _sizes(2048, 8192, 24, 32, 32, 49152), tied=True),
    "smollm3_3b": Shape(SmolLM3Config, _sizes(2048, 11008, 36, 16, 4, 128256), tied=True),
    "mistral_7b_instruct": Shape(MistralConfig, _sizes(4096, 14336, 32, 32, 8, 32768)),
    "olmo_2_7b_instruct": Shape(Olmo2Config, _sizes(4096, 11008, 32, 32, 32, 100352)),
    "llama_3_1_8b_instruct": Shape(LlamaConfig, _sizes(4096, 14336, 32, 32, 8, 128256)),
    "qwen3_8b": Shape(Qwen3Config, _sizes(4096, 12288, 36, 32, 8, 151936, head_dim=128)),
    "qwen3_32b": Shape(Qwen3Config, _sizes(5120, 25600, 64, 64, 8, 151936, head_dim=128)),
    "llama_3_3_70b_instruct": Shape(LlamaConfig, _sizes(8192, 28672, 80, 64, 8, 128256)),
}
MODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SFT, all weights": (SFTModule, {}),
    "DPO, all weights": (DPOModule, {}),
    "DPO, LoRA": (DPOModule, {"lora": LoRA()}),
    "DPO, QLoRA": (DPOModule, {"lora": LoRA(), "quantization": "nf4"}),
}


def settings_of(name: str) -> tuple[dict[str, Any], int]:
    """Return a recipe's settings of the backbone, and its tokens."""
    found = yaml.safe_load((ROOT / "configs" / "recipe" / f"{name}.yaml").read_text())
    backbone = {key: value for key, value in found["model"]["init_args"]["backbone"].items() if key != "path"}
    return backbone, found["data"]["init_args"]["batching"]["tokens"]


def sized(name: str, mode: str, folder: Path) -> tuple[Sized, int]:
    """Return a recipe's run, and the positions of its batches."""
    make, more = MODES[mode]
    backbone, tokens = settings_of(name)
    groups = ULTRAFEEDBACK if make is DPOModule else TypicalGroup(ULTRAFEEDBACK.prompt, ULTRAFEEDBACK.response, 1)
    module = make(Backbone(SHAPES[name].folder(folder), **backbone, **more))
    return Sized.of(module, groups, PassConditions(mixed=True), tokens), tokens


def rows(name: str, folder: Path) -> list[str]:
    """Return a recipe's lines of the table."""
    lines = []
    for mode in MODES:
        run, tokens = sized(name, mode, folder)
        cells = []
        for card in ("RTX4090-24GB", "H100-80GB", "H200-141GB"):
            cells.append(_cell(run, tokens, card))
        lines.append(f"| `{name}` | {mode} | {tokens} | {' | '.join(cells)} |")
    return lines


def _cell(run: Sized, tokens: int, card: str) -> str:
    """Return the fewest cards, the peak of each, and hours and GPU hours of an epoch over UltraFeedback."""
    for count in (1, 2, 4, 8, 16, 32, 64):
        place = place_of(f"{count}x{card}")
        spreads = (
            [Spread(count)]
            if run.whole or count == 1
            else [Spread(count), Spread(count, min(count, 8)), Spread(count, count)]
        )
        for spread in spreads:
            memory = run.memory(tokens, spread)
            if memory.total <= place.card.usable:
                hours = PAIRS * run.groups.tokens / run.rate(place.card) / count / 3600
                return f"{count}, {memory.total / 2**30:.0f} GiB, {hours:.1f} h, {hours * count:.1f} GPU h"
    return "-"


def main() -> None:
    """Write the table."""
    page = PAGE.read_text(encoding="utf-8")
    table = ["| recipe | | batch | RTX 4090 | H100 | H200 |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name in SHAPES:
            table += rows(name, Path(folder))
            print(*table[-len(MODES) :], sep="\n", flush=True)
    PAGE.write_text(page.partition(START)[0] + START + "\n\n" + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
