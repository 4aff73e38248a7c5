"""No call in the source may run code of others: every loader says so itself, and nothing unpickles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for part in ("align", "callbacks", "benchmarks") for path in ROOT.glob(f"{part}/**/*.py"))
LOADERS = {"from_pretrained", "from_config", "load_dataset", "LLM", "HFLM", "pipeline"}
"""`load_dataset_builder` is none: datasets runs no code of a dataset from version 4 on, and it takes no such argument."""
WITHOUT = {"PeftConfig"}
"""Owners whose `from_pretrained` reads JSON alone and has no such argument."""
DECIDES = {"may_run_code"}
"""What tells whether the command line trusts a folder; a name assigned from it will do as well."""
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNS = {"eval", "exec", "__import__"}


def faults(tree: ast.Module) -> Iterator[str]:
    decided = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(_decides(part) for part in _parts(node.value))
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in PICKLES)
        if isinstance(node, ast.Call):
            yield from _faults_of(node, decided)


def _faults_of(call: ast.Call, decided: set[str]) -> Iterator[str]:
    name, owner = _named(call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in LOADERS and owner not in WITHOUT:
        value = given.get("trust_remote_code")
        safe = isinstance(value, ast.Constant) and value.value is False
        if not (safe or _decides(value) or (isinstance(value, ast.Name) and value.id in decided)):
            yield f"line {call.lineno}: {name} without trust_remote_code"
    if (owner, name) == ("torch", "load") or (name == "load_checkpoint" and owner == "super"):
        value = given.get("weights_only")
        if not (isinstance(value, ast.Constant) and value.value is True):
            yield f"line {call.lineno}: {name} without weights_only=True"
    if owner in ("np", "numpy") and name == "load" and "allow_pickle" in given:
        yield f"line {call.lineno}: numpy may unpickle"
    if (owner, name) in (("yaml", "load"), ("yaml", "full_load"), ("yaml", "unsafe_load"), ("torch", "hub")):
        yield f"line {call.lineno}: {owner}.{name}"
    if owner == "" and name in RUNS:
        yield f"line {call.lineno}: {name}"


def _named(func: ast.expr) -> tuple[str, str]:
    """Return what is called, and on what."""
    if isinstance(func, ast.Name):
        return func.id, ""
    if not isinstance(func, ast.Attribute):
        return "", ""
    inner = func.value.func if isinstance(func.value, ast.Call) else func.value
    return func.attr, inner.id if isinstance(inner, ast.Name) else getattr(inner, "attr", "?")


def _parts(value: ast.expr) -> list[ast.expr]:
    return list(value.elts) if isinstance(value, ast.Tuple) else [value]


def _decides(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and _named(value.func)[0] in DECIDES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_may_run_code_of_others(path: Path) -> None:
    assert list(faults(ast.parse(path.read_text()))) == []


def test_loaders_are_found_at_all() -> None:
    """The rule would hold of nothing otherwise."""
    text = "".join(path.read_text() for path in FILES if "benchmarks" not in path.parts)
    assert text.count("trust_remote_code=") >= 12


@pytest.mark.parametrize(
    "line",
    [
        "AutoTokenizer.from_pretrained(path)",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=None)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "auto.from_config(config, trust_remote_code=settings.trust)",
        "datasets.load_dataset(path)",
        "vllm.LLM(model=base)",
        "pipeline('x', model)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "super().load_checkpoint(path, weights_only=None)",
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
    ],
)
def test_the_rule_would_catch(line: str) -> None:
    assert list(faults(ast.parse(line)))


def test_the_rule_lets_pass_what_is_safe() -> None:
    code = "trusted, own = may_run_code(path), 1\nAutoTokenizer.from_pretrained(path, trust_remote_code=trusted)\n"
    assert not list(faults(ast.parse(code + "model.eval()\ntorch.load(path, weights_only=True)")))
