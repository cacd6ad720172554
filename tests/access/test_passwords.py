"""Passwords: which lines of which files open something, and which are refused."""

import os

import pytest

import rate
from access.passwords import MAX_READS_PER_SECOND, Password, Passwords

GOOD = b"correct-horse-battery-staple"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "default").write_bytes(GOOD + b"\n")
    return tmp_path


def opens(folder, given):
    """Return the names of the files that this password is in."""
    return Passwords(folder).files_with([given])


def test_each_line_is_a_password(folder):
    (folder / "default").write_bytes(b"\r\nold-password-0001\r\n\n  \n" + GOOD)
    assert opens(folder, b"old-password-0001") == {"default"}
    assert opens(folder, GOOD) == {"default"}


@pytest.mark.parametrize(
    "given", [b"", b"\n", GOOD + b"\n", GOOD + b"\r", b" " + GOOD, GOOD[:-1], GOOD + b"x", GOOD.upper(), b"\x00", b"  "]
)
def test_only_the_whole_line_is_the_password(folder, given):
    (folder / "default").write_bytes(b"\r\n\n  \n" + GOOD + b"\r\n")
    assert not opens(folder, given)


def test_passwords_are_compared_as_bytes_in_any_encoding(folder):
    (folder / "web").write_bytes(b"p\xe4ssw\xf6rter-in-latin-1\n" + "pässwörter-in-utf-8".encode())
    assert opens(folder, b"p\xe4ssw\xf6rter-in-latin-1") == {"web"}
    assert opens(folder, "pässwörter-in-utf-8".encode()) == {"web"}


def test_a_byte_order_mark_is_no_part_of_the_password(folder):
    (folder / "default").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert opens(folder, GOOD)


def test_a_new_password_needs_no_restart(folder):
    passwords = Passwords(folder)
    assert passwords.files_with([GOOD])
    (folder / "default").write_bytes(b"another-password-1")
    assert not passwords.files_with([GOOD])
    assert passwords.files_with([b"another-password-1"])


def test_a_flood_of_guesses_reads_the_files_only_so_often_and_the_next_second_reads_them_again(folder, monkeypatch):
    seconds = 1000.0
    monkeypatch.setattr(rate, "monotonic", lambda: seconds)
    passwords = Passwords(folder)
    for _ in range(MAX_READS_PER_SECOND):
        assert not passwords.files_with([b"another-password-1"])
    (folder / "default").write_bytes(b"another-password-1")
    assert not passwords.files_with([b"another-password-1"])
    assert passwords.files_with([GOOD])
    seconds += 1
    assert passwords.files_with([b"another-password-1"])
    assert not passwords.files_with([GOOD])


def test_hidden_files_of_a_mount_open_nothing(folder):
    (folder / "..data").mkdir()
    (folder / "..data" / "default").write_bytes(b"in-the-mount-itself")
    (folder / ".hidden").write_bytes(b"a-hidden-password-1")
    passwords, problems = Passwords(folder).read()
    assert passwords == [Password("default", GOOD)]
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
def test_a_weak_line_opens_nothing_and_the_log_names_it_without_its_text(folder, caplog, line, words):
    (folder / "web").write_bytes(GOOD[::-1] + b"\n" + line + b"\n")
    passwords, problems = Passwords(folder).read()
    assert not opens(folder, line)
    assert Password("web", GOOD[::-1]) in passwords  # The other lines of the file work.
    assert len(problems) == 1
    assert "web, line 2, opens nothing: " in problems[0]
    assert words in problems[0]
    assert line.decode() not in problems[0] + caplog.text
    assert problems[0] in caplog.text


def test_a_problem_is_logged_once_and_not_at_every_signal(folder, caplog):
    (folder / "web").write_bytes(b"brief")
    passwords = Passwords(folder)
    for _ in range(3):
        passwords.files_with([GOOD])
    assert caplog.text.count("shorter than") == 1


@pytest.mark.parametrize("line", [b"sixteen-letters!", b"tr0ub4dor&3-tr0ub4dor", b"9f86d081884c7d659a2feaa0"])
def test_a_good_line_opens(folder, line):
    (folder / "web").write_bytes(line)
    assert opens(folder, line) == {"web"}


def test_a_missing_directory_opens_nothing(tmp_path):
    passwords, problems = Passwords(tmp_path / "nowhere").read()
    assert passwords == []
    assert "nowhere can't be read: No such file or directory" in problems[0]


def test_a_folder_among_the_files_is_a_named_problem(folder):
    (folder / "web").mkdir()
    passwords, problems = Passwords(folder).read()
    assert passwords == [Password("default", GOOD)]
    assert "web can't be read: Is a directory" in problems[0]


def test_a_file_that_changed_is_read_again_though_its_size_and_time_are_the_same(folder):
    passwords, path = Passwords(folder), folder / "default"
    assert passwords.files_with([GOOD])
    before = path.stat()
    path.write_bytes(GOOD.upper() + b"\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert passwords.files_with([GOOD.upper()])
    assert not passwords.files_with([GOOD])


def test_the_passwords_of_a_file_that_is_gone_are_not_kept(folder):
    passwords, path = Passwords(folder), folder / "default"
    passwords.read()
    path.unlink()
    passwords.read()
    assert GOOD not in repr(vars(passwords)).encode()
