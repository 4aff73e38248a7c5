"""Every shipped YAML is clean, and trains for two batches here, in tests/test_fragments.py or beside its server."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from align.cli.lightning import AlignCLI
from align.cli.main import main
from align.cli.yaml_check import check_config
from align.data.helpsteer import ATTRIBUTES
from align.data.hh_rlhf import SUBSETS
from align.data.ultrafeedback_rows import ASPECTS
from align.objectives.objective import Objective
from align.objectives.reward import RewardObjective
from tests.cli.pluggable import subclasses
from tests.modules.aligned import adapters
from tests.tiny import FEW_SAMPLES, WORDS, save_reward_model, save_tiny

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name not in ("probe", "annotation"))
METHOD = str(ROOT / "configs" / "method" / "dpo.yaml")
CPU = str(ROOT / "configs" / "trainer" / "cpu.yaml")


class ParseOnly(AlignCLI):
    """Parses and builds nothing."""

    def before_instantiate_classes(self) -> None: ...
    def instantiate_classes(self) -> None: ...
    def _run_subcommand(self, subcommand: str) -> None: ...
    def _add_instantiators(self) -> None: ...
    def after_instantiate_classes(self) -> None: ...


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


SYNTHETIC = [
    *("-c", str(ROOT / "configs" / "data" / "synthetic.yaml")),
    *("--data.preferences.size", "12", "--data.preferences.held_out_size", "2"),
]
GOLD = {
    "gold": "dpo",
    "on_policy_dpo": "dpo",
    "online_dpo": "dpo",
    "pilaf": "dpo",
    "xpo_rounds": "xpo",
    "nash_md_rounds": "nash_md",
    "inpo_rounds": "inpo",
    "iterative_dpo": "dpo",
    "raft": "sft",
    "pro_bootstrap": "pro",
    "dpa_synthetic": "dpa",
    "sppo_rounds": "sppo",
    "online": "grpo",
    "online_ppo": "ppo",
    "online_servers": "grpo",
}
"""Fragments that need the synthetic world, by method."""


ONLINE = {
    **dict.fromkeys(("grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "rloo", "reinforce_pp"), "online"),
    "ppo": "online_ppo",
    "nash_md": "nash_md_rounds",
}
"""Methods that train on their own samples, by the fragment that draws them."""
IN_ROUNDS = {**ONLINE, "xpo": "xpo_rounds"}
"""These, and methods that train on pairs of their own."""
PAIR_ROUNDS = ("online_dpo", "pilaf", "xpo_rounds", "nash_md_rounds", "inpo_rounds")
ROUNDS = ("iterative_dpo", "on_policy_dpo", *PAIR_ROUNDS, "pro_bootstrap", "raft", "online", "online_ppo", *IN_ROUNDS)
"""Fragments that sample before every epoch."""
ONE_ROUND = {"dpa": "2", "steerlm": "2", "dpa_synthetic": "1"}
"""Epochs of the first round; later ones sample, which tests/rounds/test_directional.py does with a model that ends."""

FIRST_STAGE = {
    "rahf_single": ["."],
    **{key: ["good", "bad"] for key in ("rahf_dual", "rahf_dual_code", "rahf_dual_paper")},
}
"""A second stage, and the adapters it starts from."""


def words(path: Path, data: str = "x", model: str = "y") -> list[str]:
    """The command line a fragment is meant for: what it leaves open is filled in around it."""
    if path.stem in GOLD:
        method = str(ROOT / "configs" / "method" / f"{GOLD[path.stem]}.yaml")
        return ["fit", "-c", method, *SYNTHETIC, "-c", str(path), "--model.backbone.path", model]
    if path.stem in IN_ROUNDS:
        rounds = str(ROOT / "configs" / "callbacks" / f"{IN_ROUNDS[path.stem]}.yaml")
        return ["fit", "-c", str(path), *SYNTHETIC, "-c", rounds, "--model.backbone.path", model]
    kind = path.relative_to(ROOT / "configs").parts[0]
    method = [] if kind in ("method", "quick_start.yaml") else ["-c", METHOD]
    source = [] if kind in ("data", "quick_start.yaml") else ["--data", "PreferenceFileDataModule", "--data.path", data]
    return ["fit", *method, *source, "-c", str(path), "--model.backbone.path", model]


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_every_config_is_clean(path: Path) -> None:
    check_config(str(path))
    assert path.read_text().startswith(("#", "trainer:"))  # says what it is for


def test_every_objective_has_a_config() -> None:
    text = "\n".join(p.read_text() for p in (ROOT / "configs" / "method").glob("*.yaml"))
    modules = (
        "SFTModule",
        "DPARSFModule",
        "RewardModel",
        "DPOModule",
        "XPOModule",
        "PROModule",
        "HIRModule",
        "PreferredDispreferredModule",
        "GroupPolicyModule",
        "PPOModule",
    )
    names = (
        *modules,
        "RAHFSingleModule",
        "RAHFDualModule",
        "Cached",
        "BiasCorrectedReference",
        "MovingReference",
        "ReferenceMixture",
        *sorted(concrete_objectives()),
    )
    for name in names:
        assert re.search(rf"class_path: align\.\S+\.{name}\b", text), name


def concrete_objectives() -> set[str]:
    """Every objective class that no other is derived from, but the sum of single-response losses."""
    for path in (ROOT / "align" / "objectives").glob("*.py"):
        importlib.import_module(f"align.objectives.{path.stem}")
    kinds = [*subclasses(Objective), *subclasses(RewardObjective)]
    return {kind.__name__ for kind in kinds if not subclasses(kind)} - {"PointSum"}


def two_batches(arguments: list[str], run: Path) -> None:
    limits = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", *FEW_SAMPLES]
    code = main([*arguments, "-c", CPU, *limits, "--trainer.default_root_dir", str(run)])
    assert code == 0
    assert any((run / "model").rglob("*.safetensors"))
    assert (run / "config.yaml").exists()


SCORED = {
    *("dro", "filtered_likelihood", "reward_weighted", "score_conditioned", "sppo"),
    *("lipo", "set_contrast", "infonca", "nca"),
}
"""Methods on responses with a graded score each, alone or in lists."""


VARIANTS = {
    *(
        "apo_down",
        "apo_zero",
        "bco_pair",
        "nca_pair",
        "cdpo",
        "robust_dpo",
        "vpo",
        "hinge",
        "dpo_cached",
        "bema_dpo",
        "tr_dpo",
        "sppo_hard",
        "sft_pro",
    ),
    *("pro_first_term", "pro_no_sft", "pro_no_temperature", "pro_released", "rahf_dual_code", "rahf_dual_paper"),
    *("dr_grpo", "dapo", "gspo", "cispo", "sapo", "reinforce_pp", "rloo", "online", "online_ppo", *PAIR_ROUNDS),
    *("rahf_single_stage1_paper", "reward_model_flip", "reward_model_scaled", "reward_model_soft", "bfloat16_lora"),
    *("aot_unpaired", "cpl", "cpo", "discopop", "dpo_norm", "exo", "f_dpo", "ld_dpo", "mnpo", "rpo", "slic", "wpo"),
    *("infonca", "lipo", "list_softmax", "list_sum", "nca", "set_contrast", "pair_sum"),
    *("filtered_likelihood", "reward_weighted", "more_samples", "on_policy_dpo"),
    "qlora",
}
"""Other values of another fragment's settings, or trained elsewhere as well: the long proofs run them."""


