"""Rounds that would have nothing: prompts without room for a response are passed over; an empty round can be made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import DataError, ResumeError
from align.models.backbone import Backbone
from align.modules.group_policy import GroupPolicyModule
from align.rounds.round_folder import RoundFolder
from align.rounds.round_store import RoundStore
from align.sampling.generation import Generation
from tests.modules.fitting import fit, pairs_data
from tests.rounds.runs import world_model
from tests.rounds.test_online import CONSTANT, rounds
from tests.rounds.test_round_loader import Told, resampling, rows, run

__all__ = ["world_model"]


def test_prompts_that_leave_no_room_are_passed_over(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A token is a byte here, of 512 that prompt and response may have together; a round of such a prompt alone ended a run."""
    asked = [f"{n}?" for n in range(3)] + [f"{n}" * 520 for n in range(3)]
    Path("data.jsonl").write_text(
        "".join(json.dumps({"prompt": p, "chosen": "a", "rejected": "b"}) + "\n" for p in asked)
    )
    module = GroupPolicyModule(Backbone(str(model_folder)), optimizer=CONSTANT)
    generation = Generation(max_new_tokens=4, num_samples=2)
    taken = rounds(scorer=Told(), prompts=1, generation=generation, direction=resampling().settings.direction)
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        fit(module, pairs_data(Path("data.jsonl"), groups=1), callbacks=[taken], max_epochs=4, default_root_dir="run")
    assert "rounds: 3 of 6 prompts have over 508 tokens and are left out" in caplog.text
    names = [row["id"].split("@")[0] for number in range(4) for row in rows(number)]
    assert sorted(names[:3]) == ["line 1", "line 2", "line 3"]
    assert names[3] == names[0]  # from the start again


def test_a_round_that_gave_nothing_is_made_anew_by_other_settings(world_model: Path) -> None:
    """It ended the run for good: what its error advises was refused as the settings of another round."""
    told = Told(lambda text: float(len(text)) if len(told.asked) <= 6 * 4 else 1.0)
    with pytest.raises(
        DataError, match=r"round 1 gives nothing .*rewards too close.*--ckpt_path of the last checkpoint"
    ):
        run(world_model, resampling(told))
    assert len(RoundStore(Path("run/rounds/rounds.sqlite")).samples(1)) == 24
    more = Generation(max_new_tokens=5, num_samples=5, batch_tokens=200)
    run(world_model, resampling(Told(), generation=more))
    assert len(RoundStore(Path("run/rounds/rounds.sqlite")).samples(1)) == 30
    assert rows(1)


def test_a_round_that_may_give_something_is_not(tmp_path: Path) -> None:
    made = RoundFolder(tmp_path)
    assert made.begin(0, "weights", "settings") == []
    with pytest.raises(ResumeError, match="begun with other settings"):
        made.begin(0, "weights", "others")
    made.store.came_to_nothing(0)
    assert made.begin(0, "weights", "settings") == []  # as it was: its samples are kept for a scorer that is mended
    assert made.begin(0, "weights", "others") == []
    with pytest.raises(ResumeError, match="begun with other settings"):
        made.begin(0, "weights", "settings")
