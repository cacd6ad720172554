"""This service reads YAML as kubectl does."""

import time

import pytest

from manifest import kubectl_yaml

# Each line holds the one before nine times: written out, the last one has 9 ** 8 texts.
BOMB = "".join(
    f"{name}: &{name} [{','.join([f'*{before}' if before else 'secret'] * 9)}]\n"
    for before, name in zip(("", *"abcdefgh"), "abcdefghi", strict=False)
).encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:30", "22:30"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T20:15:03Z", "2026-11-22T20:15:03Z"),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("8080", 8080),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("089", 89.0),
        ("yes", True),
        ("off", False),
        ("y", True),
        ("true", True),
        ("~", None),
        ("null", None),
        ("", None),
        ("'8080'", "8080"),
        ("!!str 8080", "8080"),
        ("1.2.3", "1.2.3"),
        ("10m", "10m"),
        ("=", "="),
        ("[1, two]", [1, "two"]),
    ],
)
def test_a_scalar_has_the_type_that_kubectl_gives_it(text, value):
    read = kubectl_yaml.load(f"key: {text}".encode())["key"]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_text():
    assert kubectl_yaml.load(b"{1: a, on: b, 1.5: c}") == {"1": "a", "true": "b", "1.5": "c"}


def test_anchors_and_merges_are_resolved():
    content = b"base: &base {a: 1, b: 2}\nweb: {<<: *base, b: 3}\n"
    assert kubectl_yaml.load(content)["web"] == {"a": 1, "b": 3}


def test_aliases_that_unfold_to_a_huge_value_are_refused_in_milliseconds():
    assert len(BOMB) < 480
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"line [1-9]: aliases repeat this too often \(excessive aliasing\)"):
        kubectl_yaml.load(BOMB)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("content", [b"a: &a [*a]\n", b"a: &a {b: {c: *a}}\n", b"a: &a\n  <<: *a\n"])
def test_an_anchor_that_holds_itself_is_refused(content):
    with pytest.raises(RecursionError):
        kubectl_yaml.load(content)


def test_many_aliases_of_a_large_manifest_are_no_bomb():
    resources = "[&small {cpu: 100m, memory: 64Mi}, " + ", ".join(["*small"] * 30) + "]"
    content = f"base: &base {resources}\nall: [{', '.join(['*base'] * 20)}]\n".encode()
    assert kubectl_yaml.load(content)["all"][19][30] == {"cpu": "100m", "memory": "64Mi"}


def test_empty_documents_around_the_only_one_are_left_out():
    assert kubectl_yaml.load(b"---\n---\nkey: value\n---\n") == {"key": "value"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"a: 1\n---\nb: 2\n", "holds 2 documents"),
        (b"a: 1\nb: [secret\nc: 2\n", "line 3: "),
        (b"a:\n\tb: secret\n", "line 2: "),
        (b"a: secret\na: 2\n", "line 2: a key stands here twice"),
        (b"a: {b: 1, b: secret}\n", "line 1: a key stands here twice"),
        (b"a: *secret\n", "line 1: "),
        (b"a: !!python/object/apply:os.system [secret]\n", "line 1: "),
        (b"a: !Ref secret\n", "line 1: "),
        (b"? [secret]\n: 1\n", "line 1: "),
        (b"a: 1\nb: caf\xe9 secret\n", "line 2: is not UTF-8"),
        (b"a: \x00secret\n", "YAML forbids"),
        (b"a: \x07secret\n", "YAML forbids"),
    ],
)
def test_a_fault_is_named_with_its_line_and_without_a_value(content, words):
    with pytest.raises(ValueError) as refused:
        kubectl_yaml.load(content)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
