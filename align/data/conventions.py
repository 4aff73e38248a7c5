"""Which convention a file follows: every one of them is an object here, and the first that fits a row reads it."""

from __future__ import annotations

from align.data import arenas, column_layouts, list_rows, pair_rows, released, steerlm
from align.data.column_layouts import DIALOGUES, ENTRY_GRADES, LABELS, LISTS, PROMPTS, SINGLE
from align.data.convention import Convention, all_of
from align.data.judged_pairs import JUDGED
from align.data.pair_rows import CHOSEN, REJECTED, found, is_transcript
from align.data.readers import Row
from align.data.row_parts import EVERYWHERE
from align.data.turns import ROLES
from align.data.ultrafeedback_rows import raw_row

NUMBERS = (*column_layouts.GRADES, *column_layouts.ATTRIBUTES)
"""Columns of scores, read where they hold numbers."""
ABOUT = frozenset(
    {
        *("id", "source", "dataset", "subset", "split", "url", "model", "generator"),
        *("category", "domain", "task", "lang", "language", "type", "topic"),
    }
)
"""Columns that say where a row comes from; prompts have no other texts beside them."""


def _has_prompt(row: Row) -> bool:
    """Return whether there is a prompt to a pair: in a column, or in both answers as whole dialogues."""
    if any(row.get(name) is not None for name in PROMPTS):
        return True
    sides = [next((row[n] for n in names if n in row), None) for names in (CHOSEN, REJECTED)]
    return all(isinstance(s, list) or (isinstance(s, str) and is_transcript(s)) for s in sides)


def _two_lists(row: Row) -> bool:
    return all(
        isinstance(row[k], list) and row[k] and all(isinstance(t, str) for t in row[k])
        for k in CHOSEN[:1] + REJECTED[:1]
    )


def _ranked(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) and "rank" in entry for entry in entries)


def _graded(entries: object) -> bool:
    return isinstance(entries, list) and any(
        isinstance(e, dict) and not e.keys().isdisjoint(ENTRY_GRADES) for e in entries
    )


def _no_chosen(row: Row) -> bool:
    return not any(name in row for name in CHOSEN)


def _asks(row: Row) -> bool:
    """Return whether the prompt is no dialogue that has its answer already."""
    value = row.get(found(row, PROMPTS) or "")
    last = value[-1] if isinstance(value, list) and value else None
    said = last.get("role", last.get("from")) if isinstance(last, dict) else "user"
    return ROLES.get(str(said).lower()) != "assistant"


def _only_prompt(row: Row) -> bool:
    """Return whether a row is a prompt and nothing that could be an answer to it."""
    if row.get("prompt") is not None:
        return True
    key = next(name for name in PROMPTS if name in row)
    known = {key, *ABOUT, *EVERYWHERE}
    return not any(isinstance(value, str) and value for name, value in row.items() if name not in known)


