"""What goes wrong when a model learns from its own answers, told while it does and afterwards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from vlmend.errors import ModelError
from vlmend.train.rollouts import Account

FIRST = 5  # batches after which a kind of request that nothing is learned of ends the run
LONGER = 1.5  # times as long as at first, or as short, answers are worth a word
FELL = 0.05  # of the range of a reward's means
SEEN = "first/"


def watch(step: int, carried: Mapping[str, float], accounts: Sequence[Account]) -> dict[str, float]:
    """Count in the first batches which kinds of request have answers of different worth; `step` is from 0.

    Raises ModelError after the last of these where all prompts of a kind got answers of one worth each, and not the
    best there is.
    """
    seen = dict(carried)
    if step >= FIRST:
        return seen
    groups: dict[tuple[str, int], list[float]] = {}
    for account in accounts:
        groups.setdefault((account.expected, account.group), []).append(account.reward)
        seen[f"{SEEN}best"] = max(account.reward, seen.get(f"{SEEN}best", account.reward))
    for (kind, _), found in groups.items():
        for name, value in (("prompts", 1.0), ("reward", fmean(found))):
            seen[f"{SEEN}{name}/{kind}"] = seen.get(f"{SEEN}{name}/{kind}", 0.0) + value
        low, high = f"{SEEN}low/{kind}", f"{SEEN}high/{kind}"
        seen[low], seen[high] = min(seen.get(low, min(found)), *found), max(seen.get(high, max(found)), *found)
        alike = len(found) > 1 and min(found) == max(found)
        alive = f"{SEEN}alive/{kind}"
        seen[alive] = seen.get(alive, 0.0) + (not alike)
    if step + 1 < FIRST:
        return seen
    _refuse_dead(seen)
    return {name: value for name, value in seen.items() if not name.startswith(SEEN)}


def _refuse_dead(seen: Mapping[str, float]) -> None:
    kinds = sorted(name.rpartition("/")[2] for name in seen if name.startswith(f"{SEEN}prompts/"))
    for kind in kinds:
        low, high, best = seen[f"{SEEN}low/{kind}"], seen[f"{SEEN}high/{kind}"], seen[f"{SEEN}best"]
        prompts = int(seen[f"{SEEN}prompts/{kind}"])
        still = not seen[f"{SEEN}alive/{kind}"] or (low == high and prompts > 1)
        if still and (high < best or len(kinds) == 1):
            mean = seen[f"{SEEN}reward/{kind}"] / prompts
            raise ModelError(
                f"in the first {FIRST} batches all answers to each of the {prompts} prompts where the model should"
                f" {kind} got one reward (on average {mean:.3g}), so that nothing is learned of them: tune by SFT"
                " first, sample more answers, or choose a reward that tells them apart"
            )


def warnings(log: Sequence[Mapping[str, Any]], taken_off: Collection[str] = ()) -> list[str]:
    """What looks like a reward that is gamed, from the log of a run: its first quarter against its last.

    `taken_off` are the terms that answers are worth less for: of these a rise is what was paid with.
    """
    rows = [entry["rollouts"] for entry in log if "rollouts" in entry]
    quarter = max(1, len(rows) // 4)
    if len(rows) < 2:
        return []

    def ends(name: str) -> tuple[float, float] | None:
        parts = [[row[name] for row in some if name in row] for some in (rows[:quarter], rows[-quarter:])]
        return (fmean(parts[0]), fmean(parts[1])) if all(parts) else None

    found: list[str] = []
    total = ends("reward")
    names = sorted({name for row in rows for name in row if name.startswith(("reward/", "reward@"))})
    for name in names:
        mean = ends(name)
        if not total or not mean or total[1] <= total[0]:
            continue
        values = [row[name] for row in rows if name in row]
        worse = mean[1] - mean[0] if name[7:] in taken_off and name[6] == "/" else mean[0] - mean[1]
        if worse > FELL * max(1e-9, max(values) - min(values), abs(mean[0])):
            what = f"its part {name[7:]}" if name[6] == "/" else f"that of requests to {name[7:]}"
            moved = "fell" if mean[1] < mean[0] else "rose"
            found.append(
                f"the reward rose from {total[0]:.3g} to {total[1]:.3g} while {what} {moved} from {mean[0]:.3g} to"
                f" {mean[1]:.3g}: one was bought with the other"
            )
    length = ends("length")
    if length and not length[0] / LONGER <= length[1] <= length[0] * LONGER:
        found.append(
            f"answers went from {length[0]:.1f} to {length[1]:.1f} tokens on average: read some, for length is the"
            " first thing that a reward is gamed by"
        )
    return found
