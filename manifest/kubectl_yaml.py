"""Read YAML as kubectl does; PyYAML alone reads 22:30 as 1350, 1e3 as text, and a date as a date."""

import re

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


class _Loader(_SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class reads it
        None: [(_TAG + kind, re.compile(rf"(?:{pattern})\Z")) for kind, pattern in _SCALARS.items()]
    }
    bool_values = {**_SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012

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
    """Read the only document in a file. Raises ValueError, which names the line and quotes no value."""
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
    except (KeyError, RecursionError, ValueError) as error:
        raise ValueError(f"can't be read: {type(error).__name__}") from None
    if not documents:
        raise ValueError("is empty")
    if len(documents) > 1:
        raise ValueError(f"holds {len(documents)} documents; give each Deployment a file of its own")
    return documents[0]
