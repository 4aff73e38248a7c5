"""The program `align`: finds the verb, runs it, and turns a user's mistake into one line and an exit code.

Nothing heavy is imported before the verb is known, so that `align --help` answers at once.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

from align import __version__
from align.cli.help_pages import help_page
from align.cli.paths_as_classes import check_classes
from align.cli.renamed import RENAMED_VERBS
from align.cli.secrets import check_words
from align.cli.trusting import take_trust
from align.cli.verbs import (
    ALIASES,
    FIT_VERBS,
    GROUPS,
    LIGHTNING_VERBS,
    LISTED,
    command_of,
    group_help,
    module_of,
    verb_list,
)
from align.errors import AlignError, did_you_mean

HELP = """usage: align VERB [options]

Preference alignment of language models.

{verbs}

  align fit -c dpo --data HHRLHFDataModule --data.path FILE_OR_DIR_OR_HUB_ID \\
            --model.backbone.path DIR_OR_HUB_ID [--model.backbone.lora.r 16]

align VERB --help          the options of a verb
align VERB ... -c FILE     settings in YAML: a file, or one of `align config list`; may be repeated
align VERB ... --debug     the traceback of an error
align VERB ... --trust_remote_code
                           run the Python that a model folder brings; without it none runs, whatever a file says
align --version            the version"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad input, 3 a fault, 130 interrupted, 143 terminated."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        print("align: the reader of the output has gone away, expected it to stay to the end", file=sys.stderr)
        return 3
    except SystemExit as stop:
        if _terminated(stop):
            print(f"{_command(words)}: {_rank()}stopped by SIGTERM before it was done", file=sys.stderr)
            return 128 + signal.SIGTERM
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except Exception as error:
        line, code = _explained(error)
        if debug or line is None:
            raise
        command = _command(words)
        print(f"{command}: {_rank()}{line.replace('align VERB', command)}", file=sys.stderr)
        return code


def _terminated(stop: SystemExit) -> bool:
    """Tell whether Lightning ended because of SIGTERM, which it does without an exit code."""
    loaded = sys.modules.get("lightning.pytorch.utilities.exceptions")
    return loaded is not None and isinstance(stop, loaded.SIGTERMException)


def _command(words: list[str]) -> str:
    return " ".join(["align", *command_of(words)])


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(verbs=verb_list()))
        return 0
    if words[0] == "--version":
        print(f"align {__version__}")
        return 0
    for place, word in enumerate(words):
        _check_text(word, f"argument {place} of the command line")
    check_words(words)
    words = [ALIASES.get(words[0], words[0]), *words[1:]]
    words = take_trust(words)
    page = help_page(words)
    if page is not None:
        print(page, end="")
        return 0
    check_classes(words)
    return run_verb(words)


def _check_text(word: str, place: str) -> None:
    """Raise AlignError for bytes that the locale did not let Python read as text."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        raise AlignError(
            f"{place} is not readable as {encoding} text: set PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8"
        ) from error


def run_verb(words: list[str]) -> int:
    """Run a verb. Raises AlignError for one that there is not, or not by this name any more."""
    verb, below = words[0], GROUPS.get(words[0], {})
    if verb in RENAMED_VERBS:
        raise AlignError(f"this verb is align {RENAMED_VERBS[verb]} now")
    if verb not in LISTED:
        raise AlignError(f"unknown verb {verb!r}{did_you_mean(verb, LISTED)}: see align --help")
    command = command_of(words)
    if below and len(command) == 1:
        if not words[1:] or words[1] in ("-h", "--help"):
            print(group_help(verb))
            return 0
        raise AlignError(f"unknown verb {words[1]!r}{did_you_mean(words[1], below)}: one of {', '.join(below)}")
    # bitsandbytes, which PEFT imports, says at import which kernels of a CPU it lacks; 4 bits are computed without them
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: "gemm_4bit" not in record.getMessage())
    module = importlib.import_module(module_of(command))
    if verb in FIT_VERBS:
        code: int = module.run(words if verb in LIGHTNING_VERBS else words[1:])
        return code
    from align.cli.functions import run

    return run(module.VERB, words[len(command) :], " ".join(command))


def _explained(error: Exception) -> tuple[str | None, int]:
    """Return one line and an exit code for a user's mistake, None for anything else."""
    if isinstance(error, AlignError):
        return " ".join(str(error).split()), error.exit_code
    if "jsonargparse" not in sys.modules:
        return None, 1
    from align.cli.faults import explain_fault
    from align.cli.messages import explain

    line = explain(error)
    return (line, 2) if line is not None else explain_fault(error) or (None, 1)


def _rank() -> str:
    """Return which of several processes speaks."""
    if not {"RANK", "LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys():
        return ""
    from align.cli.launch import rank_of

    rank = rank_of()
    return "" if rank is None else f"rank {rank}: "


def entry() -> None:
    """Run the program and exit; what the installed command calls.

    Output that the locale cannot show is escaped, and a reader of it that has gone away is no reason for a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a process may be started without one
            stream.reconfigure(errors="backslashreplace")
    code = main()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go
        code = code or 3
    sys.exit(code)
