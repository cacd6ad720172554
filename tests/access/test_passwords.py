"""Who may: passwords in files, read when used."""

import pytest

from access.passwords import Key, Opened, Passwords
from errors import BadRequest, NotFound, WrongPassword

GOOD = b"correct-horse-battery-staple"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "default").write_bytes(GOOD + b"\n")
    return tmp_path


def opens(folder, given):
    try:
        return Passwords(folder).opened([given]).files
    except WrongPassword:
        return frozenset()


def test_each_line_is_a_password(folder):
    (folder / "default").write_bytes(b"\r\nold-password-0001\r\n\n  \n" + GOOD)
    assert opens(folder, b"old-password-0001") == {"default"}
    assert opens(folder, GOOD) == {"default"}


@pytest.mark.parametrize(
    "given", [b"", b"\n", GOOD + b"\n", GOOD + b"\r", b" " + GOOD, GOOD[:-1], GOOD + b"x", GOOD.upper(), b"\x00", b"  "]
)
def test_only_the_whole_line_opens(folder, given):
    (folder / "default").write_bytes(b"\r\n\n  \n" + GOOD + b"\r\n")
    assert not opens(folder, given)


def test_bytes_are_compared_whatever_they_mean(folder):
    (folder / "web").write_bytes(b"p\xe4ssw\xf6rter-in-latin-1\n" + "pässwörter-in-utf-8".encode())
    assert opens(folder, b"p\xe4ssw\xf6rter-in-latin-1") == {"web"}
    assert opens(folder, "pässwörter-in-utf-8".encode()) == {"web"}


def test_a_byte_order_mark_is_no_part_of_the_password(folder):
    (folder / "default").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert opens(folder, GOOD)


def test_rotation_needs_no_restart(folder):
    passwords = Passwords(folder)
    passwords.opened([GOOD])
    (folder / "default").write_bytes(b"another-password-1")
    with pytest.raises(WrongPassword):
        passwords.opened([GOOD])
    assert passwords.opened([b"another-password-1"])


def test_what_a_mount_keeps_for_itself_opens_nothing(folder):
    (folder / "..data").mkdir()
    (folder / "..data" / "default").write_bytes(b"in-the-mount-itself")
    (folder / ".hidden").write_bytes(b"a-hidden-password-1")
    keys, problems = Passwords(folder).read()
    assert keys == [Key("default", GOOD)]
    assert problems == []


def test_a_secret_as_kubernetes_mounts_it(tmp_path):
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..2026_11_22" / "web").write_bytes(GOOD)
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "web").symlink_to("..data/web")
    assert opens(tmp_path, GOOD) == {"web"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"brief", "shorter than 16 characters"),
        (b"fifteen-letters", "shorter than 16 characters"),
        ("ééééééééééééééé".encode(), "shorter than 16 characters"),
        (b"aaaaaaaaaaaaaaaaaaaa", "placeholder"),
        (b"change-me-change-me", "placeholder"),
        (b"changeme-changeme-changeme", "placeholder"),
        (b"please-change-this-password", "placeholder"),
        (b"<your-password-here>", "placeholder"),
        (b"${DEPLOY_PASSWORD}", "placeholder"),
        (b"$(openssl rand -base64 24)", "placeholder"),
        (b"REPLACE_WITH_A_PASSWORD", "placeholder"),
        (b"your_secret_password", "placeholder"),
        (b"passwordpassword", "placeholder"),
        (b"1234567890123456", "placeholder"),
    ],
)
def test_a_weak_line_opens_nothing_and_is_named_but_not_shown(folder, caplog, line, words):
    (folder / "web").write_bytes(GOOD[::-1] + b"\n" + line + b"\n")
    keys, problems = Passwords(folder).read()
    assert not opens(folder, line)
    assert Key("web", GOOD[::-1]) in keys  # The file's other lines work.
    assert len(problems) == 1
    assert "web, line 2, opens nothing: " in problems[0]
    assert words in problems[0]
    assert line.decode() not in problems[0] + caplog.text
    assert problems[0] in caplog.text


def test_a_problem_is_logged_once_and_not_at_every_signal(folder, caplog):
    (folder / "web").write_bytes(b"brief")
    passwords = Passwords(folder)
    for _ in range(3):
        passwords.opened([GOOD])
    assert caplog.text.count("shorter than") == 1


@pytest.mark.parametrize("line", [b"sixteen-letters!", b"tr0ub4dor&3-tr0ub4dor", b"9f86d081884c7d659a2feaa0"])
def test_a_good_line_opens(folder, line):
    (folder / "web").write_bytes(line)
    assert opens(folder, line) == {"web"}


def test_a_directory_that_is_missing_opens_nothing(tmp_path):
    keys, problems = Passwords(tmp_path / "nowhere").read()
    assert keys == []
    assert "nowhere can't be read: No such file or directory" in problems[0]


def test_a_folder_among_the_files_is_named(folder):
    (folder / "web").mkdir()
    keys, problems = Passwords(folder).read()
    assert keys == [Key("default", GOOD)]
    assert "web can't be read: Is a directory" in problems[0]


@pytest.mark.parametrize(
    ("files", "name", "configured", "picked"),
    [
        ({"default"}, "web", ["web"], "web"),
        ({"default"}, "web", ["api", "web"], "web"),
        ({"default"}, None, ["web"], "web"),
        ({"web"}, "web", ["api", "web"], "web"),
        ({"web"}, None, ["web"], "web"),
        ({"web", "api"}, "api", ["api", "web"], "api"),
    ],
)
def test_picks_the_deployment_that_is_meant(files, name, configured, picked):
    assert Opened(frozenset(files)).pick(name, configured) == picked


@pytest.mark.parametrize(
    ("files", "name", "configured", "refusal", "words"),
    [
        ({"default"}, "other", ["web"], NotFound, "no deployment other is configured; there is /deployment/web"),
        ({"default"}, "web", [], NotFound, "there is none"),
        ({"default"}, None, [], NotFound, "no deployment is configured"),
        ({"default"}, None, ["api", "web"], BadRequest, "/deployment/api, /deployment/web"),
        ({"web"}, None, ["api", "web"], BadRequest, "name one in the URL: there is /deployment/web"),
        ({"web"}, "api", ["api", "web"], WrongPassword, "wrong or missing password"),
        ({"web"}, "other", ["api", "web"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, ["api"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, ["api", "worker"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, [], WrongPassword, "wrong or missing password"),
        ({"web"}, "web", ["api"], NotFound, "no deployment web is configured; there is none"),
    ],
)
def test_refuses_to_pick(files, name, configured, refusal, words):
    with pytest.raises(refusal) as refused:
        Opened(frozenset(files)).pick(name, configured)
    assert words in str(refused.value)
    if refusal is not NotFound:
        assert "worker" not in str(refused.value)


def test_one_sees_what_one_opens():
    assert Opened(frozenset({"web"})).among(["api", "web"]) == ["web"]
    assert Opened(frozenset({"default"})).among(["api", "web"]) == ["api", "web"]
