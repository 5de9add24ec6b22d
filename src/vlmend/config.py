"""Recipes: YAML in sections `model`, `method`, `data`, `train`, `speed`, `output`, checked by pydantic.

Unknown keys are refused with the nearest match. YAML is data: it never names code by path.
Keys that TrainingArguments, LoraConfig or GenerationConfig already name keep those names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vlmend import plain_yaml
from vlmend.errors import ConfigError, brief, nearest
from vlmend.option_names import meant
from vlmend.rgb import MAX_PIXELS, MOST_PIXELS
from vlmend.types import Example, Role

Module = Literal["vision_tower", "projector", "language_model"]
Words = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
MaxPixels = Annotated[int, Field(gt=0, le=MOST_PIXELS)]  # of one picture, by its header


class Section(BaseModel):
    """Base of every section: frozen, and strict about names; a number is a finite one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LoraSettings(Section):
    """Names and meanings of peft's LoraConfig. `target_modules: language` reaches every linear layer of the
    language model and nothing else (`all-linear` would reach the vision tower)."""

    r: int = Field(default=16, gt=0)
    lora_alpha: int = Field(default=32, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["language"] | tuple[str, ...] = "language"
    use_rslora: bool = False


class ModelConfig(Section):
    """Which model, and how it is loaded.

    `name` is a Hugging Face id, a folder, or `world` (the embedded model). `train` names the modules that are
    tuned: with `tune: lora` the language model gets adapters and other named modules are tuned in full and saved
    with the adapter; with `tune: full` the named modules are tuned in full, or of their weights only those whose dotted
    name one of the patterns in `parameters` matches, such as `*.layers.[567].mlp.down_proj.weight`. `family` holds
    options of the model's family (see `vlmend list families`). `dtype` is what frozen weights are held in and passes
    are computed in; weights that are trained are held in float32, or small steps would be rounded away.
    """

    name: str
    adapter: str | None = None
    family: Mapping[str, bool | int | float | str] = {}
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"] = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    trust_remote_code: bool = False
    tune: Literal["lora", "full"] = "lora"
    train: tuple[Module, ...] = ("language_model",)
    parameters: Words = ()
    lora: LoraSettings = LoraSettings()

    @classmethod
    def from_spec(cls, spec: str, **settings: Any) -> ModelConfig:
        """`model[+adapter][?option=value&…]`, as on the command line.

        Options are keys of this section, such as `revision`, or those of the model's family.
        """
        name, _, options = spec.partition("?")
        name, _, adapter = name.partition("+")
        given = {key: value for key, _, value in (item.partition("=") for item in options.split("&") if item)}
        own = {key: given.pop(key) for key in given.keys() & cls.model_fields.keys() - {"name", "adapter", "family"}}
        return _validated(
            cls, {"name": name, "adapter": adapter or None, "family": given, **settings, **own}, f"model {spec}"
        )


class Filter(Section):
    """Which examples of a source are wanted, by label: each key names one value or several, and all keys must fit."""

    expected: Words | None = None
    subset: Words | None = None
    category: Words | None = None
    subcategory: Words | None = None
    role: Words | None = None

    def __call__(self, example: Example) -> bool:
        """Whether the example has a wanted value for every key."""
        return all(getattr(example, key) in wanted for key, wanted in self if wanted is not None)


class MixPart(Section):
    """One source of the mix, at most one of `n`, `fraction` and `ratio` limiting it by a seeded sample.

    `n`: examples. `fraction`: of what the source has. `ratio`: of the whole mix; the other parts say how large that is.
    `where` filters before anything is counted. `role` and `weight` override what the source says about its examples.
    """

    source: str
    n: int | None = Field(default=None, gt=0)
    fraction: float | None = Field(default=None, gt=0, le=1)
    ratio: float | None = Field(default=None, gt=0, lt=1)
    where: Filter = Filter()
    role: Role | None = None
    weight: float = Field(default=1.0, gt=0)


class DataConfig(Section):
    """What is trained on. Sources are specs such as `vlguard:data/VLGuard#train`.

    `replay` names the mix.json of an earlier run or of `vlmend data mix`: its rows are taken again, whatever the seed.
    `bad_images`: a picture that cannot be decoded, has more than `max_pixels`, or is of a shape that the model's
    processor refuses, is an error before the first step, or its rows are skipped and counted.
    """

    mix: tuple[MixPart, ...] = Field(min_length=1)
    missing_images: Literal["error", "placeholder"] = "error"
    bad_images: Literal["error", "skip"] = "error"
    max_pixels: MaxPixels = MAX_PIXELS
    seed: int = 0
    replay: Path | None = None


class OwnConfig(Section):
    """How a model is asked for its own reasoning and answers before it is tuned, and what of them is learned.

    `right` is the reward, such as `judge:exact`, by which a row's own answer is kept where it is above 0, and every one
    where it is empty or the row knows no answer. Rows whose answer is `wrong` are left out (`drop`) or learned as they
    are `given`. `safety`: where the reasoning before a refusal comes from: the `data`, the model itself (`own`) or
    another one (its spec), told to look for harm; kept where `refused`, a reward too, is above 0.
    """

    max_new_tokens: int = Field(default=1024, gt=0)
    right: str = "judge:exact"
    wrong: Literal["drop", "given"] = "drop"
    safety: str = "data"
    refused: str = "judge:refusal"


class TrainConfig(Section):
    """Optimization; names and meanings are those of transformers' TrainingArguments.

    A batch is of rows: a method that sets roles side by side shows one example of each in a row. `reference` is about
    methods that compare with the model before tuning: it is scored `live` at every step, or once before the first
    (`cached`), or as costs least (`auto`). `group_by_picture` keeps what is asked about one picture together in
    the order of training, so that the picture goes through the model once. `projector_learning_rate` follows the same
    schedule from a peak of its own.

    `thinking` is about what is said to oneself before an answer: it is learned (`supervise`), shown and not learned
    (`mask`), or left out (`none`). `keep_own`: rows to be answered keep what the model itself thinks and answers before
    it is tuned, and it is learned, as is the reasoning of the other rows (see docs/reasoning.md); `own` says how the
    model is asked.
    """

    learning_rate: float = Field(default=2e-4, gt=0)
    projector_learning_rate: float | None = Field(default=None, gt=0, description="of the projector alone, if another")
    num_train_epochs: float = Field(default=1.0, gt=0)
    max_steps: int = Field(default=-1, ge=-1, description="overrides num_train_epochs when positive")
    per_device_train_batch_size: int = Field(default=8, gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    bf16: bool = False
    gradient_checkpointing: bool = False
    max_length: int | None = Field(default=None, gt=0, description="longer examples are an error, never cut")
    reference: Literal["auto", "live", "cached"] = "auto"
    group_by_picture: bool = True
    logging_steps: int = Field(default=10, gt=0)
    save_steps: int = Field(default=0, ge=0, description="checkpoint every so many steps; 0: only at the end")
    save_total_limit: int = Field(default=1, gt=0)
    seed: int = 0
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    thinking: Literal["supervise", "mask", "keep_own", "none"] = "supervise"
    own: OwnConfig = OwnConfig()


class SpeedConfig(Section):
    """Faster ways to the same gradients, each taken where model and method allow it.

    shared_prefix: what examples of a pass begin with in common goes through the model once. packing: several short
    examples stand in one row. answer_logits: the language-model head runs only where something is read. stop_at_layer:
    examples of which only a layer's hidden states are read go no further. features: what a frozen vision tower makes of
    a picture is kept, in memory up to `features_mb`, or in files under `features_dir`, for other runs too.
    tokens_per_pass: instead of per_device_train_batch_size rows, a pass has as many rows as make so many tokens.
    """

    shared_prefix: bool = True
    packing: bool = True
    answer_logits: bool = True
    stop_at_layer: bool = True
    features: bool = True
    features_mb: int = Field(default=1024, gt=0)
    features_dir: Path | None = None
    tokens_per_pass: int | None = Field(default=None, gt=0)


class OutputConfig(Section):
    """Where the tuned adapter or model goes, and in which `dtype` it is saved.

    `auto` saves what was trained in float32, as it is held, and the rest as it was loaded. Rounded to 16 bits the
    smaller part of an update is lost; how much is told after the run.
    """

    dir: Path
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class PromptDecouple(Section):
    """Keep what is forgotten answerable where it is harmless (arXiv 2502.12520).

    `weight` of the term; None takes what was published for the method. `matched` shows each decouple example beside the
    forgotten one it belongs to, `random` beside any.
    """

    weight: float | None = Field(default=None, gt=0)
    pairing: Literal["matched", "random"] = "matched"


class MethodConfig(BaseModel):
    """An objective by name; `pd` adds a Prompt Decouple term; other keys are settings, checked by the registry.

    `same_judge`: whether a judge that is a reward of the method may also judge the tuned model: it says how well the
    reward was met, and no longer whether the model is safe.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "sft"
    pd: bool | PromptDecouple = False
    same_judge: Literal["refused", "allowed"] = "refused"

    @property
    def prompt_decouple(self) -> PromptDecouple | None:
        """The settings of the Prompt Decouple term, if there is one."""
        if isinstance(self.pd, PromptDecouple):
            return self.pd
        return PromptDecouple() if self.pd else None

    @property
    def settings(self) -> dict[str, Any]:
        """The objective's own settings."""
        return dict(self.model_extra or {})


class JudgingConfig(Section):
    """Who judges what the tuned model answers when a sweep or a tamper test asks it; it decides nothing of the tuning.

    `judges` are `QUESTION=SPEC` or `SPEC`; `model` and `sees` are for those whose spec does not say. `controls` says
    what is done about judges that fail their known controls, `refuse` where it is empty.
    """

    judges: tuple[str, ...] = ()
    model: str = ""
    sees: Literal["", "text", "image"] = ""
    controls: Literal["", "refuse", "mark", "none"] = ""

    @property
    def given(self) -> dict[str, Any]:
        """What is not as it is by default, as plain data."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def also(self, judges: Sequence[str], model: str = "", sees: str = "", controls: str = "") -> JudgingConfig:
        """The same with what is given beside it; of model, view and controls its own are kept where none are given."""
        return JudgingConfig.model_validate(
            {
                "judges": (*self.judges, *judges),
                "model": model or self.model,
                "sees": sees or self.sees,
                "controls": controls or self.controls,
            }
        )


class Recipe(Section):
    """A whole tuning run."""

    model: ModelConfig
    method: MethodConfig = MethodConfig()
    data: DataConfig
    train: TrainConfig = TrainConfig()
    speed: SpeedConfig = SpeedConfig()
    judging: JudgingConfig = JudgingConfig()
    output: OutputConfig

    @model_validator(mode="after")
    def _rates_of_what_is_trained(self) -> Self:
        if self.train.projector_learning_rate is not None and "projector" not in self.model.train:
            raise ValueError(
                "train.projector_learning_rate is the rate of a projector that is trained, and model.train is"
                f" [{', '.join(self.model.train)}]; add projector to it or leave the rate out"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, as plain YAML-able data."""
        return self.model_dump(mode="json")


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides (values are YAML). Raises ConfigError with one line."""
    return parse_recipe(_read(path, overrides), where=f"recipe {path}")


def load_data(path: Path, overrides: list[str] | None = None) -> DataConfig:
    """The section `data` of a recipe; a file that has no other section will do."""
    data = _read(path, overrides)
    if "data" not in data:
        raise ConfigError(f"recipe {path} has no section 'data'; it has {', '.join(map(str, data)) or 'nothing'}")
    return _validated(DataConfig, data["data"], where=f"recipe {path}: data")


def parse_recipe(data: dict[str, Any], where: str = "recipe") -> Recipe:
    """Validate plain data as a recipe."""
    return _validated(Recipe, data, where)


S = TypeVar("S", bound=BaseModel)


def _validated(kind: type[S], data: object, where: str) -> S:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, kind)}") from error


def _read(path: Path, overrides: list[str] | None) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    data = plain_yaml.parse(text, f"recipe {path}")
    if not isinstance(data, dict):
        raise ConfigError(f"recipe {path} must be a mapping with the sections {', '.join(Recipe.model_fields)}")
    for item in overrides or []:
        _override(data, item)
    return data


def _override(data: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {item!r} is not of the form a.b=value")
    *path, last = key.split(".")
    node: Any = data
    for name in path:
        node = _child(node, name, key)
    parsed = plain_yaml.parse(value, f"the value in --set {item!r}")
    if isinstance(node, list):
        _child(node, last, key)
        node[int(last)] = parsed
    else:
        node[last] = parsed


def _child(node: Any, name: str, key: str) -> Any:
    if isinstance(node, list):
        if not name.isdigit() or int(name) >= len(node):
            raise ConfigError(f"--set {key}: {name!r} is not an index into a list of {len(node)}")
        return node[int(name)]
    child = node.setdefault(name, {})
    if child is None:
        child = node[name] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(f"--set {key}: {name!r} holds a value, not a section")
    return child


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All problems in one line; an unknown key comes with what is nearest and what exists.

    A list whose items are wrong is not also called too short.
    """
    found = error.errors()
    inner = [e for e in found if not any(o["loc"][: len(e["loc"])] == e["loc"] and o["loc"] != e["loc"] for o in found)]
    return "; ".join(_problem(e["loc"], e["type"], e["msg"], e.get("input"), model) for e in inner)


def _problem(loc: tuple[int | str, ...], kind: str, message: str, value: object, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        hint = (meant(loc) if model is Recipe else "") or nearest(str(loc[-1]), known)
        return f"unknown key {brief(where)}.{hint} Known: {', '.join(known)}"
    if kind == "missing":
        return f"{where!r} is required"
    if kind == "value_error" and not where:  # what a whole section says of itself
        return message.removeprefix("Value error, ")
    return f"{where!r}: {message[0].lower()}{message[1:]} (got {brief(value)})"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at `loc`, as they are written in files, looking through lists of sections."""
    current: Any = model
    for part in loc:
        annotation = _fields(current)[part].annotation if part in _fields(current) else part
        inner = [annotation, *_arguments(annotation)]
        current = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), current)
    return list(_fields(current))


def _fields(model: type[BaseModel]) -> dict[Any, Any]:
    """Fields by the key that stands for them in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _arguments(annotation: Any) -> list[Any]:
    """Everything inside the brackets of an annotation, however deep."""
    inside = getattr(annotation, "__args__", ())
    return [deep for a in inside for deep in (a, *_arguments(a))]
