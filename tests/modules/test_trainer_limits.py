"""Limits of the Trainer: of a part of the held-out data the loss is that of its tokens; one step is fitted again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from align.data.batching import Batching
from align.data.splits import Splits
from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from tests.modules.fitting import fit, pairs_data
from tests.tiny import WORDS


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_loss_of_two_batches_is_the_mean_of_their_tokens(model_folder: Path, tmp_path: Path, layout: str) -> None:
    """`val/nll` divides by the tokens it is over; the loss was divided by those of all batches (1.26 of it, or .82)."""
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(30))
    rows = ({"prompt": f"how is {n}?", "response": text} for n, text in enumerate(texts))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = pairs_data(tmp_path / "rows.jsonl", batching=Batching(groups=8, tokens=500), splits=Splits(0.7))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(limit_val_batches=2, **quiet)
    (found,) = trainer.validate(SFTModule(Backbone(str(model_folder), layout=layout, check=False)), data, verbose=False)
    assert 2 <= found["val/rows"] < 20
    assert found["val/loss"] == pytest.approx(found["val/nll"], rel=1e-6)


class Ids(L.Callback):
    """Notes which rows each step has."""

    def __init__(self) -> None:
        self.found: list[set[str]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.found.append(set(batch.ids))


@pytest.mark.parametrize(("limit", "same"), [("overfit_batches", True), ("limit_train_batches", False)])
def test_batches_to_overfit_are_the_same_in_every_epoch(
    model_folder: Path, pairs_file: Path, limit: str, same: bool
) -> None:
    ids = Ids()
    module = SFTModule(Backbone(str(model_folder), check=False))
    fit(module, pairs_data(pairs_file), callbacks=[ids], max_epochs=2, **{limit: 1})
    first, second = ids.found
    assert (first == second) == same