def filled_in(path: Path, tmp_path: Path, model_folder: Path) -> list[str]:
    """Return the settings that a fragment leaves open or that are too long here, and make the models they name."""
    if path.stem == "rewards":
        save_reward_model(Path("runs/reward_model/model"))
    if path.stem in ("dpa", "steerlm"):
        outputs = (*(f"uf-{a}" for a in ASPECTS), "hs-verbosity")
        save_reward_model(Path("runs/reward_model_multi/model"), outputs=outputs)
    more = ["--trainer.max_epochs", ONE_ROUND[path.stem]] if path.stem in ONE_ROUND else []
    if path.stem in (*ROUNDS, "dpa"):
        tokens = "120" if path.stem == "pro_bootstrap" else "8"  # the tiny model seldom ends; PRO takes whole ones only
        more += ["--trainer.callbacks.generation.max_new_tokens", tokens]
    if path.stem in ROUNDS:
        more += ["--trainer.callbacks.prompts", "40", "--trainer.max_epochs", "2"]
    if path.stem.startswith(("rahf", "hir")):
        save_tiny(model_folder, max_position_embeddings=2048)  # prompts under its long instructions are not cut
    if path.stem in FIRST_STAGE:
        more = ["--model.stage1", str(adapters(model_folder, tmp_path / "first", FIRST_STAGE[path.stem]))]
    if path.stem == "gold":
        more = ["--trainer.callbacks.harmless", "6", "--trainer.callbacks.harmful", "4"]  # of 96 and 60
    if path.stem in ("tr_dpo", "bema_dpo"):
        more = ["--model.reference.every_n_steps", "1"]  # of two, in place of 512 or 400
    return more


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p.stem in VARIANTS else [])
        for p in CONFIGS
        if p.parent.name in ("method", "model", "callbacks")
        and p.stem
        not in ("judge", "sppo_rounds", "pro_two_rewards", "self_rewarding", "verifiable_rewards", "online_servers")
    ],
    ids=relative,
)
def test_methods_and_fragments_run(path: Path, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """The judge's fragment needs a server and runs in tests/judges; those of servers, SPPO, functions and others in tests/rounds."""
    if path.stem == "qlora":
        pytest.importorskip("bitsandbytes")
    more = filled_in(path, tmp_path, model_folder)
    if path.stem == "reward_model_multi":
        data = ["--data", "HelpSteerDataModule", "--data.path", sample_data("helpsteer2", tmp_path / "data")]
        two_batches(["fit", "-c", str(path), *data, "--model.backbone.path", str(model_folder)], tmp_path / "run")
        return
    data = tmp_path / "scored.jsonl" if path.stem in SCORED else pairs_file
    if path.stem in SCORED:
        rows = [{"prompt": w, "completions": ["yes", f"no {w}"], "scores": [0.75, 0.25]} for w in WORDS]
        data.write_text("\n".join(map(json.dumps, rows)))
    two_batches([*words(path, str(data), str(model_folder)), *more], tmp_path / "run")


def sample_data(kind: str, folder: Path) -> str:
    """A small folder or file in the dataset's own layout."""
    folder.mkdir()
    if kind.startswith("hh"):
        for subset in SUBSETS:
            rows = [
                {k: f"\n\nHuman: {w} {n}\n\nAssistant: {k} {w}" for k in ("chosen", "rejected")}
                for n, w in enumerate(WORDS)
            ]
            (folder / subset).mkdir()
            (folder / subset / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return str(folder)
    rows: list[dict[str, Any]]
    if kind == "ultrafeedback":
        rated = [{"response": f"r{i}", "annotations": {"helpfulness": {"Rating": str(i)}}} for i in range(1, 5)]
        rows = [{"instruction": w, "completions": rated} for w in WORDS]
    elif kind == "ultrafeedback_binarized":
        rows = [
            {"prompt": w, "chosen": f"good {w}", "rejected": "bad", "score_chosen": 9, "score_rejected": 2}
            for w in WORDS
        ]
    else:
        rows = [{"prompt": w, "response": f"r{i}", **dict.fromkeys(ATTRIBUTES, i)} for w in WORDS for i in (1, 3)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.parent.name == "data"], ids=relative)
def test_data_configs_run(path: Path, tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    arguments = words(path, str(pairs_file), str(model_folder))
    if path.stem == "mixture":
        text = path.read_text().replace("nvidia/HelpSteer2", sample_data("helpsteer2", tmp_path / "a"))
        own = tmp_path / "mixture.yaml"
        own.write_text(text.replace("Anthropic/hh-rlhf", sample_data("hh", tmp_path / "b")))
        arguments = [str(own) if word == str(path) else word for word in arguments]
    elif path.stem == "ultrafeedback_helpsteer":
        text = path.read_text().replace("nvidia/HelpSteer", sample_data("helpsteer2", tmp_path / "a"))
        own = tmp_path / "mixture.yaml"
        own.write_text(text.replace("openbmb/UltraFeedback", sample_data("ultrafeedback", tmp_path / "b")))
        arguments = [str(own) if word == str(path) else word for word in arguments]
        arguments[arguments.index(METHOD)] = str(ROOT / "configs" / "method" / "reward_model_multi.yaml")
    elif path.stem == "synthetic":
        arguments += SYNTHETIC[2:]
    else:
        arguments += ["--data.path", sample_data(path.stem, tmp_path / "data")]
    two_batches(arguments, tmp_path / "run")


def test_quick_start_runs(tmp_path: Path, model_folder: Path) -> None:
    path = ROOT / "configs" / "quick_start.yaml"
    two_batches(
        [*words(path, model=str(model_folder)), "--data.path", sample_data("hh", tmp_path / "data")], tmp_path / "run"
    )


def scalars(run: Path, tag: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return [event.value for event in events.Scalars(tag)]
