"""The program `align`: finds the verb, runs it, and turns a user's mistake into one line and an exit code.

Nothing heavy is imported before the verb is known, so that `align --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from align import __version__
from align.errors import AlignError, did_you_mean

LIGHTNING_VERBS = {
    "fit": "train a method and export the model",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split",
    "predict": "score the validation split",
}
OTHER_VERBS = {
    "doctor": "check a run before it starts: versions, model, memory, decoded examples, dropped rows",
    "generate": "sample completions from a model folder",
    "evaluate": "rewards, text measures and a judge's verdicts on model folders",
    "probe": "differences between prompts that differ in one attribute",
    "export": "write a model folder from a run's checkpoint, merged if asked",
    "synthetic-base": "train the base model of the synthetic world from scratch",
    "synthetic-data": "write the synthetic world's data as files in the field's formats",
    "init-model": "make a small random Llama around a tokenizer, to try things out",
}
HELP = """usage: align VERB [options]

Preference alignment of language models.

{verbs}

  align fit -c configs/method/dpo.yaml --data HHRLHFDataModule --data.path FILE_OR_DIR_OR_HUB_ID \\
            --model.backbone.path DIR_OR_HUB_ID [--model.backbone.lora.r 16]

align VERB --help          the options of a verb
align VERB ... --debug     the traceback of an error
align --version            the version"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        verbs = {**LIGHTNING_VERBS, **OTHER_VERBS}
        print(HELP.format(verbs="\n".join(f"  {verb:<16}{text}" for verb, text in verbs.items())))
        return 0
    if words[0] == "--version":
        print(f"align {__version__}")
        return 0
    try:
        return _verb(words[0])(words)
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except Exception as error:
        line, code = _explained(error)
        if debug or line is None:
            raise
        print(f"align {words[0]}: {line}", file=sys.stderr)
        return code


def _verb(word: str) -> Callable[[list[str]], int]:
    if word in LIGHTNING_VERBS:
        run: Callable[[list[str]], int] = importlib.import_module("align.cli.lightning").run
        return run
    if word in OTHER_VERBS:
        module = importlib.import_module(f"align.cli.{word.replace('-', '_')}")
        return lambda words: module.run(words[1:])
    raise AlignError(f"unknown verb {word!r}{did_you_mean(word, {**LIGHTNING_VERBS, **OTHER_VERBS})}: see align --help")


def _explained(error: Exception) -> tuple[str | None, int]:
    """Return one line and an exit code for a user's mistake, None for anything else."""
    if isinstance(error, AlignError):
        return " ".join(str(error).split()), error.exit_code
    if "jsonargparse" in sys.modules:
        from align.cli.messages import explain

        return explain(error), 2
    return None, 1


def entry() -> None:
    """Run the program and exit; what the installed command calls."""
    sys.exit(main())
