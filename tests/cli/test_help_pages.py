"""Help is there at once, and says what the parsers say."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from align.cli import help_pages
from align.cli.main import main
from align.cli.verbs import LIGHTNING_VERBS


def test_pages_are_what_the_parsers_make() -> None:
    """In a process of its own: other tests' classes are known in this one."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        pytest.skip("argparse lays its text out in another way since 3.13")
    check = [sys.executable, "-m", "align.cli.help_pages", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"stale: {done.stdout.split()}: run `python -m align.cli.help_pages`\n{done.stderr[-900:]}"
    )


@pytest.mark.parametrize("words", help_pages.commands(), ids=" ".join)
def test_every_verb_has_a_page(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"align {'[options] ' if words[0] in LIGHTNING_VERBS else ''}{' '.join(words)}" in page
    assert help_pages.help_page([*words, "--help"]) == page


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom align.cli.main import main\n"
        "assert main(['fit', '--help']) == 0 and main(['generate', '-h']) == 0\n"
        "print([m for m in ('torch', 'transformers', 'lightning', 'jsonargparse', 'datasets') if m in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.splitlines()[-1] == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5  # CPU seconds


def test_other_words_and_other_parsers_go_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    assert help_pages.help_page(["fit", "--model.help", "DPOModule"]) is None
    assert help_pages.help_page(["fit", "-c", "x", "--help"]) is None
    assert help_pages.help_page(["export", "vectors", "--help"]) is None
    assert help_pages.help_page(["..", "--help"]) is None
    monkeypatch.setattr(help_pages, "parsers", lambda: "lightning 3.0\n")
    assert help_pages.help_page(["fit", "--help"]) is None


def test_no_page_holds_a_place_of_the_machine_that_made_it() -> None:
    for path in help_pages.FOLDER.glob("*.txt"):
        assert os.path.dirname(sys.prefix) not in path.read_text()
        assert str(help_pages.FOLDER.parents[1]) not in path.read_text()
