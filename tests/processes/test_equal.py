"""Two processes, whatever their strategy, train as one does: losses, gradient norms, clipping, exported folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.processes.runs import STRATEGIES, Pair, command
from tests.resume.runs import Run
from tests.test_configs import scalars
from tests.tiny import save_tiny

CLIP = 0.05
LORA = ["--model.backbone.lora.r", "4"]
AHEAD = ["--trainer.strategy.prefetch", "3"]
SELECTIVE = ["--model.backbone.gradient_checkpointing", "selective"]
DOUBLE = ["--model.backbone.dtype", "float64", "--trainer.gradient_clip_val", str(CLIP)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    (file,) = (run.root / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("dpo", "lora"),
        *(pytest.param(method, "full", marks=pytest.mark.slow) for method in ("sft", "reward_model", "dpo")),
        *(pytest.param(method, "lora", marks=pytest.mark.slow) for method in ("sft", "reward_model")),
        pytest.param("dpo", "selective", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one(
    method: str, parameters: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    more = [*DOUBLE, *(LORA if parameters == "lora" else [])]
    one = Run(tmp_path / "one", command(method, pairs_file, model_folder, *more))
    assert one() == 0, one.log
    norms = scalars(one.root, "train/grad_norm")
    assert min(norms) > CLIP  # so that every step is clipped
    assert len(norms) == 5
    again = SELECTIVE if parameters == "selective" else []  # by the two alone
    for strategy in STRATEGIES:
        own = [*more, *again, *(AHEAD if again and strategy == "fsdp2" else [])]
        two = Pair(tmp_path / strategy, command(method, pairs_file, model_folder, *own, strategy=strategy))
        assert two() == 0, two.log
        for name in ("train/loss", "train/grad_norm"):
            assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-6), (strategy, name)
        expected, found = weights(one), weights(two)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=f"{strategy} {name}")


FOUR_BITS = ["--model.backbone.quantization", "nf4"]
PISSA = ["--model.backbone.lora.init_lora_weights", "pissa"]


@pytest.mark.parametrize(
    ("start", "strategy"),
    [
        (FOUR_BITS, "fsdp2"),
        pytest.param(FOUR_BITS, "ddp", marks=pytest.mark.slow),
        pytest.param(PISSA, "ddp", marks=pytest.mark.slow),
    ],
)
def test_adapters_on_a_base_that_is_changed(start: list[str], strategy: str, tmp_path: Path, pairs_file: Path) -> None:
    """Packed bytes lie in shards, their scales on every process; singular vectors are those of one process."""
    if start is FOUR_BITS:
        pytest.importorskip("bitsandbytes")
    base = save_tiny(tmp_path / "base", hidden_size=64, intermediate_size=128)
    more = [*LORA, *start, "--trainer.gradient_clip_val", str(CLIP), "--model.optimizer.learning_rate", "1e-2"]
    one = Run(tmp_path / "one", command("dpo", pairs_file, base, *more))
    assert one() == 0, one.log
    two = Pair(tmp_path / strategy, command("dpo", pairs_file, base, *more, strategy=strategy))
    assert two() == 0, two.log
    for name in ("train/loss", "train/grad_norm"):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-5), name
    expected, found = weights(one), weights(two)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "dtype"), [("ddp", "float32"), ("fsdp2", "bfloat16")])
def test_a_base_in_16_bits_under_adapters(strategy: str, dtype: str, tmp_path: Path, pairs_file: Path) -> None:
    """Held so under DDP, asked for under FSDP2, whose groups then mix dtypes: up to rounding the steps of one process."""
    base = save_tiny(tmp_path / "base", tie_word_embeddings=False)
    weights_file = base / "model.safetensors"
    save_file({key: value.bfloat16() for key, value in load_file(weights_file).items()}, weights_file, {"format": "pt"})
    more = [*LORA, "--trainer.precision", "bf16-mixed", "--model.backbone.dtype", dtype]
    one = Run(tmp_path / "one", command("dpo", pairs_file, base, *LORA, "--trainer.precision", "bf16-mixed"))
    assert one() == 0, one.log
    two = Pair(tmp_path / strategy, command("dpo", pairs_file, base, *more, strategy=strategy))
    assert two() == 0, two.log
    for name, bound in (("train/loss", 2e-3), ("train/grad_norm", 5e-2)):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=bound), name


@pytest.mark.parametrize(
    ("method", "strategy", "groups"),
    [
        ("sft", "ddp", 1),
        ("kto", "ddp", 3),
        pytest.param("aot_unpaired", "ddp", 3, marks=pytest.mark.slow),
        ("dro", "fsdp2", 3),
        *(pytest.param(method, "fsdp2", groups, marks=pytest.mark.slow) for method, groups in (("pro", 1), ("dpo", 3))),
    ],
)
def test_steps_are_the_same_however_they_are_cut(
    method: str, strategy: str, groups: int, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    """Micro-batches of a few tokens, more on one process than on the other, which has none of a step of one group."""
    few = tmp_path / "few.jsonl"
    few.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:4]))
    more = [*DOUBLE, "--data.batching.groups", str(groups), "--trainer.max_epochs", "1", "--data.batching.tokens"]
    one = Run(tmp_path / "one", command(method, few, model_folder, *more, "1000000"))
    assert one() == 0, one.log
    two = Pair(tmp_path / "two", command(method, few, model_folder, *more, "120", strategy=strategy))
    assert two() == 0, two.log
    for name in ("train/loss", "train/grad_norm"):
        assert scalars(two.root, name) == pytest.approx(scalars(one.root, name), rel=1e-6), name
    expected, found = weights(one), weights(two)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=name)
