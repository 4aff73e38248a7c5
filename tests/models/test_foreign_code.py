"""Folders that bring code: none of it runs, nobody is asked, and the reason is one line."""

from __future__ import annotations

import builtins
import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, dynamic_module_utils

from align.cli.main import main
from align.errors import AlignError, ConfigError, ModelError
from align.models.backbone import Backbone
from align.models.foreign_code import trust_foreign_code
from align.models.loading import load_policy, load_reward_model
from align.models.tokenizer import load_tokenizer
from align.rewards.reward_model_scorer import RewardModelScorer
from align.rewards.text_classifier import TextClassifier
from tests.tiny import save_reward_model, save_tiny, tiny_tokenizer

CODE = """
import pathlib
pathlib.Path({ran!r}).touch()
from transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T
class Config(C): model_type = "foreign"
class Model(M): config_class = Config
class Tokenizer(T): pass
def generate(model, *args, **kwargs): return model
"""
EVERY = {
    "AutoConfig": "code.Config",
    "AutoModelForCausalLM": "code.Model",
    "AutoModelForSequenceClassification": "code.Model",
    "AutoTokenizer": [None, "code.Tokenizer"],
    "AutoProcessor": "code.Tokenizer",
}


def change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


class _Runs:
    """Runs code where it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.ran,)


def tokenizer_map(folder: Path) -> None:
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]})


def tokenizer_class(folder: Path) -> None:
    """No class of that name here, so that transformers would ask."""
    change(folder / "config.json", model_type="foreign", auto_map=EVERY)
    change(
        folder / "tokenizer_config.json", tokenizer_class="Foreign", auto_map={"AutoTokenizer": EVERY["AutoTokenizer"]}
    )


def tokenizer_list(folder: Path) -> None:
    change(folder / "config.json", model_type="foreign")
    change(folder / "tokenizer_config.json", tokenizer_class="Foreign", auto_map=["code.Tokenizer"])


def tokenizer_of_another(folder: Path) -> None:
    change(folder / "config.json", model_type="foreign")
    reference = f"{folder}--code.Tokenizer"
    change(folder / "tokenizer_config.json", tokenizer_class="Foreign", auto_map={"AutoTokenizer": [None, reference]})


def config_map(folder: Path) -> None:
    change(folder / "config.json", auto_map=EVERY)


def config_unknown(folder: Path) -> None:
    change(folder / "config.json", auto_map=EVERY, model_type="foreign", architectures=["Model"])


def config_without_type(folder: Path) -> None:
    known = json.loads((folder / "config.json").read_text())
    del known["model_type"]
    (folder / "config.json").write_text(json.dumps({**known, "auto_map": EVERY}))


def custom_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text((folder / "code.py").read_text())
    change(folder / "generation_config.json", custom_generate=str(folder), penalty_alpha=0.6, top_k=4)


def processor(folder: Path) -> None:
    change(folder / "processor_config.json", auto_map=EVERY, processor_class="Foreign")
    change(folder / "preprocessor_config.json", auto_map=EVERY)


def template(folder: Path) -> None:
    """The usual way out of a template: from a text to its class and all others."""
    ran = folder / "ran"
    escape = (
        f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}{{{{ cycler.__init__.__globals__.os.mknod('{ran}') }}}}"
    )
    (folder / "chat_template.jinja").write_text(escape)


def kernel(folder: Path) -> None:
    change(folder / "config.json", attn_implementation="someone/kernel", _attn_implementation="someone/kernel")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": _Runs(folder / "ran")}, folder / "pytorch_model.bin")


def pickled_beside(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scaler.pkl", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(_Runs(folder / "ran")))


def pickled_shards(folder: Path) -> None:
    torch.save({"a": _Runs(folder / "ran")}, folder / "shard.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": "shard.bin"}}))


def shards_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))


TRIES: list[Callable[[Path], None]] = [
    *(tokenizer_map, tokenizer_class, tokenizer_list, tokenizer_of_another, config_map, config_unknown),
    *(config_without_type, custom_generate, processor, template, kernel, pickled, pickled_beside, pickled_shards),
    shards_elsewhere,
]


def policy(path: str) -> None:
    backbone = Backbone(path)
    load_policy(backbone, load_tokenizer(backbone))


def random_policy(path: str) -> None:
    backbone = Backbone(path, random_init=True)
    load_policy(backbone, load_tokenizer(backbone))


def untold_policy(path: str) -> None:
    """A tokenizer from elsewhere, so that the model itself is reached."""
    load_policy(Backbone(path), tiny_tokenizer())


def reward_model(path: str) -> None:
    load_reward_model(Backbone(path), tiny_tokenizer(), ["reward"], "<pad>")


def adapter(path: str) -> None:
    """An adapter whose base is the folder."""
    folder = Path(path).parent / "adapter"
    good = save_tiny(Path(path).parent / "good")
    get_peft_model(AutoModelForCausalLM.from_pretrained(good), LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(
        folder
    )
    change(folder / "adapter_config.json", base_model_name_or_path=path)
    policy(str(folder))


def oracle(path: str) -> None:
    RewardModelScorer(path)


def classifier(path: str) -> None:
    TextClassifier(path).identity  # noqa: B018  asking for it loads the model


def verb(path: str) -> None:
    code = main(
        ["generate", "--model.path", path, "--prompt", "x", "--chat", "true", "--generation.max_new_tokens", "1"]
    )
    if code:
        raise ModelError(f"exit code {code}")


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Say yes to every question, and keep it."""
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "y")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return asked


