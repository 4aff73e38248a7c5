"""Configs that come with the package: by name in every verb, listed, shown, copied; a file that is there wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli import shipped_configs
from align.cli.config_list import about
from align.cli.main import main
from align.cli.shipped_configs import FOLDER, config_place, find_shipped, shipped, with_shipped
from align.cli.yaml_check import check_configs
from align.errors import ConfigError
from tests.cli.conftest import told

__all__ = ["told"]
DPO = str(FOLDER / "method" / "dpo.yaml")


@pytest.mark.parametrize("name", ["dpo", "method/dpo", "configs/method/dpo.yaml", "dpo.yaml", "method/dpo.yaml"])
def test_a_name_is_that_of_a_shipped_config(name: str) -> None:
    assert config_place(name) == DPO
    check_configs(["-c", name])


@pytest.mark.parametrize("form", ["-c dpo", "-cdpo", "-c=dpo", "--config dpo", "--config=dpo"])
def test_every_way_to_name_one(form: str) -> None:
    found = with_shipped(["fit", *form.split(), "--x", "dpo"])
    assert DPO in (found[1].partition("=")[2], found[2])
    assert found[-1] == "dpo"


def test_a_file_that_is_there_wins() -> None:
    Path("dpo.yaml").write_text("seed_everything: 3\n")
    assert config_place("dpo") == config_place("dpo.yaml") == "dpo.yaml"
    assert config_place("method/dpo") == DPO
    Path("dpo").write_text("seed_everything: 4\n")
    assert config_place("dpo") == "dpo"


def test_a_folder_of_the_same_name_hides_none() -> None:
    """A run is often kept in `dpo`: what was given by that name was refused as no regular file."""
    Path("dpo").mkdir()
    assert config_place("dpo") == DPO
    check_configs(["-c", "dpo"])


def test_unknown_and_ambiguous_names_are_told(told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no shipped one has that name, did you mean 'dpo'" in told("fit", "-c", "dpoo")
    assert "config nowhere/x.yaml: cannot be read" in told("generate", "-c", "nowhere/x.yaml")
    twice = {"data/same": Path("a"), "method/same": Path("b")}
    monkeypatch.setattr(shipped_configs, "shipped", lambda: twice)
    with pytest.raises(ConfigError, match="config same: data/same and method/same are called so: name the folder too"):
        config_place("same")
    assert find_shipped("data/same") == Path("a")


def test_each_is_listed_with_what_it_says_of_itself(told, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    entries = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert len(entries) == len(shipped())
    assert all(entries.values())
    assert main(["config", "list", "trainer"]) == 0
    assert capsys.readouterr().out.startswith("trainer\n  cpu")
    assert "did you mean 'method'" in told("config", "list", "metod")
    assert about("# One\n# two.\nkey: 1 # three\n") == "One two."


def test_one_is_shown_and_copied_but_not_over_another(told, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(DPO).read_text(encoding="utf-8")
    assert main(["config", "show", "dpo"]) == 0
    assert capsys.readouterr().out == text
    assert main(["config", "copy", "dpo"]) == 0
    assert Path("dpo.yaml").read_text(encoding="utf-8") == text
    Path("dpo.yaml").write_text("mine\n")
    assert "dpo.yaml: there already, and stays as it is" in told("config", "copy", "dpo")
    assert Path("dpo.yaml").read_text() == "mine\n"
    assert main(["config", "copy", "dpo", "--out", "sub/other.yaml"]) == 0
    assert Path("sub/other.yaml").read_text(encoding="utf-8") == text
    assert "did you mean 'dpo'" in told("config", "show", "dpoo")
