"""How answers are judged: what judges share, asking models with a memory and a budget, verdicts, tests of judges.

A judge is one file in `vlmend.judge.judges`; nothing else here knows any of them.
"""
