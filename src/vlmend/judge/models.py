"""Models that judges ask: one object, handed to a judge with its call, behind which all that is asked goes one way.

Nothing is asked twice and no budget is crossed; the model under test and its rewards are not asked for an opinion. A
reply that the judge can read is stored before it is handed on. What fails is a reply that says why; neither it nor what
cannot be read is stored, so it is asked again. What another process is asking is waited for.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vlmend.errors import DataError, ModelError, StoreError, UsageError, VlmendError
from vlmend.judge.handout import Handout
from vlmend.money import Purse, Usage, estimate, served
from vlmend.registry import Spec, backend_for
from vlmend.store import read_json
from vlmend.store.cache import Cache
from vlmend.types import (
    Backend,
    Checked,
    Decoding,
    Example,
    Finish,
    FirstWords,
    Message,
    Response,
    Scorer,
    conversation_key,
    digest,
)

LOG = logging.getLogger("vlmend.judge")
AT_ONCE = 256  # prompts handed to a backend together; it sees to its own concurrency
PATIENCE = 25  # failures in a row after which a model is taken to be down
LOOK = 0.1  # seconds between two looks at what another process has got
STUCK = 600.0  # seconds without news of it after which its prompts are asked here, even if they are paid twice
REWARDS = (
    "reward",
    "rewards",
    "cost",
    "costs",
    "judge",
    "judges",
)  # keys of a recipe's method that name what tuning was steered by

Sees = Literal["", "text", "image"]
Controls = Literal["refuse", "mark", "none"]
"""What is done about a judge that fails its known controls; or none are asked."""

Prompt = tuple[Message, ...]


class Reply(NamedTuple):
    """What came back: a text, or log-probabilities where those were asked for, or why there is nothing.

    `lost` marks what failed, and may come back another time.
    """

    text: str = ""
    why: str = ""
    weights: Mapping[str, float] | None = None
    lost: bool = False
    read: int = 0
    written: int = 0


def anything(text: str) -> bool:
    """Any text will do."""
    del text
    return True


@dataclass(frozen=True)
class Models:
    """All that a judge needs of models: whom to ask, what to show, what was asked before, what may be spent.

    `model` and `sees` are for judges that name none of their own. `tested` is the model that is judged, `fingerprint`
    what it is known by, `rewards` what it was tuned with, `answering` the model itself, where it is loaded, and
    `defended` what it stood behind.
    `allowed` are judges that may ask it all the same, and `allow_self` is what such a judge and its members are given.
    `controls` is what is done about judges that fail theirs, and `tried` what came of those that were asked already.
    Which models are down is known here too, so that no other judge, batch or suite has to find that out again.
    """

    model: str = ""
    sees: Sees = ""
    cache: Cache | None = None
    purse: Purse = field(default_factory=Purse)
    tested: str = ""
    fingerprint: str = ""
    rewards: tuple[str, ...] = ()
    answering: Backend | None = None
    defended: str = ""
    allowed: frozenset[str] = frozenset()
    allow_self: bool = False
    controls: Controls = "refuse"
    tried: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    loaded: dict[str, Backend] = field(default_factory=dict[str, Backend])  # by name, each once
    failures: Counter[str] = field(default_factory=Counter[str])  # of a model since it last replied
    down: dict[str, str] = field(default_factory=dict[str, str])  # models that are asked no more, and why

    def testing(self, model: str, fingerprint: str = "", backend: Backend | None = None) -> Models:
        """The same with this model under test, and what the manifest beside its weights tells of its tuning."""
        return replace(self, tested=model, fingerprint=fingerprint, rewards=_rewards(model), answering=backend)

    def for_judge(self, judge: str) -> Models:
        """What a judge is given. Raises UsageError when it was the reward of the model that it is to judge."""
        if self.allow_self or judge in self.allowed:
            return self if self.allow_self else replace(self, allow_self=True)
        if any(_alike(judge, reward) for reward in self.rewards):
            raise UsageError(
                f"judge {judge} was the reward that {self.tested} was tuned with, and says nothing about it; if that is"
                f" what you want to see, ask for it by name: {_by_name(judge)}"
            )
        return self

    def asked_by(self, judge: str, own: str) -> str:
        """The model that a judge asks: its own or else the default.

        Raises UsageError where there is none to ask, and ModelError for one that cannot be loaded, as far as that shows
        without reading weights.
        """
        found = self.chosen(judge, own)
        if found not in self.loaded and not (self.purse.dry and is_local(found)):
            backend = backend_for(found)
            if isinstance(backend, Checked):
                backend.check()
            self.loaded[found] = backend
        return found

    def chosen(self, judge: str, own: str) -> str:
        """The name of the model that is to judge. Raises UsageError where there is none, and where it may not."""
        found = own or self.model
        if not found:
            raise UsageError(f"judge {judge} asks a model; name it with --judge-model, such as openai:NAME@URL")
        if self.allow_self:
            return found
        if self.tested and _plain(found) == _plain(self.tested):
            raise UsageError(_itself(judge, found))
        if found in self.rewards:
            raise UsageError(
                f"judge {judge} would ask {found}, the reward this model was tuned with; if that is what you want, say"
                f" so: {_by_name(judge)}"
            )
        return found

    def load(self, model: str, judge: str) -> Backend:
        """The model, loaded; not when it turns out to be the tested one under another name."""
        found = self.loaded.get(model)
        if found is None:
            found = self.loaded[model] = backend_for(model)
        if not self.allow_self and self.fingerprint and found.fingerprint == self.fingerprint:
            raise UsageError(_itself(judge, model))
        return found

    def under_test(self, judge: str) -> Backend:
        """The model under test, for a judge that reads what it knows instead of judging what it said.

        Raises UsageError where its name now stands for another model, and where a defence stands before it: what the
        model knows is not what is said behind that.
        """
        if self.defended:
            raise UsageError(
                f"judge {judge} reads the model itself, and nothing of what {self.defended} does; leave it out"
            )
        found = self.answering or self.loaded.get(self.tested)
        if found is None:
            found = self.loaded[self.tested] = backend_for(self.tested)
        if self.fingerprint and found.fingerprint != self.fingerprint:
            raise UsageError(f"judge {judge} reads the model that answered, and {self.tested} is no longer the same")
        return found

    def ask(
        self, judge: str, model: str, prompts: Sequence[Prompt], decoding: Decoding,
        readable: Callable[[str], bool] = anything,
    ) -> Iterator[tuple[int, Reply]]:  # fmt: skip
        """A reply to each prompt, in any order, with the prompt's place; equal prompts are asked once.

        `readable` says whether the judge can make a verdict of a text: only then is it worth keeping.
        """

        def call(backend: Backend, examples: Sequence[Example]) -> Iterator[tuple[str, Reply]]:
            for response in backend.generate(examples, decoding):
                yield response.example_id, _reply(response)

        way = _Way(asdict(decoding), decoding.max_new_tokens, readable, lambda example: example, call)
        return _replies(self, judge, model, way, prompts)

    def weigh(
        self, judge: str, model: str, prompts: Sequence[Prompt], answers: Sequence[str], *, begun: bool = False
    ) -> Iterator[tuple[int, Reply]]:
        """How likely the model finds each of some answers to each prompt, instead of what it would say.

        `begun`: how likely it is to begin its reply with each of them.
        """

        def call(backend: Backend, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[tuple[str, Reply]]:
            if begun and isinstance(backend, FirstWords):
                weighed = backend.beginnings(asked)
            elif isinstance(backend, Scorer) and not begun:
                weighed = backend.likelihoods(asked)
            else:
                raise UsageError(f"judge {judge}: {model} cannot say how likely an answer is; name a local model")
            found: dict[str, dict[str, float]] = {}
            for one in weighed:
                weights = found.setdefault(one.example_id, {})
                if one.logprob is None:
                    yield one.example_id, Reply(why=f"the judge's model: {one.why or 'no likelihood'}", lost=True)
                else:
                    weights[one.answer] = one.logprob
                    if len(weights) == len(set(answers)):
                        yield one.example_id, Reply(weights=weights)

        decides = {"beginnings" if begun else "likelihoods": list(answers)}
        way = _Way(decides, 1, anything, lambda example: (example, tuple(answers)), call)
        return _replies(self, judge, model, way, prompts)


class _Way(NamedTuple):
    """How prompts are put to a backend: to be answered, or to have given answers weighed."""

    decides: Mapping[str, Any]  # what decides the reply beside model and prompt
    longest: int  # tokens of a reply
    readable: Callable[[str], bool]
    made: Callable[[Example], Any]  # what the backend is given
    call: Callable[[Backend, Sequence[Any]], Iterator[tuple[str, Reply]]]

    def keeps(self, reply: Reply) -> bool:
        """Whether a reply is worth storing."""
        return not reply.lost and (reply.weights is not None or self.readable(reply.text))

    def most(self, prompt: Prompt) -> Usage:
        """The most that a call can use."""
        return estimate(prompt, self.longest)[1]


def _replies(
    models: Models, judge: str, model: str, way: _Way, prompts: Sequence[Prompt]
) -> Iterator[tuple[int, Reply]]:
    """From memory where it was asked before, else from the model, as far as money goes."""
    if not prompts:
        return
    purse = models.purse
    purse.check(model)
    backend = None if purse.dry and is_local(model) else models.load(model, judge)
    places: dict[str, list[int]] = {}
    open_: dict[str, Prompt] = {}
    for place, prompt in enumerate(prompts):
        try:
            key = digest(backend.fingerprint if backend else model, conversation_key(prompt), way.decides)
        except DataError as error:
            yield place, Reply(why=str(error), lost=True)
            continue
        places.setdefault(key, []).append(place)
        open_[key] = prompt
    for key, reply in _known(models, way, open_):
        yield from ((place, reply) for place in places[key])
    if backend is None or purse.dry:
        for key, prompt in open_.items():
            purse.expect(model, *estimate(prompt, way.longest))
            yield from ((place, Reply(why="not asked: a dry run", lost=True)) for place in places[key])
        return
    for key, reply in _from_model(models, model, backend, way, open_):
        yield from ((place, reply) for place in places[key])


def _known(models: Models, way: _Way, open_: dict[str, Prompt]) -> Iterator[tuple[str, Reply]]:
    """Replies to what was asked before, which is no longer open. What could not be read is forgotten."""
    if models.cache is None:
        return
    found = {key: Reply(**row) for key, row in models.cache.get(list(open_)).items()}
    useless = [key for key, reply in found.items() if not way.keeps(reply)]
    if useless and not models.purse.dry:
        models.cache.forget(useless)
    for key, reply in found.items():
        if way.keeps(reply):
            del open_[key]
            models.purse.known += 1
            yield key, reply


def _from_model(
    models: Models, model: str, backend: Backend, way: _Way, open_: dict[str, Prompt]
) -> Iterator[tuple[str, Reply]]:
    """Asks what no other process is asking, and waits for what one is."""
    purse, told, news = models.purse, False, time.monotonic()
    while open_:
        why = models.down.get(model, "")
        claimed = [] if why else _claimed(models, model, open_, anyway=time.monotonic() - news > STUCK)
        try:
            known = list(_known(models, way, open_))  # only after claiming: claims are kept until a reply is stored
            yield from known
            mine = [(key, open_[key]) for key in claimed if key in open_]
            some = mine[: purse.room(model, [way.most(prompt) for _, prompt in mine])]
            if mine and not some:
                why = f"the budget of {purse.budget} could be crossed"
            if why:
                yield from ((key, Reply(why=f"not asked: {why}", lost=True)) for key in open_)
                return
            _release(models, [key for key, _ in mine[len(some) :]])
            for key, _ in some:
                del open_[key]
            yield from _asked(models, model, backend, way, dict(some))
        finally:
            _release(models, claimed)
        if known or some:
            news = time.monotonic()
            continue
        if not told:
            LOG.warning("vlmend: waiting for %d replies that another process asks for", len(open_))
        told = True
        time.sleep(LOOK)


def _claimed(models: Models, model: str, open_: Mapping[str, Prompt], *, anyway: bool) -> list[str]:
    """The next prompts that are for this process to ask, or, `anyway`, the next ones.

    One alone where a budget has to hold and nobody knows yet what the model adds to prompts.
    """
    at_once = 1 if models.purse.budget and model not in models.purse.spent else AT_ONCE
    found: list[str] = []
    for key in open_:
        if len(found) == at_once:
            break
        if anyway or not models.cache or models.cache.claim(key):
            found.append(key)
    return found


def _release(models: Models, keys: Sequence[str]) -> None:
    if models.cache:
        models.cache.release(keys)


def _asked(
    models: Models, model: str, backend: Backend, way: _Way, open_: dict[str, Prompt]
) -> Iterator[tuple[str, Reply]]:
    """What the model says to some prompts, stored and paid for; what it does not answer is lost.

    A model that is down is asked nothing more. Neither is one whose reply could not be stored: what it is asked already
    is waited for, handed on and stored if it can be, and then StoreError is raised.
    """
    trouble, why = None, f"the judge's model: {model} gave no reply"
    handout = Handout([way.made(Example(key, prompt)) for key, prompt in open_.items()])
    replies = way.call(backend, handout)
    try:
        for key, reply in replies:
            prompt = open_.pop(key, None)
            if prompt is None:
                continue
            trouble = _stored(models, model, way, key, prompt, reply) or trouble
            handout.stopped = bool(trouble or model in models.down)
            yield key, reply
            if handout.stopped and not served(model)[0]:
                break  # nothing is paid for; what a server was asked is on its way
    except GeneratorExit:
        handout.stopped = True
        _save(models, model, way, replies, open_)
        raise
    except ModelError as error:
        why = f"the judge's model: {error}"
        models.down.setdefault(model, why)
    except VlmendError:
        raise
    except Exception as error:  # noqa: BLE001  # somebody's backend: whatever goes wrong in it is an outcome
        why = f"the judge's model: {type(error).__name__}: {error}"
    if trouble:
        raise trouble
    lost = Reply(why=f"not asked: {models.down[model]}" if handout.stopped else why, lost=True)
    for key in open_:
        _heard(models, model, lost)
        yield key, lost


def _stored(models: Models, model: str, way: _Way, key: str, prompt: Prompt, reply: Reply) -> StoreError | None:
    """Pay for a reply and keep it if it can be read; what went wrong when it could not be written.

    Where a budget has to hold and the model does not say what it used, it is taken to have used the most it could.
    """
    most = way.most(prompt)
    untold = models.purse.budget is not None and not reply.lost and not reply.read
    models.purse.pay(model, most if untold else Usage(1, reply.read, reply.written), most)
    _heard(models, model, reply)
    try:
        if models.cache and way.keeps(reply):
            models.cache.put(key, reply._asdict())
    except StoreError as error:
        return error
    return None


def _save(
    models: Models, model: str, way: _Way, replies: Iterator[tuple[str, Reply]], open_: dict[str, Prompt]
) -> None:
    """Store what a server was asked already, when whoever reads the replies has come to an end."""
    if not served(model)[0]:
        return
    try:
        for key, reply in replies:
            if key in open_:
                _stored(models, model, way, key, open_.pop(key), reply)
    except Exception as error:  # noqa: BLE001  # it ends for another reason already, which is the one to be told
        LOG.info("replies on their way were lost: %s", error)


def _heard(models: Models, model: str, reply: Reply) -> None:
    """Take note of a reply, or of a failure: after PATIENCE in a row the model is down."""
    models.failures[model] = models.failures[model] + 1 if reply.lost else 0
    if models.failures[model] >= PATIENCE:
        models.down.setdefault(model, f"{model} failed {PATIENCE} times in a row, last: {reply.why}")


def _reply(response: Response) -> Reply:
    lost = response.finish is Finish.FAILED
    why = "" if response.said else f"the judge's model: {response.why or f'{response.finish}, empty'}"
    return Reply(response.text, why, None, lost, response.prompt_tokens, response.tokens)


def is_local(model: str) -> bool:
    """Whether the model would have to be loaded here to be known."""
    return not served(model)[0] and not model.startswith("scripted")


# Who is under test


def _rewards(model: str) -> tuple[str, ...]:
    """What a model was tuned with, by the manifest beside its adapter or weights; nothing where there is none.

    Nor where its recipe says that the same judges may be heard (`method.same_judge`).
    """
    folder = Path(model.removeprefix("hf:").rpartition("+")[2]).expanduser()
    try:
        about = read_json(folder / "manifest.json")
    except StoreError:
        return ()
    recipe = about.get("recipe")
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    if not isinstance(method, Mapping) or method.get("same_judge") == "allowed":
        return ()
    return tuple(dict.fromkeys([*_named(method, inside=False), *about.get("reward_judges", ())]))


def _named(data: Any, *, inside: bool) -> Iterator[str]:
    """Every text below a key that names rewards."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _named(value, inside=inside or key in REWARDS)
    elif isinstance(data, list):
        for value in data:
            yield from _named(value, inside=inside)
    elif inside and isinstance(data, str):
        yield data


def _alike(judge: str, reward: str) -> bool:
    """Whether two specs name one judge, whatever their options."""
    try:
        return Spec.parse(judge)[:2] == Spec.parse(reward)[:2]
    except UsageError:  # a recipe may name other things than judges there
        return False


def _plain(model: str) -> str:
    """A model's name without settings."""
    return model.removeprefix("hf:").partition("?")[0]


def _itself(judge: str, model: str) -> str:
    how = f"if that is what you want, say so: {_by_name(judge)}"
    return f"judge {judge} would ask {model}, the model under test, to judge itself; {how}"


def _by_name(judge: str) -> str:
    return f"--judge '{judge}{'&' if '?' in judge else '?'}allow_self=yes'"
