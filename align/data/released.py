"""Public preference datasets as they were released, each read by the meaning its authors gave the columns."""

from __future__ import annotations

import math
from typing import Any

from align.data.column_layouts import dialogue
from align.data.drop_report import DroppedRow, RowError
from align.data.list_rows import given_ranking, rank_by_score
from align.data.readers import Located
from align.data.row_parts import RowParts, around, prompt_of, said
from align.data.row_validation import field, flag, number
from align.data.turns import messages_of
from align.records import Message

REDDIT = "SUBREDDIT: r/{subreddit}\nTITLE: {title}\nPOST: {post}\nTL;DR:"
"""Prompt of a summary of a post, as in Stiennon et al. 2020 (arXiv:2009.01325) and in PRO's released code."""
ARTICLE = "Article: {article}\nTL;DR:"


def safe_rlhf(located: Located) -> RowParts:
    """Read PKU-SafeRLHF (Ji et al. 2024, arXiv:2406.15513): ranked by the better answer, with which one is safer."""
    where, row = located
    better = _which(located, "better_response_id")
    ratings = {"better": [float(i == better) for i in range(2)]}
    if row.get("safer_response_id") is not None:
        safer = _which(located, "safer_response_id")
        ratings["safer"] = [float(i == safer) for i in range(2)]
    safe = [flag(where, key, row.get(key)) for key in ("is_response_0_safe", "is_response_1_safe")]
    if None not in safe:
        ratings["safe"] = [float(bool(s)) for s in safe]
    texts = [field(located, key) for key in ("response_0", "response_1")]
    origins = [str(row.get(f"response_{i}_source") or "") for i in range(2)]
    ranking = ((better,), (1 - better,))
    return RowParts(prompt_of(located, "prompt"), [said(t) for t in texts], ratings, ranking, origins)


def shp(located: Located) -> RowParts:
    """Read SHP (Ethayarajh et al. 2022): two comments on a post, `labels` 1 where A has the better score."""
    where, row = located
    best = 1 - _which(located, "labels")
    texts = [field(located, key) for key in ("human_ref_A", "human_ref_B")]
    scores = [number(where, f"{key!r}", row.get(key)) for key in ("score_A", "score_B")]
    prompt = [Message("user", field(located, "history").strip())]
    ranking = ((best,), (1 - best,))
    return RowParts(around(located, prompt, "history"), [said(t) for t in texts], {"score": scores}, ranking)


def nectar(located: Located) -> RowParts:
    """Read Nectar (Zhu et al. 2023): up to seven answers, `rank` 1 the best."""
    entries = [Located(located.where, e) for e in field(located, "answers", list)]
    ranking = given_ranking(entries, "an answer")
    texts = [said(field(entry, "answer")) for entry in entries]
    origins = [str(entry.row.get("model") or "") for entry in entries]
    return RowParts(prompt_of(located, "prompt"), texts, {}, ranking, origins)


def stack_exchange(located: Located) -> RowParts:
    """Read stack-exchange-paired (Beeching et al. 2023): `response_j` was voted above `response_k`."""
    texts = [said(field(located, key)) for key in ("response_j", "response_k")]
    return RowParts(prompt_of(located, "question"), texts, {}, ((0,), (1,)))


def webgpt(located: Located) -> RowParts:
    """Read WebGPT's comparisons (Nakano et al. 2021, arXiv:2112.09332): scores from -1 to 1 add up to 0; 0 is a tie."""
    where, row = located
    question = row["question"]
    asked = question if isinstance(question, str) else field(Located(where, question), "full_text")
    scores = [number(where, f"{key!r}", row.get(key)) for key in ("score_0", "score_1")]
    if any(map(math.isnan, scores)):
        raise DroppedRow("no score says which answer is better")
    texts = [said(field(located, key)) for key in ("answer_0", "answer_1")]
    prompt = around(located, [Message("user", asked.strip())])
    return RowParts(prompt, texts, {"score": scores}, rank_by_score(scores))


def summary_pair(located: Located) -> RowParts:
    """Read a comparison of summarize-from-feedback (Stiennon et al. 2020): `choice` is the better summary."""
    best = _which(located, "choice")
    summaries = [Located(located.where, s) for s in field(located, "summaries", list)]
    if len(summaries) != 2:
        raise RowError(located.where, "not two summaries")
    texts = [said(field(summary, "text").strip()) for summary in summaries]
    origins = [str(summary.row.get("policy") or "") for summary in summaries]
    return RowParts(_document(located), texts, {}, ((best,), (1 - best,)), origins)


