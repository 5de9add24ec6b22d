"""`vlmend eval` and two of its stages alone: `generate` and `score`."""

from __future__ import annotations

from typing import Any

from vlmend.cli._common import (
    Attacks,
    BatchSize,
    BudgetOption,
    Device,
    DryRun,
    Dtype,
    Folder,
    Fresh,
    Json,
    JudgeModel,
    Judges,
    JudgeSees,
    Limit,
    MaxNewTokens,
    MaxUnscored,
    Missing,
    MissingImages,
    Model,
    Out,
    Precision,
    PriceFile,
    Seed,
    Suites,
    check_unscored,
    configuration,
    judge_settings,
    print_json,
    show,
    show_bill,
)


def evaluate(
    model: Model,
    suite: Suites,
    out: Out,
    attack: Attacks = None,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    budget: BudgetOption = "",
    prices: PriceFile = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    missing_images: Missing = MissingImages.ERROR,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    max_unscored: MaxUnscored = 0.02,
    json_: Json = False,
) -> None:
    """Ask a model the questions of a suite, judge its answers, and count. Nothing is asked or judged twice."""
    from vlmend.evaluate.run import evaluate_all, plan

    settings: dict[str, Any] = {
        "model": model,
        "suite": suite[0],
        "out": out,
        "attack": tuple(attack or ()),
        "judges": tuple(judge or ()),
        "judging": judge_settings(judge_model, judge_sees, budget, prices, fresh=fresh),
        "missing_images": missing_images.value,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "dtype": dtype.value,
    }
    if dry_run:
        show_bill(plan(configuration(settings), suite), json_)
        return
    results = evaluate_all(configuration(settings), suite)
    show(results, json_)
    check_unscored(results, max_unscored)


def generate(
    model: Model,
    suite: Suites,
    out: Out,
    attack: Attacks = None,
    missing_images: Missing = MissingImages.ERROR,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    json_: Json = False,
) -> None:
    """The first stage of eval alone: ask, and store the answers."""
    from vlmend.evaluate.run import generate_all

    settings: dict[str, Any] = {
        "model": model,
        "suite": suite[0],
        "out": out,
        "attack": tuple(attack or ()),
        "missing_images": missing_images.value,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "dtype": dtype.value,
    }
    done = generate_all(configuration(settings), suite)
    if json_:
        rows = [{"run": str(run.folder), "generated": g.new, "kept": g.kept, "silent": g.silent} for run, g in done]
        print_json(rows[0] if len(rows) == 1 else {"runs": rows})


def score(run: Folder, max_unscored: MaxUnscored = 0.02, json_: Json = False) -> None:
    """The third stage of eval alone: count the stored verdicts of RUN."""
    from vlmend.evaluate.run import score_only
    from vlmend.store import find_runs

    results = [score_only(found.folder) for found in find_runs(run)]
    show(results, json_)
    check_unscored(results, max_unscored)
