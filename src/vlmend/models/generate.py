"""Answers and likelihoods of many prompts from one model, with what prompts share done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlmend.errors import DataError, ModelError
from vlmend.models.decode import NOT_FINITE, Chooser, End, Hurry, Wanted, answers, check, never, undefined
from vlmend.models.features import Features
from vlmend.models.kept import Memory
from vlmend.models.load import Loaded
from vlmend.models.pixels import LastPictures
from vlmend.models.plan import Budget, Line, attempt, batches, grouped, opening, order, say
from vlmend.models.prefill import prefill
from vlmend.models.prompts import Place, Prompt, answered, as_answer, as_beginning, bare, prompt, whole_only
from vlmend.types import Decoding, Example

MIB = 2**20
NO_MEMORY = "the device is out of memory with this prompt alone"
IMPOSSIBLE = "the model gives a token of this answer no probability at all"


class Answer(NamedTuple):
    """Token ids of one answer, its end token included; or None, and why there is none."""

    wanted: Wanted
    ids: list[int] | None
    prompt_tokens: int = 0
    seconds: float = 0.0
    why: str = ""


class Score(NamedTuple):
    """log p of one answer's tokens given the prompt; or None, and why it could not be computed."""

    example: Example
    answer: str
    logprob: float | None
    tokens: int = 0
    why: str = ""
    by_token: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()


