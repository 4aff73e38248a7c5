"""What a run does beside a step: sampling, a compiled decoder, going on from a checkpoint, determinism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.callbacks import ModelCheckpoint

from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.sampling.generation import Generation, Request
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from align.training.optimizer import Optimizer
from tests.modules.fitting import pairs_data
from tests.tiny import random_batch

pytestmark = pytest.mark.gpu
CONSTANT = Optimizer(learning_rate=1e-3, lr_scheduler_type="constant", warmup_ratio=0.0)


def test_greedy_samples_equal_generate(folder: Path, device: str) -> None:
    backbone = Backbone(str(folder))
    tokenizer = load_tokenizer(backbone)
    model: Any = load_policy(backbone, tokenizer).to(device).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)  # weights at random leave the best two tokens too close
    prompts = [[5 + (7 * i + j) % 200 for j in range(3 + 4 * i)] for i in range(6)]
    settings = Generation(max_new_tokens=16, temperature=0.0)
    requests = [Request(str(i), ids) for i, ids in enumerate(prompts)]
    ours = Sampler(TransformersEngine(model, tokenizer, [1]), settings).sample(requests)
    for sample, ids in zip(ours, prompts, strict=True):
        asked = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": 1, "pad_token_id": 2}
        whole = model.generate(
            torch.tensor([ids], device=device), attention_mask=torch.ones(1, len(ids)).to(device), **asked
        )
        assert list(sample.ids) == whole[0, len(ids) :].tolist()


@pytest.mark.parametrize("layout", ["auto", "padded"])
def test_a_compiled_decoder_does_the_same_step(folder: Path, device: str, layout: str) -> None:
    """Three batches of other lengths; on a CPU the graphs are traced and not compiled."""
    torch._dynamo.reset()
    batches = [move_data_to_device(random_batch([2, 2, 2], seed, 200), torch.device(device)) for seed in (1, 2, 3)]
    found = []
    for compiles in (False, True):
        module = DPOModule(Backbone(str(folder), layout=layout, compile=compiles))
        module.build_model()
        module.to(device)
        with torch.compiler.set_stance("default", force_backend=None if device == "cuda" else "eager"):
            found.append([value_and_norm(module, batch) for batch in batches])
    for plain, compiled in zip(*found, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)


def value_and_norm(module: Any, batch: Any) -> tuple[float, float]:
    module.zero_grad()
    loss = module.loss(batch, batch.totals)
    loss.backward()
    return loss.item(), torch.nn.utils.get_total_norm([p.grad for p in module.model.parameters()]).item()


def trained(
    folder: Path, rows: Path, device: str, place: Path, *, steps: int, start: Path | None = None, deterministic: bool
) -> tuple[torch.Tensor, Path]:
    """Train DPO up to a step; return all weights, and the checkpoint written at the end."""
    L.seed_everything(0, verbose=False)
    checkpoint = ModelCheckpoint(dirpath=place, filename="{step}", every_n_train_steps=steps, save_top_k=-1)
    trainer = L.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed",
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        deterministic=deterministic,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=place,
    )
    module = DPOModule(Backbone(str(folder)), optimizer=CONSTANT)
    try:
        trainer.fit(module, pairs_data(rows), ckpt_path=start and str(start))
    finally:
        torch.use_deterministic_algorithms(False)  # Lightning leaves it on
    weights = torch.cat([p.detach().flatten().cpu() for p in module.model.parameters()])
    return weights, Path(checkpoint.best_model_path or place / f"step={steps}.ckpt")


@pytest.mark.parametrize("deterministic", [False, True], ids=["usual", "deterministic"])
def test_resuming_after_two_of_four_steps(
    folder: Path, rows: dict[int, Path], tmp_path: Path, device: str, deterministic: bool
) -> None:
    """To the bit with `trainer.deterministic true`; else to the rounding of sums whose order a GPU does not keep."""
    whole, _ = trained(folder, rows[2], device, tmp_path / "whole", steps=4, deterministic=deterministic)
    _, saved = trained(folder, rows[2], device, tmp_path / "half", steps=2, deterministic=deterministic)
    resumed, _ = trained(folder, rows[2], device, tmp_path / "rest", steps=4, start=saved, deterministic=deterministic)
    start = torch.cat([p.detach().flatten() for p in DPOModule(Backbone(str(folder))).build().parameters()])
    moved = (whole - start).norm()
    assert moved > 0
    if deterministic:
        assert torch.equal(resumed, whole)
    else:  # Adam's first steps are signs of gradients: one that rounds to the other side moves a weight by two rates
        assert (resumed - whole).norm() < 0.05 * moved


def test_deterministic_runs_are_equal_to_the_bit(
    folder: Path, rows: dict[int, Path], tmp_path: Path, device: str
) -> None:
    first, _ = trained(folder, rows[2], device, tmp_path / "first", steps=3, deterministic=True)
    second, _ = trained(folder, rows[2], device, tmp_path / "second", steps=3, deterministic=True)
    assert torch.equal(first, second)