CONVENTIONS = (
    Convention("PRO's files", all_of("prefix", "suffix"), list_rows.pro, ("reward", "sft_index", "meta")),
    Convention(
        "PKU-SafeRLHF",
        all_of("prompt", "response_0", "response_1", "better_response_id"),
        released.safe_rlhf,
        (
            *("safer_response_id", "is_response_0_safe", "is_response_1_safe"),
            *("response_0_source", "response_1_source"),
        ),
    ),
    Convention("SHP", all_of("history", "human_ref_A", "human_ref_B", "labels"), released.shp, ("score_A", "score_B")),
    Convention(
        "Nectar",
        all_of("prompt", "answers"),
        released.nectar,
        fits=lambda row: _ranked(row["answers"]),
    ),
    Convention("stack-exchange-paired", all_of("question", "response_j", "response_k"), released.stack_exchange),
    Convention("WebGPT comparisons", all_of("question", "answer_0", "answer_1", "score_0", "score_1"), released.webgpt),
    Convention("summarize-from-feedback, comparisons", all_of("info", "summaries", "choice"), released.summary_pair),
    Convention(
        "summarize-from-feedback, axes",
        all_of("info", "summary"),
        released.summary_axes,
        fits=lambda row: isinstance(row["summary"], dict),
    ),
    Convention(
        "RewardBench 2", all_of("prompt", "chosen", "rejected"), released.reward_bench, ("models",), fits=_two_lists
    ),
    Convention(
        "OpenAI preferences",
        all_of("input", "preferred_output", "non_preferred_output"),
        released.openai_preference,
        fits=lambda row: isinstance(row["input"], dict),
    ),
    Convention(
        "Chatbot Arena", all_of("conversation_a", "conversation_b", "winner"), arenas.battle, ("model_a", "model_b")
    ),
    Convention(
        "Chatbot Arena, votes",
        all_of("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        arenas.votes,
        ("model_a", "model_b"),
    ),
    Convention(
        "AlpacaFarm",
        [*all_of("output_1", "output_2", "preference"), PROMPTS],
        arenas.farmed,
        ("generator_1", "generator_2"),
    ),
    Convention("ms-swift pairs", [["rejected_response"], ["response"], PROMPTS], arenas.swift, fits=_no_chosen),
    Convention(
        "ms-swift pairs", [["rejected_messages", "rejected_response"], ["messages"]], arenas.swift, fits=_no_chosen
    ),
    Convention(
        "NeMo RL preferences",
        all_of("context", "completions"),
        arenas.ranked_turns,
        fits=lambda row: _ranked(row["completions"]),
    ),
    Convention("dolly", all_of("instruction", "context", "response"), released.dolly),
    Convention(
        "HelpSteer preferences",
        all_of("response_1", "response_2", "preference_strength"),
        released.rated_pair,
        ("context",),
    ),
    Convention(
        "HelpSteer3 preferences", all_of("context", "response1", "response2", "overall_preference"), released.rated_pair
    ),
    *JUDGED,
    Convention(
        "SteerLM texts", all_of("text", "label"), steerlm.rated_text, fits=lambda row: isinstance(row["label"], list)
    ),
    Convention(
        "SteerLM dialogues", all_of("conversations"), steerlm.rated_dialogue, ("mask", "type"), steerlm.labelled
    ),
    Convention(
        "UltraFeedback, raw",
        all_of("instruction", "completions"),
        raw_row,
        fits=lambda row: (
            isinstance(row["completions"], list)
            and any(isinstance(c, dict) and "annotations" in c for c in row["completions"])
        ),
    ),
    Convention(
        "pairs in output",
        [*all_of("output"), PROMPTS],
        column_layouts.two_outputs,
        fits=lambda row: isinstance(row["output"], list) and len(row["output"]) == 2,
    ),
    Convention(
        "pairs", [CHOSEN, REJECTED], pair_rows.pair, (*pair_rows.PAIR_NUMBERS, *pair_rows.PAIR_MODELS), _has_prompt
    ),
    Convention("pairs", [[*CHOSEN, *REJECTED], PROMPTS], pair_rows.pair),  # with a column amiss
    Convention(
        "lists",
        [LISTS, PROMPTS],
        column_layouts.ranked_list,
        (*column_layouts.SCORES, "ranks", "preference", "origins"),
        lambda row: any(isinstance(row.get(name), list) for name in LISTS),
    ),
    Convention(
        "lists",
        [column_layouts.RATED, column_layouts.SCORES, PROMPTS],
        column_layouts.ranked_list,
        fits=lambda row: any(isinstance(row.get(name), list) for name in column_layouts.RATED),
    ),
    Convention(
        "lists",
        [column_layouts.RATED, PROMPTS],
        column_layouts.ranked_list,
        fits=lambda row: any(_graded(row.get(name)) for name in column_layouts.RATED),
    ),
    Convention(
        "responses",
        [SINGLE, PROMPTS],
        column_layouts.single,
        (*LABELS, "reasoning_content", "tool_calls"),
        numbers=NUMBERS,
        fits=_asks,
    ),
    Convention("dialogues", [DIALOGUES], column_layouts.dialogue, LABELS, numbers=NUMBERS),
    Convention("prompts", [PROMPTS], column_layouts.prompt_only, fits=_only_prompt),
)
"""In the order in which they are tried: what has the most particular columns comes first."""
