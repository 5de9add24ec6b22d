"""Give the rows of a set a field that a generator writes: reasoned answers, refusals that name what is shown, thoughts.

A template of `prompts/label.yaml` is put to each row; a judge may look at what comes of it. With `reasoning` on VLGuard
it makes MIS's baseline VLGuard-R (arXiv 2501.18533, section 4.1), with `thought` rows for models that think. Set `rows`
has the whole set: rows that the template is not about stand in it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, get_args

from vlmend.build.pipeline import Begins, Cast, Draft, Part, Start
from vlmend.build.stage import GENERATOR, Loss, Making, Said, Stage, judged
from vlmend.build.worded import Worded
from vlmend.errors import ConfigError
from vlmend.types import Example, Expected

Template = Literal["reasoning", "refusal", "thought"]
Which = Literal["refused", "answered", "all"]


class Wanted(NamedTuple):
    """What a judge has to say: a question, and its answer."""

    question: Literal["refused", "harmful", "correct"]
    value: bool


SAYS = {
    "refused": Wanted("refused", True), "not_refused": Wanted("refused", False),
    "harmless": Wanted("harmful", False), "correct": Wanted("correct", True),
}  # fmt: skip
STAGES = {name: Stage(name, Said, temperature=1.0, declines=True) for name in get_args(Template)}


@dataclass(frozen=True, kw_only=True)
class Label(Worded):
    """`label?template=reasoning|refusal|thought&which=refused|answered|all&judge=SPEC&says=…&prompts=FILE`.

    which: rows that are labeled; without it, those that are not simply to be answered, and all of them with `thought`.
    judge and says: a row is kept only if the judge says of its answer that it is `refused`, `not_refused`, `harmless`
    or `correct`.
    """

    template: Template = "reasoning"
    which: Which | Literal[""] = ""
    judge: str = ""
    says: str = ""

    name: ClassVar[str] = "label"
    begins: ClassVar[Begins] = "rows"
    parts: ClassVar[Mapping[str, Part]] = {GENERATOR: Part("writes what is missing")}

    def __post_init__(self) -> None:
        if self.template not in STAGES:
            raise ConfigError(f"pipeline 'label': template is {', '.join(STAGES)} (got {self.template!r})")
        if bool(self.judge) != bool(self.says) or (self.says and self.says not in SAYS):
            raise ConfigError(f"pipeline 'label': judge=SPEC comes with says={'|'.join(SAYS)}, what it has to say")

    @property
    def stages(self) -> tuple[Stage[Said], ...]:
        """The one that is asked."""
        return (STAGES[self.template],)

    def starts(self, given: Iterable[Start]) -> Iterator[Start]:
        """Every row."""
        return iter(given)

    def build(self, start: Start, cast: Cast) -> Making[list[Draft | Loss]]:
        """The row with what was written, or as it is."""
        del cast
        row = start.example
        if not self._concerns(row):
            return [Draft("rows", row)]
        stage = STAGES[self.template]
        fields = {"question": row.question, "answer": (*row.answers, "")[0], "category": row.category or "not said"}
        if self.template != "thought":
            del fields["answer"]
        said = yield from stage.ask(self.texts, *row.images, fields=fields)
        if self.judge:
            wanted = SAYS[self.says]
            yield from judged(stage.name, self.judge, row, said.text, wanted.question, wanted.value)
        if self.template == "thought":
            return [Draft("rows", replace(row, reasoning=said.text))]
        expected = Expected.REASON if self.template == "reasoning" else Expected.REFUSE
        return [Draft("rows", replace(row, answers=(said.text,), expected=expected, reasoning=""))]

    def _concerns(self, row: Example) -> bool:
        which = self.which or ("all" if self.template == "thought" else "refused")
        return which == "all" or (which == "answered") == (row.expected is Expected.ANSWER)


plugin = Label
