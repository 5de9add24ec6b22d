"""Harmless samples of the papers' data, laid out where the shipped recipes look for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vlmend.registry import sources


def lay_out(top: Path) -> None:
    """Write `data/` below this folder."""
    names = {"safety_mirage": "VLGuard", "mis": "MIS", "safeeraser": "SafeEraser", "llava_instruct": "llava",
             "unsafe_concepts": "UnsafeConcepts", "mme": "MME", "llava_bench": "LLaVA-Bench"}  # fmt: skip
    for source, folder in names.items():
        (top / "data" / folder).mkdir(parents=True)
        sources.find(source).sample(top / "data" / folder)
    shutil.move(top / "data" / "UnsafeConcepts" / "safe", top / "data" / "imagenet_1k")
    llava = top / "data" / "llava"
    shutil.copytree(llava, top / "data" / "m4_instruct")
    (llava / "llava_v1_5_mix665k.json").rename(llava / "llava_v1_5_mix665k_safe.json")
    shutil.copy(llava / "llava_v1_5_mix665k_safe.json", llava / "llava_v1_5_mix665k.json")
    m4 = top / "data" / "m4_instruct"
    (m4 / "llava_v1_5_mix665k.json").rename(m4 / "m4_instruct.json")
    reasoned = [{"id": f"r{i}", "prompt": "Do it.", "answer": "It bursts.", "expected": "reason"} for i in range(5)]
    rows = "".join(json.dumps(row) + "\n" for row in reasoned)
    (top / "data" / "vlguard_reasoning.jsonl").write_text(rows)
