"""TRL's SFTTrainer and DPOTrainer on the same model and the same rows, adapters as in the others.

Their defaults but for what would make it another task or slower: no gradient checkpointing (it trades time for memory,
which nobody else here does), nothing cut, nothing logged, and fp32 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import AutoProcessor, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from tuning.cases import Unit, read
from tuning.job import Data, Job, Step, clock
from tuning.plain import base, lora

datasets.disable_progress_bars()
KINDS = {"sft": (SFTTrainer, SFTConfig, {}), "dpo": (DPOTrainer, DPOConfig, {"beta": 0.1})}


class Peer:
    """Trains by TRL, `job.batch` units at a time."""

    def __init__(self, job: Job) -> None:
        self.job, self.case = job, job.of

    def seconds(self, data: Data) -> float:
        """Of the timed steps, after one to warm up. Batches are drawn one ahead: there is one more to be drawn."""
        times: list[float] = []
        units = [*read(data.first), *read(data.timed), *read(data.apart)]
        trainer = self.trainer(units, self.case.step, max_steps=1 + data.steps)
        trainer.add_callback(On("step_end", lambda model: times.append(clock(self.job))))
        trainer.train()
        if len(times) != data.steps + 1:
            raise RuntimeError(f"{len(times)} steps instead of {data.steps + 1}")
        return times[-1] - times[0]

    def step(self, rows: Path, weights: Sequence[Tensor]) -> Step:
        """Loss and gradients of one step on all of the rows, from these weights."""
        units, taken = read(rows), Step(weights=list(weights))
        trainer = self.trainer(units, len(units), max_grad_norm=1e9, max_steps=1)
        with torch.no_grad():
            for parameter, value in zip(trained(trainer.model), weights, strict=True):
                parameter.copy_(value)
        keep = On("pre_optimizer_step", lambda model: taken.gradients.extend(p.grad.clone() for p in trained(model)))
        trainer.add_callback(keep)
        taken.loss = trainer.train().training_loss
        return taken

    def trainer(self, units: Sequence[Unit], step: int, **more: Any) -> Any:
        """One, ready to train once through the units."""
        trainer, config, settings = KINDS[self.case.peer]
        on_cpu = self.job.device == "cpu"
        batch = min(self.job.batch, step)
        arguments = config(
            output_dir=str(self.job.folder / "peer"), per_device_train_batch_size=batch,
            gradient_accumulation_steps=step // batch, learning_rate=self.job.shape.rate, num_train_epochs=1,
            use_cpu=on_cpu, bf16=not on_cpu, gradient_checkpointing=False, max_length=None, save_strategy="no",
            report_to="none", disable_tqdm=True, dataloader_num_workers=self.job.workers, logging_strategy="no",
            **settings, **more,
        )  # fmt: skip
        made = trainer(
            model=base(self.job), args=arguments, train_dataset=table(units),
            processing_class=AutoProcessor.from_pretrained(self.job.model), peft_config=lora(self.job.shape.lora),
        )  # fmt: skip
        made.remove_callback(PrinterCallback)
        return made


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Weights that train, in the order of the model."""
    return [p for p in model.parameters() if p.requires_grad]


def table(units: Sequence[Unit]) -> Any:
    """The rows as TRL has them: prompt and completion, or chosen and rejected, and pictures that are read when used."""
    rows = [row for unit in units for row in unit.values()]
    sides = {"completion": "answer"} if "answer" in rows[0] else {"chosen": "chosen", "rejected": "rejected"}
    columns: dict[str, list[Any]] = {
        "images": [[row["image"]] for row in rows],
        "prompt": [[{"role": "user", "content": row["prompt"]}] for row in rows],
    }
    for column, key in sides.items():
        columns[column] = [[{"role": "assistant", "content": row[key]}] for row in rows]
    return datasets.Dataset.from_dict(columns).cast_column("images", datasets.List(datasets.Image()))


class On(TrainerCallback):
    """Calls something with the model at one kind of event."""

    def __init__(self, event: str, call: Callable[[Any], Any]) -> None:
        def at(args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            call(model)

        setattr(self, f"on_{event}", at)
