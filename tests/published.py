"""Harmless samples of the papers' data, laid out where the shipped recipes look for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from vlmend.registry import sources


def lay_out(top: Path) -> None:
    """Write `data/` below this folder."""
    names = {"safety_mirage": "VLGuard", "mis": "MIS", "safeeraser": "SafeEraser", "llava_instruct": "llava",
             "unsafe_concepts": "UnsafeConcepts", "mme": "MME", "llava_bench": "LLaVA-Bench", "vqav2": "VQAv2",
             "textvqa": "TextVQA", "vizwiz": "VizWiz", "gqa": "GQA", "mmbench": "MMBench", "mmvet": "MM-Vet",
             "advbench": "AdvBench", "xstest": "XSTest", "figstep": "FigStep", "scienceqa": "ScienceQA",
             "mm_safetybench": "MM-SafetyBench", "siuo": "SIUO", "mssbench": "MSSBench", "mossbench": "MOSSBench",
             "jailbreakv": "JailBreakV", "vlsbench": "VLSBench", "pope": "POPE",
             "folder": "SMID"}  # fmt: skip
    for source, folder in names.items():
        (top / "data" / folder).mkdir(parents=True)
        sources.find(source).sample(top / "data" / folder)
    shutil.move(top / "data" / "UnsafeConcepts" / "safe", top / "data" / "imagenet_1k")
    shutil.copytree(top / "data" / "SMID", top / "data" / "NSFW")
    rewrites(top / "data" / "VLGuard", top / "data" / "rewrites")
    llava = top / "data" / "llava"
    shutil.copytree(llava, top / "data" / "m4_instruct")
    (llava / "llava_v1_5_mix665k.json").rename(llava / "llava_v1_5_mix665k_safe.json")
    shutil.copy(llava / "llava_v1_5_mix665k_safe.json", llava / "llava_v1_5_mix665k.json")
    shutil.copy(llava / "llava_v1_5_mix665k_safe.json", llava / "llava_v1_5_mix_clean.json")
    m4 = top / "data" / "m4_instruct"
    (m4 / "llava_v1_5_mix665k.json").rename(m4 / "m4_instruct.json")
    for folder, file in (("alpaca", "alpaca_data"), ("safety_llama", "safety_only_data_Instructions")):
        (top / "data" / folder).mkdir()
        rows = [{"instruction": f"{folder} {i}?", "input": "", "output": "I'm sorry, I won't."} for i in range(12)]
        (top / "data" / folder / f"{file}.json").write_text(json.dumps(rows))
    reasoned = [{"id": f"r{i}", "prompt": "Do it.", "answer": "It bursts.", "expected": "reason"} for i in range(5)]
    gqa = json.loads((top / "data" / "GQA" / "testdev_balanced_questions.json").read_text())
    asked = [{"question_id": name, "image": "x.jpg", "text": row["question"]} for name, row in gqa.items()]
    lines = "".join(json.dumps(row) + "\n" for row in asked)
    (top / "data" / "GQA" / "llava_gqa_testdev_balanced.jsonl").write_text(lines)
    unsafe = [row for row in json.loads((top / "data" / "VLGuard" / "test.json").read_text()) if not row["safe"]]
    (top / "results" / "unsafes").mkdir(parents=True)
    answers = {f"test/{row['image']}": "I'm sorry, I can't." for row in unsafe}
    (top / "results" / "unsafes" / "llava.json").write_text(json.dumps(answers))
    rows = "".join(json.dumps(row) + "\n" for row in reasoned)
    (top / "data" / "vlguard_reasoning.jsonl").write_text(rows)


def rewrites(vlguard: Path, folder: Path) -> Path:
    """VLGuard's test split as the authors of Safety Mirage had it rewritten: an id stands three times in a row."""
    shutil.copytree(vlguard / "test", folder / "test")
    rows = json.loads((vlguard / "test.json").read_text())

    def turned(row: dict[str, Any], key: str, words: str) -> dict[str, Any]:
        asks = [{**ask, key: f"{words} {ask[key]}"} if key in ask else ask for ask in row["instr-resp"]]
        return {**row, "instr-resp": asks}

    what = [turned(row, "instruction", f"What {shot}:") for row in rows if not row["safe"] for shot in "abc"]
    share = [turned(row, "safe_instruction", "Share") for row in rows if row["safe"]]
    (folder / "test_what_3shot.json").write_text(json.dumps(what))
    (folder / "test_share_1shot.json").write_text(json.dumps(share))
    return folder