@pytest.mark.injection
@pytest.mark.parametrize(
    "load", [policy, random_policy, untold_policy, reward_model, adapter, oracle, classifier, verb]
)
@pytest.mark.parametrize("attack", TRIES, ids=lambda attack: attack.__name__)
def test_no_code_runs_and_nobody_is_asked(
    attack: Callable[[Path], None], load: Callable[[str], None], tmp_path: Path, unasked: list[str]
) -> None:
    folder = (save_reward_model if load in (oracle, classifier) else save_tiny)(tmp_path / "attack")
    (folder / "code.py").write_text(CODE.format(ran=str(folder / "ran")))
    attack(folder)
    with contextlib.suppress(AlignError):  # most are refused; anything else would be a traceback
        load(str(folder))
    assert not (folder / "ran").exists()
    assert unasked == []


@pytest.mark.parametrize("attack", [tokenizer_class, config_unknown])
def test_the_reason_names_the_option(attack: Callable[[Path], None], tmp_path: Path, unasked: list[str]) -> None:
    folder = save_tiny(tmp_path / "attack")
    (folder / "code.py").write_text(CODE.format(ran=str(folder / "ran")))
    attack(folder)
    with pytest.raises(ModelError, match=r"brings Python code of its own, which is not run: .*--trust_remote_code"):
        policy(str(folder))


@pytest.mark.injection
def test_an_adapter_cannot_name_a_package_to_import(tmp_path: Path) -> None:
    folder, out = save_tiny(tmp_path / "base"), tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=2)).save_pretrained(out)
    change(out / "adapter_config.json", megatron_core="intruder", megatron_config={"a": 1})
    with pytest.raises(ModelError, match="megatron_core names a package that PEFT would import"):
        policy(str(out))


class TestTrust:
    @pytest.fixture
    def trusted(self) -> Any:
        trust_foreign_code(True)
        yield
        trust_foreign_code(False)

    def test_the_command_line_lets_it_run(self, tmp_path: Path, unasked: list[str], trusted: None) -> None:
        folder = save_tiny(tmp_path / "own")
        (folder / "code.py").write_text(CODE.format(ran=str(folder / "ran")))
        config_unknown(folder)
        policy(str(folder))
        assert (folder / "ran").exists()
        assert unasked == []

    def test_a_hub_id_needs_its_commit(self, trusted: None) -> None:
        with pytest.raises(ConfigError, match=r"pin the commit you have read with backbone.revision"):
            load_tokenizer(Backbone("someone/model", revision="main"))

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["report", "--trust_remote_code", "x"], "align report loads no model"),
            (["fit", "--trust_remote_code=yes"], "'yes': expected true or false"),
        ],
    )
    def test_wrong_uses_are_told(self, capsys: Any, words: list[str], line: str) -> None:
        assert main(words) == 2
        assert line in capsys.readouterr().err

    def test_it_holds_for_one_command(self, capsys: Any) -> None:
        from align.models.foreign_code import is_trusted

        main(["generate", "--trust_remote_code", "true"])
        assert is_trusted()
        main(["generate", "--trust_remote_code", "false"])
        assert not is_trusted()
        main(["generate", "--trust_remote_code"])
        main(["generate"])
        assert not is_trusted()


def test_configurations_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    """A map to code beside a type that transformers knows is no reason to refuse: its own class is taken."""
    folder = save_tiny(tmp_path / "tiny")
    config_map(folder)
    policy(str(folder))
    assert AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type == "llama"