class Engine:
    """A loaded model at work. `batch_size` rows and `batch_tokens` tokens at most go through it at a time.

    `banned` tokens are never drawn where answers are sampled; `end` says how reasoning is ended that a budget limits.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        batch_size: int,
        batch_tokens: int,
        share_prefix: bool,
        features_mb: int,
        banned: frozenset[int] = frozenset(),
        end: End = never,
    ) -> None:
        self.model, self.codec = loaded.model, loaded.codec
        self.share = share_prefix
        self.budget = Budget(batch_size, batch_tokens)
        self._features_mb = features_mb
        self._banned = banned
        self._end = end
        self._told: set[str] = set()
        self._pictures = LastPictures()

    @cached_property
    def features(self) -> Features:
        """The vision tower, which remembers."""
        return Features(self.model, self.codec.family.features, Memory(self._features_mb * MIB))

    @cached_property
    def whole_only(self) -> str:
        """Why only transformers' own loop can answer with this model; empty when ours can."""
        return whole_only(self.model, self.codec)

    @torch.inference_mode()
    def answers(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Answer]:
        """The answers `decoding.samples` to each example, batch by batch. What cannot be encoded comes without."""
        check(decoding)
        wanted = [Wanted(examples[i], sample) for i in self._order(examples) for sample in decoding.samples]
        problems: list[Answer] = []
        budget, work = self.budget, self._branching
        if self.whole_only or decoding.num_beams > 1:
            if self.whole_only and self.share:
                self._tell(f"{self.codec.model_type}: prompts share no prefix, for {self.whole_only}")
            work = self._whole
            if Chooser(wanted[:1], decoding, self.codec.eos_ids).looks_back:
                budget = Budget(1, budget.tokens)  # transformers' penalties count padding as said before
        for batch in batches(self._lines(wanted, problems), budget, decoding.max_new_tokens):
            yield from _drained(problems)
            for part in self._apart(batch, lambda line: len(wanted[line.number].example.images)):
                yield from self._answered(part, wanted, decoding, budget, work)
        yield from _drained(problems)

    def _answered(
        self, batch: list[Line], wanted: Sequence[Wanted], decoding: Decoding, budget: Budget, work: Any
    ) -> Iterator[Answer]:
        def said(lines: list[Line]) -> list[Answer]:
            started = time.perf_counter()
            asked = [wanted[line.number] for line in lines]
            found: list[list[int] | None] = work(lines, asked, decoding)
            seconds = (time.perf_counter() - started) / len(lines)
            return [
                Answer(w, ids, len(line.prompt), seconds, NOT_FINITE if ids is None else "")
                for w, ids, line in zip(asked, found, lines, strict=True)
            ]

        def failed(line: Line) -> Answer:
            return Answer(wanted[line.number], None, why=NO_MEMORY)

        for done in attempt(batch, budget, decoding.max_new_tokens, said, failed):
            yield from done

    def _apart(self, batch: list[Line], pictures: Callable[[Line], int]) -> list[list[Line]]:
        """The batch, or one for each number of pictures where the family lets these change one another's answers."""
        if self.codec.family.mixes:
            return [batch]
        return [list(same) for _, same in groupby(sorted(batch, key=pictures), key=pictures)]

    def _order(self, examples: Sequence[Example]) -> list[int]:
        return order([opening(e) for e in examples], [self.codec.prompt_length(e) for e in examples])

    def _lines(self, wanted: Sequence[Wanted], problems: list[Answer]) -> Iterator[Line]:
        """Prompts, encoded when they are needed and once per example."""
        last: tuple[Example, Prompt | str, str] | None = None
        for number, (example, sample) in enumerate(wanted):
            if last is None or last[0] is not example:
                try:
                    shown = self._pictures.opened(example)
                    with self._pictures.remembered(self.codec.processor):
                        last = (example, prompt(self.model, self.codec, shown), opening(example))
                except (DataError, ModelError) as error:
                    last = (example, str(error), "")
            if isinstance(last[1], str):
                problems.append(Answer(Wanted(example, sample), None, why=last[1]))
            else:
                yield Line(number, last[1], last[2])

    def _branching(self, lines: list[Line], asked: Sequence[Wanted], decoding: Decoding) -> list[list[int] | None]:
        """Answers token by token, several samples of a prompt branching after it."""
        groups = [list({id(line.prompt): line.prompt for line in group}.values()) for group in grouped(lines)]
        place = {id(p): i for i, p in enumerate(p for group in groups for p in group)}
        rows, logits = prefill(self.model, self.features, groups, self.codec.pad_id, share=self.share)
        branch = torch.tensor([place[id(line.prompt)] for line in lines])
        logits = logits[:, -1]
        if len(lines) > len(place):
            rows, logits = rows.select(branch), logits[branch.to(logits.device)]
        chooser = Chooser(asked, decoding, self.codec.eos_ids, self._banned)
        prompts = [(line.prompt.ids, line.prompt.positions) for line in lines]
        return answers(rows, logits, prompts, chooser, decoding, self.codec.eos_ids, self._end)

    def _whole(self, lines: list[Line], asked: Sequence[Wanted], decoding: Decoding) -> list[list[int] | None]:
        """Answers by transformers' own `generate`, which knows beams and every kind of attention and cache.

        Prompts with equally many pictures at a time: not every processor can put others together.
        """
        counts = [len(line.prompt.shown) for line in lines]
        found: dict[int, list[int] | None] = {}
        for count in set(counts):
            some = [i for i, shown in enumerate(counts) if shown == count]
            found.update(zip(some, self._generated([asked[i] for i in some], decoding), strict=True))
        return [found[i] for i in range(len(lines))]

    def _generated(self, asked: Sequence[Wanted], decoding: Decoding) -> list[list[int] | None]:
        from transformers import LogitsProcessorList

        batch = self.codec.encode_prompts([w.example for w in asked]).to(self.model.device)
        width = batch.inputs["input_ids"].shape[1]
        self.configure(decoding)
        chooser = Chooser(asked, decoding, self.codec.eos_ids, self._banned)
        steps: list[Any] = [_Drawn(chooser, width)] if decoding.do_sample else []
        if decoding.thinking_budget:
            steps.append(_Hurried(Hurry(decoding.thinking_budget, self._end), width))
        with _watching(self.model, len(asked)) as lost:
            ids: Tensor = self.model.generate(**batch.inputs, logits_processor=LogitsProcessorList(steps))
        said = [_until_end(row, self.codec.eos_ids) for row in ids[:, width:].tolist()]
        undone = torch.stack(lost, dim=1).tolist()
        return [None if any(steps[: len(row)]) else row for row, steps in zip(said, undone, strict=True)]

    def configure(self, decoding: Decoding) -> None:
        """Give the model a fresh generation config: what its file says must not leak into a protocol.

        `generate` fills whatever a passed config leaves open from the model's own, so it is the model's that is
        replaced. Sampling is off here even where it is asked for: `Chooser` draws.
        """
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens or None,
            do_sample=False,
            num_beams=decoding.num_beams,
            repetition_penalty=decoding.repetition_penalty,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            eos_token_id=sorted(self.codec.eos_ids),
            pad_token_id=self.codec.pad_id,
            use_cache=True,
        )
        self.model.generation_config = config
        bare(self.model).generation_config = config

    @torch.inference_mode()
    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]], *, begun: bool = False) -> Iterator[Score]:
        """log p of each answer to each example, batch by batch, each conversation encoded as it is for tuning.

        `begun`: of each text right behind the prompt instead, as the model would begin to write it. A template that
        writes all turns into one prompt, as those of guard models do, has no other place for an answer.
        """
        place = as_beginning if begun else as_answer
        examples = [example for example, _ in asked]
        given = [(examples[i], answer) for i in self._order(examples) for answer in asked[i][1]]
        problems: list[Score] = []
        lengths: dict[int, int] = {}

        def scored(lines: list[Line]) -> list[Score]:
            rows = [(*given[line.number], line.prompt, lengths[line.number]) for line in lines]
            return self._scored(rows, lines, place)

        def failed(line: Line) -> Score:
            return Score(*given[line.number], None, why=NO_MEMORY)

        for batch in batches(self._answered_lines(given, lengths, problems, place), self.budget, new=0):
            yield from _drained(problems)
            for part in self._apart(batch, lambda line: len(given[line.number][0].images)):
                for done in attempt(part, self.budget, 0, scored, failed):
                    yield from done
        yield from _drained(problems)

    def _answered_lines(
        self, given: Sequence[tuple[Example, str]], lengths: dict[int, int], problems: list[Score], place: Place
    ) -> Iterator[Line]:
        """Conversations with their answers, and how many tokens each answer has, by number."""
        for number, (example, answer) in enumerate(given):
            try:
                shown = self._pictures.opened(example)
                with self._pictures.remembered(self.codec.processor):
                    found, lengths[number] = answered(self.model, self.codec, shown, answer, place)
            except (DataError, ModelError) as error:
                problems.append(Score(example, answer, None, why=str(error)))
            else:
                yield Line(number, found, opening(example) if found.pictures else example.id)

    def _scored(
        self, asked: Sequence[tuple[Example, str, Prompt, int]], lines: list[Line], place: Place
    ) -> list[Score]:
        keep = max(tokens for *_, tokens in asked) + 1
        if self.whole_only:
            logits = self._whole_logits(asked, keep, place)
        else:
            groups = [[line.prompt for line in group] for group in grouped(lines)]
            _, logits = prefill(self.model, self.features, groups, self.codec.pad_id, share=self.share, keep=keep)
        return [
            _score(example, answer, row[-tokens - 1 : -1], found.ids[-tokens:])
            for (example, answer, found, tokens), row in zip(asked, logits, strict=True)
        ]

    def _whole_logits(self, asked: Sequence[tuple[Example, str, Prompt, int]], keep: int, place: Place) -> list[Tensor]:
        """Logits of the last `keep` tokens, conversation by conversation, each fed as a whole."""
        found: list[Tensor] = []
        for example, answer, known, _ in asked:
            batch = place(self.codec, example, answer).to(self.model.device)
            found.append(self.model(**batch.inputs, use_cache=False).logits[0, : len(known)][-keep:])
        return found

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            say(what)


