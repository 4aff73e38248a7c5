"""`align evaluate`: model folders by reward models, by text measures, and by a judge."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from align.cli.evaluation_prompts import prompts_of
from align.cli.evaluation_steps import (
    REFERENCES,
    check_best_of,
    check_judge,
    check_start,
    judged_of,
    kept_file,
    matched_of,
    report_of,
    show_best_of,
)
from align.cli.evaluation_tables import reward_table, scale_table, show
from align.cli.functions import FunctionVerb
from align.cli.human_labels import tell_agreement
from align.cli.matched_tables import Matches
from align.cli.model_options import gathered
from align.cli.reward_models import RewardFolders, beside, load_reward_models, tell_reading, tell_scorer
from align.cli.unused import REWARD_TOKENS, Settings, Unused, always, given, without
from align.cli.unused_of_models import POOL, RAY
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels, Models
from align.evaluation.best_of_n import BestOf
from align.evaluation.comparison import common_scales
from align.evaluation.completions import fingerprint
from align.evaluation.evaluation_sampler import EvaluationSampler, Sampling
from align.evaluation.judging import JudgeReport
from align.evaluation.ray_drawing import RayDrawing
from align.evaluation.reward_evaluation import ResponseReport
from align.judges.endpoint import Endpoint
from align.judges.language_judge import LanguageJudge
from align.judges.local_model import LocalModel
from align.judges.preference import GoldJudge, Judge, RewardJudge
from align.records.asking import AskedModel
from align.rewards.named_rewards import Tokens
from align.rewards.scorers import Scorer
from align.sampling.compared_workers import ComparedWorkers
from align.sampling.server_pool import ServerPool
from align.strict_json import json_text


def _unscored(settings: Settings) -> bool:
    return settings["scorer"] is None and settings["judge"] is None


def _greedy(settings: Settings) -> bool:
    return not any(settings["sampling"].temperatures)


UNUSED = (
    Unused(("keep_columns",), _unscored, "belongs to --scorer or --judge: name one of them, or leave it out"),
    REWARD_TOKENS,
    *POOL,
    *RAY,
    Unused(("sampling.generation.batch_tokens",), given("pool"), "--pool makes its own batches: leave it out"),
    Unused(("sampling.check",), given("pool"), "--pool draws, not a layout of ours: leave it out"),
    Unused(("sampling.engine",), given("pool"), "--pool draws instead: give one of them"),
    Unused(("sampling.engine",), given("ray"), "--ray draws by our own engine: leave it out"),
    Unused(
        ("sampling.check",),
        lambda settings: settings["sampling"].engine == "continuous",
        "--sampling.engine continuous is compared with plain forward passes in any case: leave it out",
    ),
    Unused(("best_of",), _greedy, "needs samples, and there are none at --sampling.temperatures [0]: name another one"),
    Unused(("against",), without("judge"), "belongs to --judge: name one, or leave it out"),
    Unused(
        ("sampling.generation.temperature",),
        always,
        "responses are drawn at --sampling.temperatures, a list of them: set that instead",
    ),
    Unused(
        ("sampling.generation.top_p", "sampling.generation.num_samples", "sampling.generation.seed"),
        _greedy,
        "draws nothing at --sampling.temperatures [0]: name another temperature too, or leave it out",
    ),
)
NAMED = (Endpoint, LanguageJudge, LocalModel, GoldJudge, RewardJudge)
"""Classes that `--judge` and `--judge.responder` take without their path."""


def evaluate(  # noqa: PLR0913  the signature is the command line
    models: Models,
    prompts: dict[str, str] | str,
    rewards: RewardFolders | None = None,
    *,
    reward_tokens: Tokens = None,
    scorer: Scorer | None = None,
    keep_columns: list[str] | None = None,
    out: str = "runs/evaluation",
    sampling: Sampling = Sampling(),
    start: str | None = None,
    matched: bool = False,
    best_of: BestOf | None = None,
    pool: ServerPool | None = None,
    ray: ComparedWorkers | None = None,
    judge: Judge | None = None,
    against: str = REFERENCES,
    human: str | None = None,
) -> None:
    """Sample from model folders and report rewards, text measures and wins, with intervals over prompts.

    Responses are kept in OUT/completions and replies of a judge in its store: the same command again goes on where it
    stopped and asks nothing twice. Results go to OUT/evaluation.json and, as a table, to the screen.

    Args:
        models: Model or adapter folders, each asked as its folder says, or files of answers to these prompts
            (AlpacaEval's columns instruction and output, or prompt and completion as `align generate` writes them); the
            first is what the others are compared with. By name (`--models.NAME DIR`) with what is asked otherwise, as
            in `--models.NAME.direction 0.8,-0.6` or `--models.NAME.plain true`; one folder may stand under two names.
        prompts: A file in any of the conventions `PreferenceFileDataModule` reads, or several by subset name, as in
            {harmless: FILE, helpful: FILE}; chosen responses serve as references.
        rewards: Reward model folders, or folders by name (`--rewards.train DIR --rewards.eval DIR`); not, or not only,
            the one that trained the policy.
        reward_tokens: Longest dialogue they read whole, for all (2048) or by name, or the last part of a folder's path
            ({rm: 2048}); null takes that of their training, or their context.
        scorer: What responses are worth beside the reward models: FunctionRewards, LanguageModelScorer ...
        keep_columns: Columns of the prompts that reward functions read, in `scorer` or `judge`, such as `[answer]`.
        out: Folder to write.
        sampling: How responses are drawn.
        start: The model the training started from, for the KL divergence to it, entropies, and the perplexity of
            responses under it; needs temperature 1 and top_p 1.
        matched: Sample the start too at the temperatures at which it has each model's entropy (nats a token), and its
            KL divergence: what a model reaches beyond that is not sharpening.
        best_of: Report what the best of n samples reaches, estimated from all `num_samples` of a prompt.
        pool: Servers that draw in the place of this process, each given the model, or started with it; it is loaded
            here too, since what they say of their samples is compared.
        ray: Workers on a Ray cluster that draw and score with `rewards`, the same tokens to equal scores; the model is
            loaded here too, for the same reason.
        judge: Who compares responses: LanguageJudge, RewardJudge, GoldJudge, or a ScorerJudge of any scorer.
        against: What the judge compares every model with: references, a model's name, a model folder, or a file of
            answers.
        human: A file of pairs that people have judged, in any convention of pairs: how far the judge agrees with them.
    """
    if human is not None and judge is None:
        raise ConfigError("human: agreement with people needs a --judge")
    if not models:
        raise ConfigError("models: name at least one model folder")
    askings = AskedModels(models)
    names = askings.names
    check_start(start, askings, sampling, matched=matched)
    check_best_of(best_of, askings, sampling, scorer)
    levels = list(dict.fromkeys(sampling.temperatures))
    asked, notes = prompts_of(prompts, sampling.limit, keep_columns or ())
    check_judge(judge, names, against, asked)
    drawing = None if ray is None else RayDrawing.of(ray)
    sampler = EvaluationSampler(Path(out), asked, sampling, askings, pool=pool, ray=drawing)
    reward_models = load_reward_models(rewards or [], reward_tokens, drawing and drawing.session)
    scorers = beside(reward_models, scorer, asked)
    reports = {
        name: {t: report_of(sampler, name, t, scorers, start=start, best_of=best_of) for t in levels} for name in names
    }
    show(reward_table(reports, askings.told))
    show_best_of(reports, askings)
    matches = matched_of(sampler, reports, scorers, start if matched else None)
    read = tell_reading(reward_models)
    judged = judged_of(judge, sampler, names, against)
    scales = common_scales({name: report.total for name, report in judged.items()}, against)
    if len(judged) > 1:
        show(scale_table(scales, askings.told))
    people = None if judge is None or human is None else tell_agreement(judge, human, keep_columns or ())
    files = {name: {str(t): kept_file(sampler, name, t) for t in levels} for name in names}
    settings: dict[str, Any] = {"prompts": notes, "fingerprint": fingerprint(asked), "sampling": asdict(sampling)}
    settings |= {"start": start, "against": against, "rewards": read, "scorer": tell_scorer(scorer)}
    told = {"asked": askings.as_dict(), "human": None if people is None else people._asdict()}
    extra: dict[str, Any] = {**told, "standardised": scales, "matched": _plain(matches)}
    _write(Path(out), {"settings": settings, "completions": files, **extra}, reports, judged)


def _write(
    out: Path,
    asked: dict[str, Any],
    reports: dict[str, dict[float, ResponseReport]],
    judged: dict[str, JudgeReport],
) -> None:
    models = {name: {str(t): r.as_dict() for t, r in levels.items()} for name, levels in reports.items()}
    content = {**asked, "models": models, "judge": {name: r.as_dict() for name, r in judged.items()}}
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json_text(content, indent=1), encoding="utf-8")
    print(f"written to {out / 'evaluation.json'}")


def _plain(matches: Matches) -> dict[str, Any]:
    return {
        name: {str(t): {by: found.as_dict() for by, found in kinds.items()} for t, kinds in levels.items()}
        for name, levels in matches.items()
    }


VERB = FunctionVerb(evaluate, reword=partial(gathered, kind=AskedModel), unused=UNUSED)
