"""A sample that was cut off at its limit is trained on as it was drawn: no selection of texts teaches it to end there."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from align.data.drop_report import DroppedRow
from align.data.hindsight import Hindsight
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.hir import HIRModule
from align.modules.sft import SFTModule
from align.records import Instructions
from align.rounds.pair_selections import BestWorst
from align.rounds.rerank import AppendAndRerank
from align.rounds.selections import BestOfN
from align.sampling.generation import Generation
from tests.rounds.runs import world_model
from tests.rounds.test_online import CONSTANT, run
from tests.rounds.test_online_pairs import prompt_samples

__all__ = ["world_model"]


def watching(kind: type[Any], seen: dict[str, list[list[int]]]) -> type[Any]:
    """A method that notes the tokens of every response of a round that it computes a loss on."""

    class Watching(kind):  # type: ignore[misc]
        def loss(self, batch: Any, totals: Any) -> torch.Tensor:
            responses = iter(torch.split(batch.response_ids, list(batch.response_lengths)))
            for name, size in zip(batch.ids, batch.group_sizes, strict=True):
                seen[name] = [next(responses).tolist() for _ in range(size)]
            return super().loss(batch, totals)

    return Watching


@pytest.mark.parametrize(("kind", "selection"), [(DPOModule, BestWorst()), (SFTModule, BestOfN())])
def test_what_was_cut_off_has_no_end(kind: type[Any], selection: Any, world_model: Path) -> None:
    """Of a random model of some fifty words that draws up to 40 tokens, some samples end and some do not."""
    seen: dict[str, list[list[int]]] = {}
    module = watching(kind, seen)(Backbone(str(world_model)), optimizer=CONSTANT)
    run(module, 1, selection=selection, generation=Generation(max_new_tokens=40, num_samples=4), prompts=12)
    end = module.trainer.datamodule.encoder.template.eos_id
    with sqlite3.connect("run/rounds/rounds.sqlite") as db:
        rows = db.execute("SELECT text, ids FROM sample WHERE finish = 'length'").fetchall()
    cut = {text.strip(): json.loads(ids) for text, ids in rows}
    found = [json.loads(line) for line in Path("run/rounds/round-0000.jsonl").read_text().splitlines()]
    trained = [pair for row in found for pair in zip(row["responses"], seen[row["id"]], strict=True)]
    assert any(text in cut for text, _ in trained)
    assert any(text not in cut for text, _ in trained)
    for text, ids in trained:
        assert ids == cut[text] if text in cut else ids[-1] == end


def test_it_is_trained_on_under_instructions_too(world_model: Path) -> None:
    """HIR's prompts under the good and the bad instruction stand before the tokens, all of which were cut off."""
    module = HIRModule(Backbone(str(world_model)), instructions=Instructions("<good>", "<bad>"), optimizer=CONSTANT)
    run(module, 1, selection=BestWorst(), generation=Generation(max_new_tokens=5, num_samples=4))
    rows = [json.loads(line) for line in Path("run/rounds/round-0000.jsonl").read_text().splitlines()]
    assert all(len(ids) == 5 for row in rows for ids in row["response_ids"])
    example = replace(prompt_samples()[0].example, responses=("well",), response_ids=((7, 8),), whole=False)
    encoder = module.trainer.datamodule.encoder
    (drawn,) = encoder.encode([example])
    (text,) = encoder.encode([replace(example, response_ids=())])
    assert drawn.instructed_ids == text.instructed_ids
    assert drawn.prompt_ids == text.prompt_ids
    assert len({tuple(ids) for ids in (drawn.prompt_ids, *drawn.instructed_ids)}) == 3


def test_what_has_texts_beside_it_is_left_out() -> None:
    """The responses of the data have no tokens, and a marker after a response stands for its end."""
    (drawn, *_) = prompt_samples()
    cut = [c._replace(finish="length", ids=(5, 6)) for c in drawn.candidates[:2]]
    pair = drawn.record(cut, [0, 1])
    assert pair.response_ids == ((5, 6), (5, 6))
    assert drawn.record([c._replace(finish="eos") for c in cut], [0, 1]).response_ids == ()
    with pytest.raises(DroppedRow, match="cut off at its limit"):
        list(Hindsight().groups(pair))
    data = replace(drawn.example, responses=("well",), attributes=("reward",), scores=((0.0,),))
    beside = replace(drawn, example=data, candidates=(cut[0],))
    assert AppendAndRerank().of_prompt(beside) == "sample cut off at its limit"
