"""Chat templates as they are met: that keep, drop, move or change what a conversation says. All write ChatML."""

from __future__ import annotations

END = "<|im_end|>"
TURN = "{{ '<|im_start|>' + m['role'] + '\\n' }}"
PARTS = "{% for p in m['content'] %}{{ '<image>' if p['type'] == 'image' else p['text'] }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
SAID = (  # the turn's text, as templates that look into it take it
    "{% set ns = namespace(said='') %}{% for p in m['content'] %}"
    "{% set ns.said = ns.said + ('<image>' if p['type'] == 'image' else p['text']) %}{% endfor %}"
)
ANSWER = "ns.said.split('</think>')[-1].lstrip('\\n')"
THOUGHT = "ns.said.split('</think>')[0].split('<think>')[-1].strip('\\n')"


def loop(body: str, before: str = "") -> str:
    """A template in ChatML that writes `body` for every message `m`."""
    return before + "{% for m in messages %}" + body + "{% endfor %}" + ASK


def plain(shown: str) -> str:
    return loop(TURN + shown + "{{ '<|im_end|>\\n' }}")


def reasoning_kept(where: str, before: str = "") -> str:
    """Reasoning of the assistant is written where the condition holds, in a form of the template's own."""
    shown = f"{{% if m['role'] == 'assistant' %}}{{% if {where} and '</think>' in ns.said %}}"
    shown += f"{{{{ '<think>\\n' + {THOUGHT} + '\\n</think>\\n\\n' }}}}{{% endif %}}{{{{ {ANSWER} }}}}"
    return loop(TURN + SAID + shown + "{% else %}{{ ns.said }}{% endif %}{{ '<|im_end|>\\n' }}", before)


LAST_ANSWER = (
    "{% set at = namespace(last=-1) %}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{% set at.last = loop.index0 %}{% endif %}{% endfor %}"
)
LAST_QUESTION = LAST_ANSWER.replace("'assistant'", "'user'")
AFTER_QUESTION = reasoning_kept("loop.index0 > at.last", LAST_QUESTION)
IN_LAST_ANSWER = reasoning_kept("loop.index0 == at.last", LAST_ANSWER)
LAST_TURN = reasoning_kept("loop.last")
NOWHERE = reasoning_kept("false")
SYSTEMLESS = loop("{% if m['role'] != 'system' %}" + TURN + PARTS + "{{ '<|im_end|>\\n' }}{% endif %}")
