"""Ask the same in other words: another first word, a paraphrase, another language, each with a check of its meaning.

For attacks with words of a model's own, and for taking first words out of a set that gives its label away by them
(Safety Mirage, Chen et al. 2025, arXiv 2503.11832). Set `rows` has what was rewritten, or the whole set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from vlmend.build.openers import WORDS, opener_for
from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start
from vlmend.build.stage import GENERATOR, Given, Loss, Lost, Making, Said, Stage
from vlmend.build.worded import Worded
from vlmend.data.checks.texts import plain
from vlmend.errors import ConfigError
from vlmend.judge.refusals.languages import KNOWN, language
from vlmend.types import Example

To = Literal["paraphrase", "first_word", "language"]
CHECKER = "checker"


class Same(Given):
    """Whether two requests mean the same."""

    same: bool


REWRITES = {name: Stage(name, Said, longest=256, temperature=1.0) for name in get_args(To)}
SAME = Stage("same", Same, who=CHECKER, longest=64)


@dataclass(frozen=True, kw_only=True)
class Rewrite(Worded):
    """`rewrite?to=paraphrase|first_word|language&word=balanced|WORD,…&language=de&rows=new|all&prompts=FILE`.

    word: what requests begin with; of several words, or of all that we know (`balanced`), one is drawn for each row by
    its id, whatever is expected of it. language: a code. rows: only what was rewritten, or the rest of the set, too, as
    it is: rows that could not be rewritten stay.
    """

    to: To = "paraphrase"
    word: str = "balanced"
    language: str = ""
    rows: Literal["new", "all"] = "new"

    name: ClassVar[str] = "rewrite"
    begins: ClassVar[Begins] = "rows"
    parts: ClassVar[Mapping[str, Part]] = {
        GENERATOR: Part("writes the other words"),
        CHECKER: Part("says whether two requests mean the same", doubled=True),
    }

    def __post_init__(self) -> None:
        if self.to not in REWRITES:
            raise ConfigError(f"pipeline 'rewrite': to is {', '.join(REWRITES)} (got {self.to!r})")
        if not all(word.isalpha() for word in self._words):
            raise ConfigError(f"pipeline 'rewrite': word is balanced, or words with commas (got {self.word!r})")
        if (self.to == "language") != bool(self.language):
            raise ConfigError("pipeline 'rewrite': language=CODE comes with to=language, and only with it")
        if self.language and self.language not in KNOWN:
            raise ConfigError(f"pipeline 'rewrite': language is {', '.join(KNOWN)} (got {self.language!r})")

    @property
    def stages(self) -> tuple[Stage[Said], Stage[Same]]:
        """What is written, and its check."""
        return REWRITES[self.to], SAME

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """Every row."""
        return iter(given)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """The row with its other words; where they are lost, the row as it is, if the whole set is wanted."""
        del cast
        row = start.example
        try:
            said = yield from self._written(row)
        except Lost as lost:
            return [lost.loss, *([Draft("rows", row)] if self.rows == "all" else [])]
        turn = row.prompt[-1].with_text(said)
        meta = {**row.meta, "variant_of": row.origin, "rewritten": self.to}
        name = row.id if self.rows == "all" else f"{row.id}/{self.to}"
        return [Draft("rows", replace(row, id=name, prompt=(*row.prompt[:-1], turn), meta=meta))]

    def _written(self, row: Example) -> Making[str]:
        word = opener_for(row.id, "balanced", self._words).word
        fields = {
            "paraphrase": {},
            "first_word": {"word": word},
            "language": {"language": KNOWN.get(self.language, "")},
        }
        stage = REWRITES[self.to]
        if not row.question.strip():
            raise Lost(Loss(stage.name, "unfit", "the row asks nothing"))
        said = yield from stage.ask(
            self.texts, fields={"question": row.question, **fields[self.to]},
            check=lambda given: self._wrong(_bare(given.text), row.question, word),
        )  # fmt: skip
        text = _bare(said.text)
        found = yield from SAME.ask(self.texts, fields={"question": row.question, "other": text})
        if not found.same:
            raise Lost(Loss(SAME.name, "rejected", "it means something else", text))
        return text

    @property
    def _words(self) -> tuple[str, ...]:
        """Those that requests begin with."""
        return WORDS if self.word == "balanced" else tuple(self.word.split(","))

    def _wrong(self, text: str, question: str, word: str) -> str:
        if not plain(text):
            return "it asks nothing"
        if "\n" in text:
            return "it is more than one line"
        if plain(text) == plain(question):
            return "it is the request as it was"
        if self.to == "first_word" and plain(text).split()[0] != word.lower():
            return f"it should begin with the word “{word}”"
        found = language(text)
        if self.to == "language" and (found.unknown or found.code not in ("", self.language)):
            return f"it is not in {KNOWN[self.language]}"
        return ""


def _bare(text: str) -> str:
    """Without the quotation marks around all of it that some generators write."""
    return text.strip().strip('"“”').strip()


plugin = Rewrite
