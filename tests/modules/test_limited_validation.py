"""Of a part of the held-out data the loss is that of its tokens, in every layout."""

from __future__ import annotations

import json
import random
from pathlib import Path

import lightning as L
import pytest

from align.data.batching import Batching
from align.data.splits import Splits
from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from tests.modules.fitting import pairs_data
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
