"""vlmend, by its public entry: a recipe, run as a user runs it, in folders of its own."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tuning.cases import read
from tuning.job import Data, Job, Step, clock
from vlmend.config import Recipe, load_recipe
from vlmend.models import load as models
from vlmend.train.run import tune


class Ours:
    """Trains by vlmend.

    The clock runs from when the model is loaded to the end of the last optimizer step: planning, the mask report,
    whatever is computed ahead of the steps (features, log-probabilities of the model before) and encoding are all in
    it. What does not grow with the data is in every run once; so a run of one step, on other pictures, is subtracted
    from the run of all steps: the others' first step is not counted either. Nothing is kept from one run for the next.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.case = job, job.of
        self.warm = False

    def seconds(self, data: Data) -> float:
        """Of the timed steps."""
        if not self.warm:
            self.run([data.apart], 1)
            self.warm = True
        short = self.run([data.apart], 1)
        return self.run([data.first, data.timed], 1 + data.steps) - short

    def run(self, files: Sequence[Path], steps: int) -> float:
        """Seconds of a whole run without loading and saving."""
        recipe = self.recipe(files, {"max_steps": steps})
        loaded: list[float] = []
        stepped: list[float] = []
        hook = register_optimizer_step_post_hook(lambda *_: stepped.append(clock(self.job)))
        try:
            with _after(models, "load", lambda: loaded.append(clock(self.job))):
                tune(recipe, console=Console(file=io.StringIO()))
        finally:
            hook.remove()
        shutil.rmtree(recipe.output.dir)
        [begun], [*_, ended] = loaded, stepped
        return ended - begun

    def step(self, rows: Path, weights: Sequence[Tensor] = ()) -> Step:
        """The third step on these rows, taken as it comes: others start from its weights. All of them make a step."""
        steps: list[Step] = []

        def keep(optimizer: Any, args: Any, settings: Any) -> None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            steps.append(Step(0.0, [p.detach().clone() for p in trained], [p.grad.clone() for p in trained]))

        schedule = {"learning_rate": 0.01, "lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.0}
        recipe = self.recipe([rows], {**schedule, "max_steps": 3, "max_grad_norm": 1e9, "logging_steps": 1}, units=rows)
        hook = register_optimizer_step_pre_hook(keep)
        try:
            tune(recipe, console=Console(file=io.StringIO()))
        finally:
            hook.remove()
        log = (recipe.output.dir / "log.jsonl").read_text(encoding="utf-8").splitlines()
        shutil.rmtree(recipe.output.dir)
        steps[2].loss = json.loads(log[2])["loss"]
        return steps[2]

    def recipe(self, files: Sequence[Path], train: dict[str, Any], units: Path | None = None) -> Recipe:
        """With the settings of the job put over it. An optimizer step has the case's units, or all of a file."""
        rank, step = self.job.shape.lora, len(read(units)) if units else self.case.step
        sections = {
            "model": {
                "name": str(self.job.model), "device": self.job.device, "lora": {"r": rank, "lora_alpha": 2 * rank},
                "dtype": "float32" if self.job.device == "cpu" else "bfloat16", **self.case.model,
            },
            "method": dict(self.case.method),
            "data": {"mix": [{"source": f"jsonl:{file}"} for file in files]},
            "train": {
                "learning_rate": self.job.shape.rate, "per_device_train_batch_size": step,
                "bf16": self.job.device != "cpu", "logging_steps": 1, **train,
            },
            "output": {"dir": str(self.job.folder / "ours")},
        }  # fmt: skip
        path = self.job.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(sections), encoding="utf-8")
        return load_recipe(path, list(self.job.settings))


class _after:
    """Have something called each time a function of a module has returned."""

    def __init__(self, module: Any, name: str, call: Callable[[], None]) -> None:
        self.module, self.name, self.call, self.original = module, name, call, getattr(module, name)

    def __enter__(self) -> None:
        def wrapped(*args: Any, **settings: Any) -> Any:
            made = self.original(*args, **settings)
            self.call()
            return made

        setattr(self.module, self.name, wrapped)

    def __exit__(self, *error: object) -> None:
        setattr(self.module, self.name, self.original)
