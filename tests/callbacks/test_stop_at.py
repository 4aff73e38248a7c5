"""`StopAt` ends a run where Lightning's `max_steps` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.callbacks.stop_at import StopAt
from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from tests.modules.fitting import fit, pairs_data


def steps(folder: Path, pairs: Path, **options: Any) -> int:
    module = SFTModule(Backbone(str(folder)))
    fit(module, pairs_data(pairs, groups=4), limit_train_batches=4, default_root_dir="run", **options)
    return module.global_step


@pytest.mark.parametrize("least", [{}, {"min_steps": 1}, {"min_epochs": 2}, {"min_epochs": 3, "min_steps": 5}])
@pytest.mark.parametrize("limit", [3, 6])
def test_it_goes_before_the_least_steps_and_epochs_as_max_steps_does(
    limit: int, least: dict[str, int], model_folder: Path, pairs_file: Path
) -> None:
    expected = steps(model_folder, pairs_file, max_steps=limit, max_epochs=4, **least)
    assert steps(model_folder, pairs_file, max_epochs=4, callbacks=[StopAt(limit)], **least) == expected == limit
