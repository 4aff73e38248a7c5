"""What is collected of pairs does not depend on which of them are read together."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from align.evaluation.activation_collection import collect
from align.records import CandidateBatch
from tests.modules.aligned import instructed_groups, tiny


def test_the_unit_of_a_coefficient_is_a_mean_over_tokens(tmp_path: Path) -> None:
    """It was a mean over batches of the means of each."""
    model, groups = AutoModelForCausalLM.from_pretrained(tiny(tmp_path), dtype=torch.float64), instructed_groups()
    together, apart = (
        collect(model, map(CandidateBatch.of, parts), [1], 100) for parts in ([groups], [[group] for group in groups])
    )
    lengths = {sum(map(len, group.response_ids)) for group in groups}
    assert len(lengths) > 1
    torch.testing.assert_close(apart.norms, together.norms)
    torch.testing.assert_close(apart.pairs.chosen, together.pairs.chosen)
