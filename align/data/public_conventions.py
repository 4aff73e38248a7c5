"""The layouts of public datasets and of other programs, told by the columns that only they have."""

from __future__ import annotations

from align.data import arenas, list_rows, released
from align.data import message_trees as trees
from align.data.column_layouts import PROMPTS
from align.data.convention import Convention, all_of
from align.data.pair_rows import CHOSEN, REJECTED
from align.data.readers import Row


def _several(row: Row) -> bool:
    sides = [row[k] for k in CHOSEN[:1] + REJECTED[:1]]
    return any(map(_text_list, sides)) and all(isinstance(side, str) or _text_list(side) for side in sides)


def _ranked(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) and "rank" in entry for entry in entries)


def _no_chosen(row: Row) -> bool:
    return not any(name in row for name in CHOSEN)


def _text_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


PUBLIC = (
    Convention(
        "Open Assistant, trees",
        all_of("prompt"),
        trees.tree,
        ("message_tree_id", "tree_state"),
        trees.is_tree,
        inside=trees.NODE,
    ),
    Convention(
        "Open Assistant, messages",
        all_of("message_id", "parent_id", "text", "role"),
        trees.tree,
        gather=trees.trees_of,
        by_file=True,
    ),
    Convention("UltraChat", all_of("data"), released.ultrachat, fits=lambda row: _text_list(row["data"])),
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
        "RewardBench 2", all_of("prompt", "chosen", "rejected"), released.reward_bench, ("models",), fits=_several
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
)
