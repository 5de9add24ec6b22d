"""`vlmend eval` and two of its stages alone: `generate` and `score`."""

from __future__ import annotations

from vlmend.cli import _paid
from vlmend.cli._common import (
    Answers,
    Attacks,
    BatchSize,
    Defences,
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
    ModelsAsked,
    Out,
    Precision,
    Samples,
    Seed,
    SharePrefix,
    Suites,
    Temperature,
    ThinkingBudget,
    TopK,
    TopP,
    check_unscored,
    configuration,
    judge_settings,
    print_runs,
    show,
)


def evaluate(
    model: ModelsAsked,
    suite: Suites,
    out: Out,
    answers: Answers = None,
    attack: Attacks = None,
    defence: Defences = None,
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
    thinking_budget: ThinkingBudget = None,
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
    """Ask models the questions of suites, judge their answers, and count. Nothing is asked or judged twice.

    Several models, suites, attacks and defences: each model on each suite under each attack behind each defence, in
    folders MODEL/SUITE+ATTACK+DEFENCE of OUT. What a model is asked goes to it at once, and requests about one picture
    share it. With --answers, what a model said elsewhere is judged and counted instead.
    """
    from vlmend.evaluate.cells import EvalConfig, cells
    from vlmend.evaluate.run import evaluate_all

    judging = judge_settings(judge_model, judge_sees, judge_controls, budget, prices, fresh=fresh)
    given = {"model": model[0], "suite": suite[0], "attack": None, "defence": None, "judges": judge, "judging": judging}
    configs = cells(configuration(EvalConfig, locals() | given), model, suite, attack or (), defence or ())
    on_server = any(map(_paid.is_server, model)) and not answers  # else the budget is for the judges alone
    servers = _paid.servers(configs, budget if on_server else "", prices if on_server else None, batch)
    if dry_run:
        _paid.show_plan(configs, servers, json_)
        return
    models = configs[0].judging.models(_paid.purse_of(servers))
    try:
        results = evaluate_all(configs, servers, models=models)
    finally:
        _paid.tell_all_spent(models.purse)
    show(results, json_)
    check_unscored(results, max_unscored)


def generate(
    model: ModelsAsked,
    suite: Suites,
    out: Out,
    attack: Attacks = None,
    defence: Defences = None,
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
    thinking_budget: ThinkingBudget = None,
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
    from vlmend.evaluate.cells import EvalConfig, cells
    from vlmend.evaluate.run import generate_all

    given = {"model": model[0], "suite": suite[0], "attack": None, "defence": None}
    configs = cells(configuration(EvalConfig, locals() | given), model, suite, attack or (), defence or ())
    servers = _paid.servers(configs, budget, prices, batch)
    if dry_run:
        _paid.dry_run(configs, servers, prices, json_)
        return
    try:
        done = generate_all(configs, servers)
    finally:
        _paid.tell_spent(servers)
    if json_:
        print_runs({"run": str(run.folder), "generated": g.new, "kept": g.kept, "silent": g.silent} for run, g in done)


def score(run: Folder, max_unscored: MaxUnscored = 0.02, json_: Json = False) -> None:
    """The third stage of eval alone: count the stored verdicts of RUN."""
    from vlmend.evaluate.run import score_only
    from vlmend.store import find_runs

    results = [score_only(found.folder, quiet=False) for found in find_runs(run)]
    show(results, json_)
    check_unscored(results, max_unscored)