def _score(example: Example, answer: str, logits: Tensor, ids: Tensor) -> Score:
    """Log-probabilities of an answer's ids (T,) under logits (T, V)."""
    if bool(undefined(logits).any()):
        return Score(example, answer, None, len(ids), NOT_FINITE)
    ids = ids.to(logits.device)
    logps = logits.float().log_softmax(dim=-1).gather(1, ids[:, None])[:, 0].cpu().double()
    if not bool(logps.isfinite().all()):
        return Score(example, answer, None, len(ids), IMPOSSIBLE)
    greedy = logits.float().argmax(dim=-1) == ids
    return Score(
        example, answer, float(logps.sum()), len(ids), by_token=tuple(logps.tolist()), greedy=tuple(greedy.tolist())
    )


@contextmanager
def _watching(model: Any, count: int) -> Generator[list[Tensor]]:
    """Of each forward pass, which of `count` prompts got no distribution in any of their beams: (count,) each."""
    lost: list[Tensor] = []

    def look(module: Any, inputs: Any, output: Any) -> None:
        del module, inputs
        lost.append(undefined(output.logits[:, -1]).view(count, -1).any(dim=1).cpu())

    handle = bare(model).register_forward_hook(look)
    try:
        yield lost
    finally:
        handle.remove()


class _Hurried:
    """What rows are made to say at the end of their budget, as transformers' `generate` takes it."""

    def __init__(self, hurry: Hurry, width: int) -> None:
        self._hurry, self._width = hurry, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = scores.argmax(dim=-1).tolist()
        said = input_ids[:, self._width :].tolist()
        made = [self._hurry(row, ids, token) for row, (ids, token) in enumerate(zip(said, chosen, strict=True))]
        for row, (token, own) in enumerate(zip(made, chosen, strict=True)):
            if token != own:
                scores[row] = -torch.inf
                scores[row, token] = 0.0
        return scores


class _Drawn:
    """The choice of a `Chooser` as transformers' `generate` takes it: every other token is impossible."""

    def __init__(self, chooser: Chooser, width: int) -> None:
        self._chooser, self._width = chooser, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens = self._chooser.draw(scores, input_ids.shape[1] - self._width, range(len(scores)))
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def _until_end(ids: list[int], eos_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in eos_ids), len(ids))
    return ids[: end + 1]


def _drained(problems: list[Any]) -> Iterator[Any]:
    while problems:
        yield problems.pop(0)