def summary_axes(located: Located) -> RowParts:
    """Read a summary of summarize-from-feedback with grades from 1 to 7 for each axis."""
    summary = Located(located.where, field(located, "summary", dict))
    axes = field(summary, "axes", dict)
    ratings = {name: [number(located.where, f"{name!r}", value)] for name, value in axes.items()}
    origin = str(summary.row.get("policy") or "")
    return RowParts(_document(located), [said(field(summary, "text").strip())], ratings, (), [origin])


def reward_bench(located: Located) -> RowParts:
    """Read RewardBench 2 (Malik et al. 2025, arXiv:2506.01937): right answers above wrong ones, each kind tied.

    One answer of a kind may be a text by itself.
    """
    sides = [field(located, key, (list, str)) for key in ("chosen", "rejected")]
    right, wrong = ([side] if isinstance(side, str) else side for side in sides)
    texts = [*right, *wrong]
    models = located.row.get("models") or []
    ranking = (tuple(range(len(right))), tuple(range(len(right), len(texts))))
    origins = models if len(models) == len(texts) else ()
    return RowParts(prompt_of(located, "prompt"), [said(t) for t in texts], {}, ranking, list(map(str, origins)))


def ultrachat(located: Located) -> RowParts:
    """Read UltraChat (Ding et al. 2023, arXiv:2305.14233): what a user and an assistant say in turn."""
    row = {name: value for name, value in located.row.items() if name != "data"}
    return dialogue(Located(located.where, {**row, "messages": located.row["data"]}))


def dolly(located: Located) -> RowParts:
    """Read dolly (Conover et al. 2023): an instruction, perhaps with a text it is about."""
    row = {**located.row, "input": located.row.get("context")}
    return RowParts(prompt_of(Located(located.where, row), "instruction"), [said(field(located, "response"))])


def openai_preference(located: Located) -> RowParts:
    """Read OpenAI's preference fine-tuning: `input` with messages and tools, and two outputs as messages."""
    given = Located(located.where, {**field(located, "input", dict), "input": None})
    outputs = [field(located, key, list) for key in ("preferred_output", "non_preferred_output")]
    prompt = prompt_of(given, "messages")
    answers = [messages_of(located.where, o) for o in outputs]
    return RowParts(prompt, answers, {}, ((0,), (1,)), tools=given.row.get("tools"))


def rated_pair(located: Located) -> RowParts:
    """Read HelpSteer's preferences (arXiv:2410.01257, 2505.11475): from -3, the first much better, to 3, the second."""
    where, row = located
    key, columns = next((key, columns) for key, columns in STRENGTHS.items() if row.get(key) is not None)
    strength = number(where, f"{key!r}", row[key])
    if not -3 <= strength <= 3:
        raise RowError(where, f"{key!r} is out of range", f"{key!r} is {row[key]}, expected -3 to 3")
    scores = [max(0.0, -strength), max(strength, 0.0)]
    texts = [said(field(located, column)) for column in columns]
    prompt = prompt_of(located, "prompt" if row.get("prompt") is not None else "context")
    return RowParts(prompt, texts, {"strength": scores}, rank_by_score(scores))


STRENGTHS = {"overall_preference": ("response1", "response2"), "preference_strength": ("response_1", "response_2")}
"""Strength of HelpSteer's preferences, and the columns it compares."""


def _which(located: Located, key: str) -> int:
    """Return 0 or 1."""
    value: Any = located.row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DroppedRow(f"{key!r} is empty: no preference")
    chosen = number(located.where, f"{key!r}", value)
    if chosen not in (0, 1):
        raise RowError(located.where, f"{key!r} is neither 0 nor 1", f"{key!r} is {value!r}, expected 0 or 1")
    return int(chosen)


def _document(located: Located) -> list[Message]:
    info = field(located, "info", dict)
    form, keys = (REDDIT, ("subreddit", "title", "post")) if info.get("post") else (ARTICLE, ("article",))
    if any(not isinstance(info.get(key), str) for key in keys):
        raise RowError(located.where, "'info' holds neither a post nor an article")
    return around(located, [Message("user", form.format(**{key: info[key] for key in keys}))])
