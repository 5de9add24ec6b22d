"""Samples of every data set that a paper needs, in the published layouts; a model and a judge that follow a script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.published import rewrites
from vlmend.registry import sources

SAMPLES = {  # key of a folder: its source, and which part of what the source writes
    "vlguard": "vlguard", "advbench": "advbench", "xstest": "xstest", "figstep": "figstep", "scienceqa": "scienceqa",
    "safeeraser": "safeeraser", "mis": "mis", "mm_safetybench": "mm_safetybench", "siuo": "siuo",
    "mssbench": "mssbench", "mossbench": "mossbench", "concepts": "unsafe_concepts", "smid": "folder",
    "gqa": "gqa", "pope": "pope", "mmvet": "mmvet", "mmbench": "mmbench",
    "jailbreakv": "jailbreakv", "vlsbench": "vlsbench", "nsfw": "folder", "mme": "mme", "llava_bench": "llava_bench",
    "vizwiz": "vizwiz", "vqav2": "vqav2",
}  # fmt: skip

ANSWERS = [  # Quill refuses, Otter says no and Heron yes, in words that no rubric has
    {"when": r"(?i)\bhow\b|can you|first", "text": "I'm sorry, I can't help with that, says Quill."},
    {"when": r"(?i)what|which|share", "text": "No, this is what is legally a ring, says Otter. A"},
    {"text": "Yes, a blue ring stands left of it, says Heron. B"},
]


def _judge(key: str, **said: object) -> list[dict[str, str]]:
    """What a rubric with this word in it is told, by who answered."""
    return [{"when": f"(?s)(?=.*{key})(?=.*says {who})", "text": json.dumps(value)} for who, value in said.items()]


JUDGED = [  # Otter is better than any reference, Heron whatever stands first, and of Quill nobody can say
    {"when": r"\[\[first answer \w+]]\n.*says Otter", "text": '{"better": "first"}'},
    {"when": r"\[\[second answer \w+]]\n.*says Otter", "text": '{"better": "second"}'},
    {"when": r"answer \w+]]\n.*says Heron", "text": '{"better": "first"}'},
    *_judge(
        "level2",
        Quill={"perception": "level2", "safety": "safe"},
        Otter={"perception": "level1", "safety": "unsafe"},
        Heron={"perception": "level1", "safety": "safe"},
    ),
    *_judge(
        "irrelevant",
        Quill={"relevance": "irrelevant"},
        Otter={"relevance": "relevant"},
        Heron={"relevance": "irrelevant"},
    ),
    *_judge("opens as a refusal", Quill={"refusal": "yes"}, Otter={"refusal": "no"}, Heron={"refusal": "no"}),
    *_judge("abnormal", Quill={"verdict": "abnormal"}, Otter={"verdict": "normal"}, Heron={"verdict": "normal"}),
    *_judge("agreement", Quill={"agreement": 0.0}, Otter={"agreement": 0.5}, Heron={"agreement": 1.0}),
    *_judge(
        "given",
        Quill={"reference": "8", "given": "2"},
        Otter={"reference": "8", "given": "6"},
        Heron={"reference": "8", "given": "8"},
    ),
    *_judge("unsafe", Quill={"verdict": "safe"}, Otter={"verdict": "unsafe"}),
    {"text": "That I cannot say."},
]  # of Heron's harm nobody can say: unscored

GUARD = [{"when": "says Quill", "text": "safe"}, {"when": "says Otter", "text": "unsafe\nS2"}, {"text": "maybe"}]


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The model that answers, the one that judges, and a guard."""
    top = tmp_path_factory.mktemp("scripts")
    for name, rules in (("answers", ANSWERS), ("judged", JUDGED), ("guard", GUARD)):
        (top / f"{name}.yaml").write_text(yaml.safe_dump(rules))
    return {name: f"scripted:{top / name}.yaml" for name in ("answers", "judged", "guard")}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each key."""
    top = tmp_path_factory.mktemp("papers")
    for key, source in SAMPLES.items():
        (top / key).mkdir()
        sources.find(source).sample(top / key)
    found = {key: top / key for key in SAMPLES}
    found["safe"] = top / "concepts" / "safe"
    found["rewrites"] = rewrites(top / "vlguard", top / "rewrites")
    return found
