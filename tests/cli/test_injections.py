"""Settings that would have code of others imported, called or unpickled: refused, and nothing of it has run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from align.cli.yaml_check import check_config
from align.errors import ConfigError

pytestmark = pytest.mark.injection
PATHS = [
    *("os.system", "subprocess.Popen", "subprocess.run", "pickle.loads", "marshal.loads", "builtins.eval"),
    *("builtins.exec", "importlib.import_module", "runpy.run_path", "shutil.rmtree", "torch.load", "torch.hub.load"),
    *("torch.nn.Linear", "numpy.load", "yaml.unsafe_load", "joblib.load", "intruder.Callback", "intruder"),
    *("align..intruder.Callback", "align.cli.main.os.system", "lightning.pytorch.trainer.trainer.os.system"),
    *("align.callbacks.checkpoint.os.system", ".intruder.Callback", "intruder:Callback", "__main__.Callback"),
    *("lightning.pytorch.callbacks.ModelCheckpoint.__init__.__globals__", "align.cli.export.build_module"),
]
PLACES: dict[str, str] = {
    "callback": "trainer: {callbacks: [{class_path: %s, init_args: {args: [touch, was-here]}}]}",
    "logger": "trainer: {logger: {class_path: %s}}",
    "model": "model: {class_path: %s}",
    "objective": "model: {init_args: {objective: {class_path: %s}}}",
}


@pytest.fixture
def intruder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package within reach that leaves a mark when it is imported."""
    (tmp_path / "intruder.py").write_text(
        "import pathlib\npathlib.Path('was-here').touch()\nfrom lightning.pytorch import Callback\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "was-here"


@pytest.mark.parametrize(("path", "place"), list(zip(PATHS, cycle(PLACES), strict=False)))
def test_class_paths(path: str, place: str, intruder: Path, told: Callable[..., str], fit_words: list[str]) -> None:
    Path("own.yaml").write_text(PLACES[place] % path)
    assert told(*fit_words, "-c", "own.yaml")
    assert not intruder.exists()
    assert "intruder" not in sys.modules


@pytest.mark.parametrize(
    "tag",
    [
        *("!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os.system"),
        *(
            "!!python/module:intruder",
            "!!python/object:intruder.Callback",
            "!!python/tuple",
            "!include",
            "!env",
            "!!js",
        ),
        "!<tag:yaml.org,2002:python/object/apply:os.system>",
    ],
)
def test_tags(tag: str, intruder: Path) -> None:
    for text in (f"a: {tag} [touch was-here]", f"a: {tag} x", f"? {tag} x\n: 1", f"{tag} {{a: 1}}"):
        Path("own.yaml").write_text(text)
        with pytest.raises(ConfigError):
            check_config("own.yaml")
        assert not intruder.exists()
