"""Options of `align generate` that nobody reads beside others."""

from __future__ import annotations

from align.cli.unused import Settings, Unused, given, without
from align.cli.unused_of_models import GREEDY, POOL, RAY, TRAINING


def _elsewhere(settings: Settings) -> bool:
    return settings["server"] is not None or settings["engine"] == "vllm"


def _continuous(settings: Settings) -> bool:
    return bool(settings["engine"] == "continuous")


UNUSED = (
    TRAINING,
    Unused(("vector", "layers", "coefficient", "where"), without("steer"), "belongs to --steer: name its file too"),
    Unused(("steer",), _elsewhere, "changes states inside the model: leave out --server and --engine vllm"),
    Unused(("instructions",), without("under"), "belongs to --under: say positive or negative"),
    Unused(("instructions.positive",), without("under", "negative"), "belongs to --under positive: leave it out"),
    Unused(("instructions.negative",), without("under", "positive"), "belongs to --under negative: leave it out"),
    Unused(("name",), without("answers"), "belongs to --answers: leave it out"),
    Unused(("prompt",), given("answers"), "--answers asks the prompts of the benchmark's file: leave it out"),
    Unused(
        ("generation.temperature",),
        lambda settings: settings["answers"] == "mt_bench",
        "--answers mt_bench asks at the temperature of each category: leave it out",
    ),
    GREEDY,
    *POOL,
    *RAY,
    Unused(("server",), given("ray"), "--ray draws instead: give one of them"),
    Unused(("engine",), given("ray"), "--ray draws by our own engine: leave it out"),
    Unused(("steer",), given("ray"), "changes states inside the model: leave out --ray"),
    Unused(("model.random_init",), given("ray"), "random weights are others on every worker: leave it out"),
    Unused(("server",), given("pool"), "--pool draws instead: give one of them"),
    Unused(("engine",), given("server"), "--server draws instead: give one of them"),
    Unused(("engine",), given("pool"), "--pool draws instead: give one of them"),
    Unused(("steer",), _continuous, "changes states inside the model: leave out --engine continuous"),
    Unused(
        ("model.check",),
        _continuous,
        "--engine continuous is compared with plain forward passes in any case: leave it out",
    ),
    Unused(("steer",), given("pool"), "changes states inside the model: leave out --pool"),
    Unused(
        ("model.random_init", "model.quantization", "model.check"),
        given("pool"),
        "--pool draws from the folder as it is: leave it out",
    ),
    Unused(
        ("model.dtype", "model.attn_implementation", "model.random_init", "model.quantization", "model.check"),
        _elsewhere,
        "--server and --engine vllm load the weights in their own way: leave it out",
    ),
    Unused(
        ("model.revision",),
        lambda settings: settings["server"] is None and settings["engine"] == "vllm",
        "--engine vllm is given a folder or the newest commit: leave it out, or name a folder",
    ),
    Unused(("server.chat_template_kwargs",), given("chat_template_kwargs"), "--chat_template_kwargs is sent already"),
    Unused(
        ("template", "model.chat_template"),
        lambda settings: settings["server"] is not None and settings["server"].api == "chat",
        "--server.api chat has prompts written by the server: leave it out, or use api completions",
    ),
    Unused(
        ("generation.batch_tokens",),
        lambda settings: _elsewhere(settings) or settings["pool"] is not None,
        "--server, --pool and --engine vllm make their own batches: leave it out",
    ),
)
