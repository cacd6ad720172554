"""Read YAML as kubectl does; PyYAML alone reads 22:30 as 1350, 1e3 as text, and a date as a date."""

import re
from collections.abc import Iterable
from itertools import chain

import yaml

# PyYAML may have been built with a parser in C, which is ten times as fast.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
# What a plain scalar is: the first of these that it matches, else text. The rules are those of kubectl:
# https://github.com/kubernetes-sigs/yaml/blob/master/goyaml.v2/resolve.go
_SCALARS = {
    "merge": r"<<",
    "null": r"~|null|Null|NULL|",
    "bool": r"y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF",
    "int": r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*)",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}


# kubectl's limit on the share of the nodes that aliases add: 99 % in a small document, 10 % in a large one.
# https://github.com/yaml/go-yaml/blob/v2.4.0/decode.go (allowedAliasRatio)
_MIN_ALIASED_NODES, _MIN_NODES = 100, 1000
_SMALL_NODES, _LARGE_NODES = 400_000, 4_000_000
_SMALL_RATIO, _LARGE_RATIO = 0.99, 0.1


class _Aliases:
    """Count a document's nodes as if each alias were written out, as kubectl does, and refuse too many of them."""

    def __init__(self) -> None:
        self._nodes = self._aliased = 0
        self._seen: set[yaml.Node] = set()
        self._open: set[yaml.Node] = set()

    def check(self, node: yaml.Node, within_alias: bool = False) -> None:
        """Raise ConstructorError when the aliases unfold to too much, and RecursionError when a node holds itself."""
        if node in self._open:
            raise RecursionError
        if node in self._seen and not within_alias:
            self._count(node, within_alias)  # An alias is a node too.
            within_alias = True
        self._count(node, within_alias)
        self._seen.add(node)
        self._open.add(node)
        for child in _children(node):
            self.check(child, within_alias)
        self._open.remove(node)

    def _count(self, node: yaml.Node, within_alias: bool) -> None:
        self._nodes += 1
        self._aliased += within_alias
        is_large = self._aliased > _MIN_ALIASED_NODES and self._nodes > _MIN_NODES
        if is_large and self._aliased / self._nodes > self._allowed_ratio():
            problem = "aliases repeat this too often (excessive aliasing)"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    def _allowed_ratio(self) -> float:
        growth = min(max((self._nodes - _SMALL_NODES) / (_LARGE_NODES - _SMALL_NODES), 0), 1)
        return _SMALL_RATIO - (_SMALL_RATIO - _LARGE_RATIO) * growth


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return chain.from_iterable(node.value)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


class _Loader(_SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class reads it
        None: [(_TAG + kind, re.compile(rf"(?:{pattern})\Z")) for kind, pattern in _SCALARS.items()]
    }
    bool_values = {**_SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012

    def construct_document(self, node: yaml.Node) -> object:
        _Aliases().check(node)
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.tag != f"{_TAG}merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "a key stands here twice", key.start_mark)
                seen.add(key.value)
        self.flatten_mapping(node)
        # The keys become text before they enter the dict, where Python's 1 and True would be the same key.
        return {
            self._key(self.construct_object(key, deep=True), node): self.construct_object(value, deep=deep)
            for key, value in node.value
        }

    def _key(self, key: object, node: yaml.MappingNode) -> str:
        # A key in JSON is always text: https://github.com/kubernetes-sigs/yaml/blob/master/yaml.go
        if isinstance(key, bool):
            return str(key).lower()
        if isinstance(key, str | int | float):
            return str(key)
        raise yaml.constructor.ConstructorError(None, None, "this key is no text", node.start_mark)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.replace("_", "")
        if re.fullmatch(r"[-+]?0[0-7]+", text):
            return int(text, 8)
        try:
            return int(text, 0)
        except ValueError:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(f"{_TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)


def load(content: bytes) -> object:
    """Read the only document in a file.

    Raises ValueError, which names the line and quotes no value; and RecursionError for what is nested too deep.
    """
    try:
        documents = [each for each in yaml.load_all(content.decode(), _Loader) if each is not None]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{error.problem or 'is no YAML'}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"has a character that YAML forbids: {error.reason}") from None
    except (KeyError, ValueError) as error:
        raise ValueError(f"can't be read: {type(error).__name__}") from None
    if not documents:
        raise ValueError("is empty")
    if len(documents) > 1:
        raise ValueError(f"holds {len(documents)} documents; give each Deployment a file of its own")
    return documents[0]
