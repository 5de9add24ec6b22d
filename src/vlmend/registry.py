"""Plugins by name. The folder is the registry: `vlmend/<kind>/<name>.py` with `plugin = TheClass` is all it takes.

Other packages plug in through an entry point in the group `vlmend.<kind>` that points to the same shape of module.
Nothing is imported until it is asked for, so an ImportError inside a plugin stays an ImportError of that plugin.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, NamedTuple

from vlmend import plugged
from vlmend.errors import ConfigError, UnknownName, UsageError, brief
from vlmend.option_names import meant
from vlmend.types import Backend


class Spec(NamedTuple):
    """`name[:argument][#split][?key=value&…]`, the one way to name a plugin on the command line and in recipes.

    The split may also stand last. What stands in parentheses is left whole, so that a spec can hold others.
    """

    name: str
    argument: str = ""
    split: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Take a spec apart. Raises UsageError when it has no name or an option without `=`."""
        head, *marked = _pieces(text, "#?")
        parts = {piece[0]: piece[1:] for piece in marked}
        if len(parts) < len(marked):
            raise UsageError(f"{text!r} has two splits or two lists of options")
        name, _, argument = head.partition(":")
        if not name:
            raise UsageError(f"{text!r} names nothing; the form is name[:argument][#split][?key=value&…]")
        options: list[tuple[str, str]] = []
        for item in _pieces(parts.get("?", ""), "&"):
            key, equals, value = item.removeprefix("&").partition("=")
            if not key and not equals:
                continue
            if not equals:
                raise UsageError(f"option {item!r} of {text!r} has no value; write {item}=…")
            options.append((key, value))
        return cls(name, argument, parts.get("#", ""), tuple(options))


def _pieces(text: str, marks: str) -> list[str]:
    """The text before every mark outside parentheses; the marks stay. Parentheses that do not match are letters."""
    pieces, depth = [""], 0
    nested = text.count("(") == text.count(")")
    for letter in text:
        depth += nested * ((letter == "(") - (letter == ")"))
        if letter in marks and depth == 0:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    """Ours of every installed package, read once: looking through all packages takes long."""
    groups = entry_points()
    return tuple(e for name in groups.groups if name.startswith("vlmend.") for e in groups.select(group=name))


