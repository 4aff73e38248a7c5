"""Chain of Hindsight as rows: the loss of its sequences, and what each row holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.data.hindsight import Hindsight
from align.data.source import DroppedRow
from align.data.views import Singles
from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.modules.sft import SFTModule
from align.records import CandidateBatch, Example, Message
from tests.modules.fitting import fit, pairs_data
from tests.tiny import tiny_tokenizer

PAIR = Example(
    "e",
    (Message("user", "a cat?"),),
    ("bad one", "good one"),
    attributes=("a",),
    scores=((1.0,), (2.0,)),
    ranking=((1,), (0,)),
)
VIEW = Hindsight("G:", "B:")


def test_rows_and_weights() -> None:
    rows = {row.id: row for row in VIEW.groups(PAIR)}
    assert {name: row.weight for name, row in rows.items()} == {"e#p": 2, "e#n": 2, "e#np": 1, "e#pn": 1}
    assert rows["e#p"].messages[-1].content == "a cat?\n\nG:"
    assert rows["e#np"].messages == (
        Message("user", "a cat?\n\nB:"),
        Message("assistant", "bad one"),
        Message("user", "G:"),
    )
    assert rows["e#np"].responses == ("good one",)
    assert [r.id for r in Hindsight(forms=["p"]).groups(PAIR)] == ["e#p"]
    assert {r.id: r.weight for r in Hindsight(forms=["np"]).groups(PAIR)} == {"e#n": 1, "e#np": 1}
    with pytest.raises(DroppedRow, match="identical"):
        list(VIEW.groups(Example("x", PAIR.messages, ("same", "same"), ranking=((0,), (1,)))))
    with pytest.raises(ConfigError, match="forms"):
        Hindsight(forms=[])


def test_rows_give_the_loss_of_the_whole_sequence(model_folder: Path) -> None:
    """Form `np` as one sequence with loss on both answers equals its two rows; marker tokens are never scored."""
    tokenizer = tiny_tokenizer()
    encoder = Encoder(tokenizer, make_template(tokenizer), Truncation())
    groups = encoder.encode(list(Hindsight("G:", "B:", ["np"]).groups(PAIR)))
    module = SFTModule(Backbone(str(model_folder), dtype="float64"), view="hindsight")
    module.build_model()
    batch = CandidateBatch.of(groups)  # type: ignore[arg-type]
    first, second = groups
    whole = [*second.prompt_ids, *second.response_ids[0]]  # type: ignore[union-attr]
    labels = torch.full((len(whole),), -100)
    answer = first.response_ids[0][:-1]  # type: ignore[union-attr]  # the transcript has no EOS inside
    start = len(first.prompt_ids)  # type: ignore[union-attr]
    assert whole[start : start + len(answer)] == answer
    labels[start : start + len(answer)] = torch.tensor(answer)
    labels[-len(second.response_ids[0]) :] = torch.tensor(second.response_ids[0])  # type: ignore[union-attr]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
    logits = model(torch.tensor([whole])).logits[0, :-1]
    scored = labels[1:] >= 0
    expected = logits.log_softmax(-1)[scored].gather(1, labels[1:][scored][:, None]).sum()
    scores = module.score(batch).logprobs
    eos = module.score(batch._replace(totals=batch.totals))  # the first row also scores the EOS of its answer
    prompt_and_answer = torch.tensor([[*first.prompt_ids, *answer]])  # type: ignore[union-attr]
    end = model(prompt_and_answer).logits[0, -1].log_softmax(-1)[encoder.template.eos_id]
    assert (scores.sum() - end).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(eos.logprobs, scores)


def test_it_trains_and_other_choices_of_a_response(model_folder: Path, pairs_file: Path) -> None:
    log = fit(SFTModule(Backbone(str(model_folder)), view="hindsight"), pairs_data(pairs_file), max_steps=2)
    assert log.series("train/loss")
    worst, drawn = (next(iter(Singles(kind).groups(PAIR))) for kind in ("worst", "random"))
    assert worst.responses == ("bad one",)
    assert drawn.responses[0] in PAIR.responses
    many = [next(iter(Singles("random").groups(Example(str(n), PAIR.messages, ("a", "b"))))) for n in range(200)]
    assert 60 < sum(row.responses == ("a",) for row in many) < 140  # a fair coin: 100, spread 7
