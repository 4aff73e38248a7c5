"""Models and data onto the hub: a stand-in on the loopback gets what lies here, and nothing is lost where it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import yaml

from align.cli.main import main
from tests.cli.hub import TOKEN, Hub, start
from tests.tiny import save_tiny


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found, server = start()
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", found.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # its storage is no part of the stand-in
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_tiny(tmp_path / "model")
    (folder / "README.md").write_text("---\ntags: [align]\n---\n\n# A model\n")
    (folder / ".part").write_text("left by a killed process")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


class TestPush:
    def test_a_folder_arrives_whole_and_private(self, hub: Hub, model: Path, capsys) -> None:
        assert main(["push", str(model), "me/tiny"]) == 0
        there = hub.repositories["me/tiny"]
        assert there.private
        assert there.branches["main"] == files_of(model)
        assert (
            f"files, {sum(map(len, files_of(model).values())):,} bytes of {model} are on {hub.url}/me/tiny (private)"
            in (capsys.readouterr().out)
        )
        (model / "README.md").write_text("# Another\n")
        assert main(["push", str(model), "me/tiny"]) == 0  # again: what is there is replaced
        assert there.branches["main"]["README.md"] == b"# Another\n"

    def test_public_and_a_branch_of_its_own(self, hub: Hub, model: Path) -> None:
        assert main(["push", str(model), "me/tiny", "--public", "true", "--revision", "step-10"]) == 0
        there = hub.repositories["me/tiny"]
        assert not there.private
        assert there.branches == {"main": {}, "step-10": files_of(model)}

    def test_nothing_private_becomes_public_by_the_way(self, hub: Hub, model: Path, told) -> None:
        assert main(["push", str(model), "me/tiny", "--public", "true"]) == 0
        assert "everybody can read it: add --public true" in told("push", str(model), "me/tiny")

    def test_dry_run_lists_and_asks_nobody(self, hub: Hub, model: Path, monkeypatch, capsys) -> None:
        monkeypatch.delenv("HF_TOKEN")
        assert main(["push", str(model), "me/tiny", "--dry_run"]) == 0
        said = capsys.readouterr().out
        for name, content in files_of(model).items():
            assert f"{len(content):>15,}  {name}" in said
        assert "dry run, nothing is uploaded" in said
        assert ".part" not in said
        assert hub.asked == []

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("me/x-401", "the hub answers 401, the token is missing or not valid: `hf auth login`, or set HF_TOKEN"),
            ("me/x-403", "the hub answers 403, the token may not write there"),
            ("them/create-403", "the hub answers 403, the token may not write there"),
            ("me/x-404", "the hub answers 404, no such repository or revision, or not for this token"),
            ("me/x-409", "the hub answers 409, somebody else has changed it meanwhile"),
            ("me/x-413", "the hub answers 413, a file is too large"),
            ("me/x-500", "the hub answers 500, which is its own fault: wait a little"),
        ],
    )
    def test_a_refusal_is_one_line_and_the_folder_stays(
        self, hub: Hub, model: Path, told, monkeypatch, name: str, reason: str
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        before = files_of(model)
        line = told("push", str(model), name, code=3)
        assert reason in line
        assert line.endswith(f"{model} is whole, this pushes it later: align push {model} {name}")
        assert TOKEN not in line
        assert files_of(model) == before

    def test_without_network_token_or_permission_to_ask(self, hub: Hub, model: Path, told, monkeypatch) -> None:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        words = ("push", str(model), "me/tiny", "--kind", "dataset", "--revision", "x y")
        later = f"align push {model} me/tiny --kind dataset --revision 'x y'"
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert "the hub cannot be reached (ConnectError): check the network" in told(*words, code=3)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set: unset it" in told(*words, code=3)
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(model / "none"))
        line = told(*words, code=3)
        assert "the token is missing or not valid" in line
        assert line.endswith(later)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (("push", "nowhere", "me/x"), "nowhere: no such folder, expected one to push"),
            (("push", ".", "me/x"), ".: no files, expected some to push"),
            (("push", ".", "a/b/c"), "--push_to_hub 'a/b/c': expected NAME or OWNER/NAME"),
            (("push", ".", "x y"), "--push_to_hub 'x y': expected NAME or OWNER/NAME"),
            (
                ("export", "--run", "x", "--out", "y", "--dry_run"),
                "--dry_run: belongs to --push_to_hub: add that",
            ),
            (("export", "--run", "x", "--out", "y", "--push_to_hub", "a/b/c"), "expected NAME or OWNER/NAME"),
            (
                ("data", "export", "x", "--out", "y.jsonl", "--view", "pairs", "--public", "true"),
                "--public: belongs to --push_to_hub: add that",
            ),
        ],
    )
    def test_wrong_commands(self, told, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
        assert line in told(*words)

    def test_a_card_with_a_key_stays_here(self, hub: Hub, model: Path, told) -> None:
        (model / "README.md").write_text(f"my token: {TOKEN}")
        line = told("push", str(model), "me/tiny")
        assert f"{model / 'README.md'} holds" in line
        assert TOKEN not in line
        assert hub.asked == []


class TestVerbs:
    def test_a_run_is_pushed_when_it_is_finished(self, hub: Hub, fit_words: list[str], tmp_path: Path, capsys) -> None:
        run = tmp_path / "run"
        words = [*fit_words, "--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(run)]
        assert main([*words, "--push_to_hub", "me/trained"]) == 0
        assert hub.repositories["me/trained"].branches["main"] == files_of(run / "model")
        everything = b"".join(p.read_bytes() for p in run.rglob("*") if p.is_file())
        assert TOKEN.encode() not in everything
        assert TOKEN not in "".join(capsys.readouterr())
        out = str(tmp_path / "out")
        assert main(["export", "--run", str(run), "--out", out, "--push_to_hub", "me/exported"]) == 0
        there = hub.repositories["me/exported"].branches["main"]
        assert there == files_of(Path(out))
        assert b"base_model" in there["README.md"]

    def test_a_push_that_fails_leaves_a_finished_run(
        self, hub: Hub, fit_words: list[str], tmp_path: Path, told
    ) -> None:
        run = tmp_path / "run"
        words = [*fit_words, "--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(run)]
        line = told(*words, "--push_to_hub", "me/x-403", code=3)
        assert line.endswith(f"this pushes it later: align push {run / 'model'} me/x-403")
        assert (run / "finished.json").exists()
        assert main(["push", str(run / "model"), "me/later"]) == 0
        assert hub.repositories["me/later"].branches["main"] == files_of(run / "model")

    def test_verbs_without_a_model(self, told, fit_words: list[str]) -> None:
        words = ["validate", *fit_words[1:], "--push_to_hub", "me/x"]
        assert "--push_to_hub: align validate writes no model: leave it out" in told(*words)
        assert "--public: belongs to --push_to_hub" in told(*fit_words, "--public", "true")

    @pytest.mark.parametrize("ending", ["jsonl", "parquet"])
    def test_data_with_their_card(self, hub: Hub, pairs_file: Path, tmp_path: Path, ending: str) -> None:
        out = tmp_path / f"out.{ending}"
        words = ["data", "export", str(pairs_file), "--out", str(out), "--view", "pairs", "--push_to_hub", "me/pairs"]
        assert main(words) == 0
        there = hub.repositories["me/pairs"]
        assert there.kind == "dataset"
        assert there.branches["main"][f"data/train.{ending}"] == out.read_bytes()
        card = there.branches["main"]["README.md"].decode()
        assert yaml.safe_load(card.split("---")[1])["configs"][0]["data_files"] == [
            {"split": "train", "path": f"data/train.{ending}"}
        ]
        assert "40 rows with the columns id, prompt, chosen, rejected" in card
        assert str(tmp_path) not in card
        folder = tmp_path / "again"
        for name, content in there.branches["main"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        opened = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(opened) == 40
        assert opened[0]["chosen"] == json.loads(pairs_file.read_text().splitlines()[0])["chosen"]

    def test_data_that_are_refused_stay_here(self, hub: Hub, pairs_file: Path, tmp_path: Path, told) -> None:
        out = tmp_path / "out.jsonl"
        words = ["data", "export", str(pairs_file), "--out", str(out), "--view", "pairs", "--push_to_hub", "me/x-403"]
        line = told(*words, code=3)
        assert line.endswith(f"{out} is whole, this pushes it later: the same command")
        assert len(out.read_text().splitlines()) == 40
        assert main([*words, "--dry_run"]) == 0