@dataclass(frozen=True)
class Registry:
    """All plugins of one kind, found in one folder and in entry points of other packages."""

    kind: str  # singular, as in messages: "judge"
    package: str  # "vlmend.judge.judges"
    group: str  # entry point group: "vlmend.judges"
    module: str = ""  # where the kind's protocols are
    protocols: tuple[str, ...] = ()  # what every plugin has, then what some can do beside

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Name to file. The package itself is located, not imported: its own imports may be heavy."""
        package = importlib.util.find_spec(self.package)
        if package is None or package.submodule_search_locations is None:
            return {}
        found = pkgutil.iter_modules(package.submodule_search_locations)
        return {m.name: _origin(m) for m in found if not m.name.startswith("_")}

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in _entry_points() if e.group == self.group and e.name not in self._modules}

    def names(self) -> list[str]:
        """Every known name, sorted. Imports no plugin."""
        return sorted([*self._modules, *self._foreign])

    def summary(self, name: str) -> str:
        """First line of the plugin's docstring, read without importing it."""
        path = self._modules.get(name) or _foreign_origin(self._foreign[name])
        with open(path, encoding="utf-8") as file:
            doc = ast.get_docstring(ast.parse(file.read())) or ""
        return doc.partition("\n")[0]

    def find(self, name: str) -> type[Any]:
        """The plugin class. Raises UnknownName where there is none, ConfigError for what its kind does not declare."""
        if name in self._modules:
            found = importlib.import_module(f"{self.package}.{name}").plugin
        elif name in self._foreign:
            loaded = self._foreign[name].load()
            found = getattr(loaded, "plugin", loaded)
        else:
            raise UnknownName(self.kind, name, self.names(), _meant(self.kind, name))
        _checked(self, name, found)
        return found

    def build(self, name: str, settings: Mapping[str, object] | None = None) -> Any:
        """Check `settings` against the plugin's fields and construct it."""
        # not at the top: listing plugins must not wait for it
        from pydantic import TypeAdapter, ValidationError

        plugin, settings = self.find(name), dict(settings or {})
        known = [f.name for f in fields(plugin) if f.init]
        for key in settings.keys() - known:
            hint = meant([key]) if self.kind == "objective" else ""
            raise UnknownName(f"{name} option", key, known, hint)
        try:
            built = TypeAdapter(plugin).validate_python(settings)
        except ValidationError as error:
            first = error.errors()[0]
            own = first.get("ctx", {}).get("error")
            if isinstance(own, ConfigError):  # the plugin's words, which say whose they are
                raise own from error
            if not first["loc"]:  # the plugin's own complaint
                raise ConfigError(f"{self.kind} {name!r}: {first['msg'].removeprefix('Value error, ')}") from error
            where = ".".join(str(part) for part in first["loc"])
            if first["type"] == "missing":
                form = f"{name}:{where.upper()}" if where == known[0] else f"{name}?{where}=…"
                raise ConfigError(
                    f"{self.kind} {name!r} needs {where!r}: write {form}. {self.summary(name)}"
                ) from error
            raise ConfigError(
                f"{self.kind} {name!r}: {where}: {first['msg']} (got {brief(first.get('input'))})"
            ) from error
        for key in settings:
            value = getattr(built, key)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{self.kind} {name!r}: {key}: input should be a finite number (got {value})")
        return built

    def from_spec(self, text: str, given: Mapping[str, object] = MappingProxyType({})) -> Any:
        """Construct from a spec: the argument goes to the plugin's first field, the split to its field `split`.

        `given` are further settings, over which those of the spec decide.

        A plugin that `takes_spec` is built around another one: its first field is all that follows its name, or what
        stands there in parentheses, behind which it has options of its own.
        """
        name, _, inner = text.partition(":")
        wraps = self.takes_spec(text)
        if wraps and not inner.startswith("("):
            return self.build(name, {**given, fields(self.find(name))[0].name: inner})
        spec = Spec.parse(text)
        known = [f.name for f in fields(self.find(spec.name)) if f.init]
        settings: dict[str, object] = {**given, **dict(spec.options)}
        if spec.argument:
            if not known:
                raise UsageError(f"{self.kind} {spec.name!r} takes no argument, got {spec.argument!r}")
            settings[known[0]] = spec.argument.removeprefix("(").removesuffix(")") if wraps else spec.argument
        if spec.split:
            if "split" not in known:
                raise UsageError(f"{self.kind} {spec.name!r} has no splits, got #{spec.split}")
            settings["split"] = spec.split
        return self.build(spec.name, settings)

    def takes_spec(self, text: str) -> bool:
        """Whether the spec names a plugin around another spec, whose split and options are not its own."""
        name = text.partition(":")[0]
        return name in self.names() and getattr(self.find(name), "takes_spec", False)


@cache
def _checked(registry: Registry, name: str, plugin: type[Any]) -> None:
    """Once for each class: it is what its kind declares."""
    if registry.protocols:
        module = importlib.import_module(registry.module)
        plugged.check(registry.kind, name, plugin, [getattr(module, protocol) for protocol in registry.protocols])


def _meant(kind: str, name: str) -> str:
    """What was probably meant by a name of another kind, or by a file: ' Your own file is …'."""
    if kind in ("source", "suite") and name.endswith((".json", ".jsonl")):
        return f" Your own file is {'source:' * (kind == 'suite')}jsonl:{name}."
    other = next((registry.kind for registry in KINDS.values() if name in registry.names()), "")
    if (kind, other) == ("suite", "source"):
        return f" It is a source; a suite of it is source:{name}:…."
    return f" It is the name of {'an' if other[0] in 'aeiou' else 'a'} {other}." if other else ""


def _origin(module: pkgutil.ModuleInfo) -> str:
    spec = module.module_finder.find_spec(module.name, None)
    return (spec and spec.origin) or ""


