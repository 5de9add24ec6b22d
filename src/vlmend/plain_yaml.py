"""YAML as plain data: no code, no key twice, no value that stands for itself, no more values than a person writes.

An alias (`*name`) costs nothing to write and may stand for a value that holds aliases itself, so that a file of one
kilobyte can mean a billion values. PyYAML shares them in memory; whoever walks through them later does not.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from vlmend.errors import ConfigError

MOST = 100_000  # values, aliases counted each time they are used
DEEPEST = 100  # collections inside one another


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        seen: set[Any] = set()
        for key in written:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    """The data that a text stands for. Raises ConfigError with one line that begins with `where`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-99-99
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is not valid YAML: it is nested too deep") from error
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, int | None], depth: int) -> int:
    """How many values a node stands for, each node looked at once."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep, {node.start_mark}")
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise yaml.YAMLError(f"a value holds itself, {node.start_mark}")
        return size
    known[id(node)] = None
    pairs: Any = node.value
    inside = [part for pair in pairs for part in pair] if isinstance(node, yaml.MappingNode) else pairs
    size = 1 + sum(_measure(part, known, depth + 1) for part in inside)
    if size > MOST:
        raise yaml.YAMLError(f"it stands for more than {MOST:,} values, {node.start_mark}")
    known[id(node)] = size
    return size
