"""Settings: environment variables become settings, or one message that names every bad one."""

from pathlib import Path

import pytest

from settings import Settings


def test_defaults():
    settings = Settings.from_environ({})
    assert settings.deployments_dir == Path("/etc/auto-deployer/deployments")
    assert settings.passwords_dir == Path("/etc/auto-deployer/passwords")
    assert settings.kubeconfig is None


def test_values():
    environ = {"DEPLOYMENTS_DIR": "/d", "PASSWORDS_DIR": "/p", "KUBECONFIG": "/k", "PATH": "/bin", "SOMETHING": "else"}
    settings = Settings.from_environ(environ)
    assert (settings.deployments_dir, settings.passwords_dir) == (Path("/d"), Path("/p"))
    assert settings.kubeconfig == "/k"


def test_an_empty_kubeconfig_means_none_as_in_kubectl():
    assert Settings.from_environ({"KUBECONFIG": ""}).kubeconfig is None


def test_an_empty_audience_means_none():
    assert Settings.from_environ({"OIDC_AUDIENCE": ""}).oidc_audience is None
    assert Settings.from_environ({}).oidc_issuer == "https://token.actions.githubusercontent.com"


@pytest.mark.parametrize(
    "issuer", ["https://github.example.com/_services/token", "http://127.0.0.1:8000", "http://localhost/x"]
)
def test_an_issuer_is_a_url(issuer):
    assert Settings.from_environ({"OIDC_ISSUER": issuer}).oidc_issuer == issuer


@pytest.mark.parametrize(
    "issuer",
    ["", "github.com", "http://github.example.com", "http://127.0.0.1.example.com", "https://", "https://x/?y"],
)
def test_an_issuer_without_https_must_be_on_this_machine(issuer):
    with pytest.raises(ValueError, match=r"OIDC_ISSUER: .* is no issuer; write its URL, which begins with https://"):
        Settings.from_environ({"OIDC_ISSUER": issuer})


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", None),
        ("https://deploy.example.com", "https://deploy.example.com"),
        ("https://deploy.example.com/", "https://deploy.example.com"),
        ("https://example.com:8443/deploy//", "https://example.com:8443/deploy"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_public_url_has_no_slash_at_its_end(given, url):
    assert Settings.from_environ({"PUBLIC_URL": given}).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "deploy.example.com",
        "http://deploy.example.com",
        "https://",
        "https://x/?y",
        "https://x/#y",
        "https://x y",
        "ftp://x",
    ],
)
def test_a_public_url_without_https_must_be_on_this_machine(url):
    with pytest.raises(ValueError, match=r"PUBLIC_URL: .* is no address of this service; .* begins with https://"):
        Settings.from_environ({"PUBLIC_URL": url})


def test_every_bad_variable_is_named_at_once():
    with pytest.raises(ValueError, match="bad settings") as refused:
        Settings.from_environ({"DEPLOYMENTS_DIR": "", "PASSWORDS_DIR": ""})
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["bad settings", "DEPLOYMENTS_DIR", "PASSWORDS_DIR"]


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings().kubeconfig = "other"
