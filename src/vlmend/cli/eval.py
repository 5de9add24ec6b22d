"""`vlmend eval` and two of its stages alone: `generate` and `score`."""

from __future__ import annotations

from vlmend.cli import _paid
from vlmend.cli._common import (
    Answers,
    Attacks,
    BatchSize,
    Device,
    DoSample,
    Dtype,
    Folder,
    Fresh,
    Json,
    JudgeControls,
    JudgeModel,
    Judges,
    JudgeSees,
    Limit,
    MaxNewTokens,
    MaxPixels,
    MaxUnscored,
    Missing,
    MissingImages,
    Model,
    Out,
    Precision,
    Samples,
    Seed,
    SharePrefix,
    Suites,
    Temperature,
    TopK,
    TopP,
    check_unscored,
    configuration,
    judge_settings,
    print_runs,
    show,
)


def evaluate(
    model: Model,
    suite: Suites,
    out: Out,
    answers: Answers = None,
    attack: Attacks = None,
    judge: Judges = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    judge_controls: JudgeControls = None,
    fresh: Fresh = False,
    missing_images: Missing = MissingImages.ERROR,
    max_pixels: MaxPixels = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    num_return_sequences: Samples = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    share_prefix: SharePrefix = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
    batch: _paid.Batch = False,
    dry_run: _paid.DryRun = False,
    max_unscored: MaxUnscored = 0.02,
    json_: Json = False,
) -> None:
    """Ask a model the questions of a suite, judge its answers, and count. Nothing is asked or judged twice.

    With --answers, what a model said elsewhere is judged and counted instead.
    """
    from vlmend.evaluate.run import EvalConfig, evaluate_all

    judging = judge_settings(judge_model, judge_sees, judge_controls, budget, prices, fresh=fresh)
    config = configuration(EvalConfig, locals() | {"suite": suite[0], "judges": judge, "judging": judging})
    on_server = config.model.startswith("openai:") and not config.answers  # else the budget is for the judges alone
    server = _paid.backend(config, budget if on_server else "", prices if on_server else None, batch)
    if dry_run:
        _paid.show_plan(config, suite, server, json_)
        return
    models = config.judging.models(_paid.purse_of(server))
    try:
        results = evaluate_all(config, suite, server, models=models)
    finally:
        _paid.tell_all_spent(models.purse)
    show(results, json_)
    check_unscored(results, max_unscored)


def generate(
    model: Model,
    suite: Suites,
    out: Out,
    attack: Attacks = None,
    missing_images: Missing = MissingImages.ERROR,
    max_pixels: MaxPixels = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    num_return_sequences: Samples = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    share_prefix: SharePrefix = None,
    device: Device = "auto",
    dtype: Precision = Dtype.AUTO,
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
    batch: _paid.Batch = False,
    dry_run: _paid.DryRun = False,
    json_: Json = False,
) -> None:
    """The first stage of eval alone: ask, and store the answers."""
    from vlmend.evaluate.run import EvalConfig, generate_all

    config = configuration(EvalConfig, locals() | {"suite": suite[0]})
    server = _paid.backend(config, budget, prices, batch)
    if dry_run:
        _paid.dry_run(config, suite, server, prices, json_)
        return
    try:
        done = generate_all(config, suite, server)
    finally:
        _paid.tell_spent(server)
    if json_:
        print_runs({"run": str(run.folder), "generated": g.new, "kept": g.kept, "silent": g.silent} for run, g in done)


def score(run: Folder, max_unscored: MaxUnscored = 0.02, json_: Json = False) -> None:
    """The third stage of eval alone: count the stored verdicts of RUN."""
    from vlmend.evaluate.run import score_only
    from vlmend.store import find_runs

    results = [score_only(found.folder, quiet=False) for found in find_runs(run)]
    show(results, json_)
    check_unscored(results, max_unscored)
