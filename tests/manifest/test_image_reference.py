"""The name of an image is read, refused or pinned, and compared by its repository."""

import pytest

from manifest.image_reference import ImageReference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("acme/web:1", "docker.io/acme/web", "1", None),
        ("docker.io/acme/web:1", "docker.io/acme/web", "1", None),
        ("index.docker.io/acme/web:1", "docker.io/acme/web", "1", None),
        ("nginx:1", "docker.io/library/nginx", "1", None),
        ("library/nginx:1", "docker.io/library/nginx", "1", None),
        ("docker.io/nginx:1", "docker.io/library/nginx", "1", None),
        (f"acme/web@{DIGEST}", "docker.io/acme/web", None, DIGEST),
        (f"acme/web:1.2_rc-3@{DIGEST}", "docker.io/acme/web", "1.2_rc-3", DIGEST),
        ("ghcr.io/acme/team/web:Latest", "ghcr.io/acme/team/web", "Latest", None),
        ("localhost/web:1", "localhost/web", "1", None),
        ("localhost:5000/web:1", "localhost:5000/web", "1", None),
        ("registry:5000/web:1", "registry:5000/web", "1", None),
        ("127.0.0.1:5000/web:1", "127.0.0.1:5000/web", "1", None),
        ("[::1]:5000/web:1", "[::1]:5000/web", "1", None),
        ("acme/a__b.c-d---e:1", "docker.io/acme/a__b.c-d---e", "1", None),
    ],
)
def test_a_name_is_read_into_its_parts(text, repository, tag, digest):
    assert ImageReference.parse(text) == ImageReference(repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "acme/web:",
        "acme/web@",
        ":1",
        "acme/web :1",
        " acme/web:1",
        "acme/web:1 ",
        "acme/web:1\n",
        "acme/\nweb:1",
        "acme/web:1\x00",
        "Acme/web:1",
        "acme/Web:1",
        "../web:1",
        "acme/../web:1",
        "acme//web:1",
        "/acme/web:1",
        "acme/web/:1",
        "acme/web:-1",
        "acme/web:1:2",
        "acme/web:" + "1" * 129,
        "acme/web@sha256:0123",
        "acme/web@" + DIGEST.upper(),
        "acme/web@" + DIGEST + "0",
        "acme/web@md5:" + "0" * 32,
        f"acme/web@{DIGEST}@{DIGEST}",
        "https://docker.io/acme/web:1",
        "user@docker.io/acme/web:1",
        "acme/wéb:1",
        "acme/web:١",
        "a" * 10_000 + ":1",
        "a." * 10_000,
    ],
)
def test_a_text_that_is_no_image_is_refused(text):
    with pytest.raises(ValueError, match="is no image"):
        ImageReference.parse(text)


def test_a_name_without_tag_is_refused_in_a_signal_but_not_in_a_manifest():
    with pytest.raises(ValueError, match="write acme/web:latest if you mean that"):
        ImageReference.parse("acme/web")
    assert ImageReference.parse("acme/web", tag_required=False).repository == "docker.io/acme/web"


@pytest.mark.parametrize(
    "text",
    [
        "docker.io.evil.example/acme/web:1",
        "docker.io:443/acme/web:1",
        "evil.example/docker.io/acme/web:1",
        "acme/web2:1",
    ],
)
def test_a_similar_name_is_another_repository(text):
    assert ImageReference.parse(text).repository != "docker.io/acme/web"


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("acme/web:2", "acme/web"),
        ("acme/web", "acme/web"),
        ("nginx", "nginx"),
        ("nginx:latest", "nginx"),
        ("docker.io/acme/web:2", "docker.io/acme/web"),
        ("localhost:5000/web", "localhost:5000/web"),
        ("localhost:5000/web:2", "localhost:5000/web"),
        ("[::1]:5000/web", "[::1]:5000/web"),
        ("[::1]:5000/web:2", "[::1]:5000/web"),
        (f"acme/web@{DIGEST}", "acme/web"),
        ("acme/web@sha256:" + "f" * 64, "acme/web"),
        (f"acme/web:2@{DIGEST}", "acme/web"),
        (f"localhost:5000/web:2@{DIGEST}", "localhost:5000/web"),
    ],
)
def test_a_pinned_name_has_the_digest_and_the_repository_as_it_was_written(text, repository):
    pinned = ImageReference.pin(text, DIGEST)
    assert pinned == f"{repository}@{DIGEST}"
    parsed, before = ImageReference.parse(pinned), ImageReference.parse(text, tag_required=False)
    assert (parsed.repository, parsed.tag, parsed.digest) == (before.repository, None, DIGEST)