def _foreign_origin(entry: EntryPoint) -> str:
    spec = importlib.util.find_spec(entry.module)
    return (spec and spec.origin) or ""


def _registry(kind: str, package: str, module: str, *protocols: str) -> Registry:
    return Registry(kind, f"vlmend.{package}", f"vlmend.{package.rpartition('.')[2]}", f"vlmend.{module}", protocols)


objectives = _registry("objective", "objectives", "objectives", "Objective", "Stops", "Draws")
sources = _registry("source", "data.sources", "types", "Source", "Sampled", "Celled", "TakesSpec")
judges = _registry(
    "judge", "judge.judges", "types", "Judge", "Streams", "Described", "AsksModel", "Controlled", "Composed",
    "TakesSilence", "TakesSpec",
)  # fmt: skip
attacks = _registry(
    "attack", "attacks", "types", "Attack", "NeedsOthers", "NeedsVictim", "Bounded", "WritesText", "TakesSpec"
)
suites = _registry("suite", "suites", "types", "Suite", "Carded", "Extended", "AsksOnce", "TakesSpec")
backends = _registry(
    "backend", "backends", "types", "Backend", "Scorer", "FirstWords", "SeenInto", "Changeable", "RendersPrompts",
    "Checked", "Loads", "Notes", "RanOn", "Named", "Billed", "TakesSpec",
)  # fmt: skip
defences = _registry("defence", "defences", "types", "Defence", "Screens", "Reads", "Alters", "TakesSpec")
rewards = _registry("reward", "rewards", "types", "Reward", "HearsJudges", "Checked", "TakesSpec")
picture_sources = _registry(
    "picture source", "build.pictures", "build.picture", "PictureSource", "StandsIn", "TakesSpec"
)
pipelines = _registry("pipeline", "build.pipelines", "build.pipeline", "Pipeline")
families = _registry("family", "models.families", "models.family", "Family")

KINDS: dict[str, Registry] = {
    "objectives": objectives,
    "sources": sources,
    "judges": judges,
    "attacks": attacks,
    "suites": suites,
    "backends": backends,
    "defences": defences,
    "rewards": rewards,
    "pipelines": pipelines,
    "families": families,
    "pictures": picture_sources,
}


def backend_for(model: str, settings: Mapping[str, object] = MappingProxyType({})) -> Backend:
    """A model spec as a backend: `NAME:…` is the backend of that name, anything else a model transformers loads.

    Options of the spec that the backend knows, `?share_prefix=no&…`, decide over `settings`; what a model that
    transformers loads does not know of them is left to its family. Raises UsageError for a setting that the backend
    has no field for: what nobody honors is not dropped.
    """
    name, colon, _ = model.partition(":")
    if name in backends.names() and name != "hf":
        return backends.from_spec(model, _honored(name, settings))
    if colon and name != "hf":
        raise UnknownName("backend", name, backends.names())
    spec = model.removeprefix("hf:")
    if not spec or spec == "hf":
        raise UsageError(f"{model!r} names no model; write world, a folder or a Hugging Face id, each maybe +ADAPTER")
    spec, _, options = spec.partition("?")
    known = {f.name for f in fields(backends.find("hf")) if f.init} - {"model"}
    own: dict[str, object] = {}
    rest: list[str] = []
    for item in filter(None, options.split("&")):
        key, _, value = item.partition("=")
        if key in known:
            own[key] = value
        else:
            rest.append(item)
    return backends.build("hf", {**settings, **own, "model": f"{spec}?{'&'.join(rest)}" if rest else spec})


def _honored(name: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that somebody gave. Raises UsageError where the backend has no field of that name."""
    given = {key: value for key, value in settings.items() if value not in (None, "auto")}
    known = [f.name for f in fields(backends.find(name)) if f.init]
    for key in given:
        if key not in known:
            raise UsageError(
                f"{name}: has no setting {key}, so {key}={given[key]} cannot be kept; it belongs to models that"
                f" transformers loads here. What can be set: {', '.join(known[1:])}"
            )
    return given
