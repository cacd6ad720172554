"""A rollout in words: each form as a whole, and hostile values in Markdown."""

from datetime import UTC, datetime, timedelta

import pytest

from rollout.model import Phase, PodProblem, Replicas, Rollout
from rollout.record import Record
from rollout.wording import as_applied, as_line, as_lock, as_markdown, as_message, as_start, as_text

STARTED = datetime(2026, 11, 22, 20, 15, 3, 123456, UTC)
DIGEST = "sha256:" + "1" * 64
COMMAND = "kubectl rollout undo deployment/web"
CRASH = PodProblem(
    reason="CrashLoopBackOff",
    message="restarted 2 times",
    pod="web-1-x",
    container="web",
    exit_code=1,
    logs=("Traceback (most recent call last):", "KeyError: 'DATABASE_URL'"),
)
QUOTA = PodProblem(reason="FailedCreate", message="exceeded quota: tight")
UNSCHEDULABLE = PodProblem(reason="Unschedulable", message="0/1 nodes are available", pod="web-1-y")


def rollout(phase, message, number=2, **fields):
    """Return a rollout that has taken 12 s if it has ended; the number stands in its id."""
    if phase in (Phase.COMPLETE, Phase.FAILED, Phase.SUPERSEDED):
        fields = {"finished_at": STARTED + timedelta(seconds=12)} | fields
    common = {"deployment": "web", "namespace": "default", "image": f"acme/web:{number}", "started_at": STARTED}
    rollout_id = f"20261122T2015{number:02}.123456Z"
    return Rollout(**{"id": rollout_id, "revision": number, "phase": phase, "message": message} | common | fields)


def record(of, cause="deploy acme/web:2"):
    """Return the record of a rollout."""
    return Record(rollout=of, template={}, cause=cause)


STARTING = rollout(Phase.PROGRESSING, "applied; Kubernetes rolls it out now", revision=None)
PROGRESSING = rollout(
    Phase.PROGRESSING,
    "0 of 2 updated pods are ready",
    problems=(QUOTA,),
    replicas=Replicas(desired=2, updated=2, ready=0, available=0),
)
PAUSED = rollout(Phase.PAUSED, "the Deployment is paused; kubectl rollout resume lets it go on")
COMPLETE = rollout(Phase.COMPLETE, "2 pods are ready", digest=DIGEST)
BEFORE = rollout(Phase.COMPLETE, "2 pods are ready", 1, digest=DIGEST)
FAILED = rollout(
    Phase.FAILED,
    "does not start",
    problems=(CRASH, UNSCHEDULABLE),
    changes=("image: acme/web:1 -> acme/web:2", "env DATABASE added"),
    changed_since=1,
)
CRASH_LINE = (
    "failed: revision 2 of web does not start: web-1-x, container web: CrashLoopBackOff, exit code 1, restarted 2 times"
)
ROLLED_BACK = FAILED.replace(rolled_back_to=1)
SUPERSEDED = rollout(Phase.SUPERSEDED, "the Deployment got another pod template meanwhile")
ROLLBACK = rollout(Phase.COMPLETE, "2 pods are ready", 3, image=f"acme/web@{DIGEST}", rolled_back_to=1)


# Text, one line, a message


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (
            STARTING,
            """progressing: web: applied; Kubernetes rolls it out now
id 20261122T201502.123456Z""",
        ),
        (
            PROGRESSING,
            """progressing: revision 2 of web: 0 of 2 updated pods are ready
FailedCreate, exceeded quota: tight
id 20261122T201502.123456Z""",
        ),
        (
            PAUSED,
            """paused: revision 2 of web: the Deployment is paused; kubectl rollout resume lets it go on
id 20261122T201502.123456Z""",
        ),
        (
            COMPLETE,
            """ok: revision 2 of web in default, image acme/web:2, id 20261122T201502.123456Z
complete: 2 pods are ready""",
        ),
        (
            FAILED,
            """failed: revision 2 of web does not start
web-1-x, container web: CrashLoopBackOff, exit code 1, restarted 2 times
  Traceback (most recent call last):
  KeyError: 'DATABASE_URL'
web-1-y: Unschedulable, 0/1 nodes are available
changed since revision 1, the last that worked: image acme/web:1 -> acme/web:2; env DATABASE added""",
        ),
        (
            ROLLED_BACK.replace(problems=(), changes=()),
            """failed: revision 2 of web does not start
rolled back to revision 1""",
        ),
        (SUPERSEDED, "superseded: revision 2 of web: the Deployment got another pod template meanwhile"),
        (
            ROLLBACK,
            f"""ok: revision 3 of web in default, image acme/web@{DIGEST}, id 20261122T201503.123456Z
complete: 2 pods are ready
rolled back to revision 1""",
        ),
    ],
)
def test_as_text(of, text):
    assert as_text(of) == text


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (PodProblem(reason="Evicted"), "Evicted"),
        (PodProblem(reason="Evicted", pod="web-1-x"), "web-1-x: Evicted"),
        (PodProblem(reason="Error", exit_code=0), "Error, exit code 0"),
        (QUOTA, "FailedCreate, exceeded quota: tight"),
        (
            PodProblem(reason="ContainersNotReady", message="probe failed", pod="web-1-x", container="web"),
            "web-1-x, container web: ContainersNotReady, probe failed",
        ),
    ],
)
def test_a_problem_says_only_what_is_known(problem, words):
    assert as_text(FAILED.replace(problems=(problem,), changes=())).splitlines()[1:] == [words]


@pytest.mark.parametrize(
    ("of", "line"),
    [
        (STARTING, "progressing: web: applied; Kubernetes rolls it out now"),
        (PROGRESSING, "progressing: revision 2 of web: 0 of 2 updated pods are ready"),
        (COMPLETE, "ok: revision 2 of web in default, image acme/web:2, id 20261122T201502.123456Z"),
        (ROLLED_BACK, CRASH_LINE),
        (FAILED.replace(problems=(), message="was deleted"), "failed: revision 2 of web was deleted"),
        (SUPERSEDED, "superseded: revision 2 of web: the Deployment got another pod template meanwhile"),
    ],
)
def test_as_line(of, line):
    assert as_line(of) == line


def test_as_applied():
    assert as_applied(STARTING) == (
        "ok: deployment web in default, image acme/web:2, id 20261122T201502.123456Z\n"
        "applied; Kubernetes rolls it out now"
    )


@pytest.mark.parametrize(
    ("of", "title", "text"),
    [
        (
            COMPLETE,
            "web in default: complete",
            """ok: revision 2 of web in default, image acme/web:2, id 20261122T201502.123456Z
image acme/web:2, build 7 of main, took 12 s""",
        ),
        (
            ROLLED_BACK,
            "web in default: failed",
            f"""{CRASH_LINE}
image acme/web:2, build 7 of main, took 12 s
rolled back to revision 1""",
        ),
    ],
)
def test_as_message(of, title, text):
    assert as_message(record(of, "build 7 of main")) == (title, text)


# Who


SENT = {"by": "octocat, acme/web@1a2b3c4", "link": "https://github.com/acme/web/actions/runs/15"}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (SENT, "sent by octocat, acme/web@1a2b3c4 from https://github.com/acme/web/actions/runs/15"),
        ({"link": "https://ci.example.com/7"}, "sent from https://ci.example.com/7"),
    ],
)
def test_the_text_says_who_sent_the_signal(fields, line):
    assert as_text(COMPLETE.replace(**fields)) == f"{as_text(COMPLETE)}\n{line}"
    assert as_text(ROLLBACK.replace(**fields)).splitlines()[2:] == [line, "rolled back to revision 1"]
    *before, last = as_text(PROGRESSING).splitlines()
    assert as_text(PROGRESSING.replace(**fields)).splitlines() == [*before, line, last]


def test_one_line_says_who_sent_the_signal_before_what_may_be_cut_off():
    head, problem = CRASH_LINE.split(": web-1-x")
    assert as_line(FAILED.replace(**SENT)) == f"{head} (sent by octocat, acme/web@1a2b3c4): web-1-x{problem}"
    assert as_line(COMPLETE.replace(**SENT)) == f"{as_line(COMPLETE)} (sent by octocat, acme/web@1a2b3c4)"


@pytest.mark.parametrize(("fields", "sent"), [({}, ""), (SENT, ", sent by octocat, acme/web@1a2b3c4")])
def test_as_start(fields, sent):
    assert as_start(record(STARTING.replace(**fields))) == f"deploy acme/web:2 (20261122T201502.123456Z){sent}"


def test_a_message_says_who_sent_the_signal_and_where_the_run_is():
    _, text = as_message(record(ROLLED_BACK.replace(**SENT)))
    first, *_, last = text.splitlines()
    assert "(sent by octocat, acme/web@1a2b3c4)" in first
    assert last == SENT["link"]


@pytest.mark.parametrize(("text", "line"), [("freeze", "locked: freeze"), ("", "locked"), (" a\n b ", "locked: a b")])
def test_as_lock(text, line):
    assert as_lock(text) == line


# Markdown


def history(*rollouts):
    """Return the records of rollouts, the newest first."""
    return {each.id: record(each) for each in sorted(rollouts, key=lambda each: each.id, reverse=True)}


MARKDOWN_COMPLETE = f"""### web: complete

| | |
|---|---|
| deployment | web in default |
| image | acme/web:2 |
| digest | {DIGEST} |
| revision | 2 |
| cause | deploy acme/web:2 |
| took | 12 s |
| replaced | revision 1, acme/web:1, {DIGEST} |
| id | 20261122T201502.123456Z |
| message | 2 pods are ready |

The way back:

```sh
{COMMAND}
```
"""
MARKDOWN_ROLLED_BACK = f"""### web: failed

| | |
|---|---|
| deployment | web in default |
| image | acme/web:2 |
| revision | 2 |
| cause | deploy acme/web:2 |
| took | 12 s |
| replaced | revision 1, acme/web:1, {DIGEST} |
| rolled back to | revision 1 |
| id | 20261122T201502.123456Z |
| message | does not start |

**web-1-x, container web: CrashLoopBackOff, exit code 1, restarted 2 times**

<pre>Traceback (most recent call last):
KeyError: &#x27;DATABASE_URL&#x27;</pre>

**web-1-y: Unschedulable, 0/1 nodes are available**

Changed since the last rollout that worked:

- image: acme/web:1 -&#62; acme/web:2
- env DATABASE added
"""
MARKDOWN_STARTING = """### web: progressing

| | |
|---|---|
| deployment | web in default |
| image | acme/web:2 |
| id | 20261122T201502.123456Z |
| message | applied; Kubernetes rolls it out now |
"""


@pytest.mark.parametrize(
    ("of", "known", "markdown"),
    [
        (COMPLETE, history(BEFORE, COMPLETE), MARKDOWN_COMPLETE),
        # A later rollout is not what this one has replaced.
        (COMPLETE, history(BEFORE, COMPLETE, ROLLBACK), MARKDOWN_COMPLETE),
        (ROLLED_BACK, history(BEFORE, ROLLED_BACK), MARKDOWN_ROLLED_BACK),
        (STARTING, {}, MARKDOWN_STARTING),
    ],
)
def test_as_markdown(of, known, markdown):
    assert as_markdown(of, known, COMMAND) == markdown


@pytest.mark.parametrize(
    ("of", "known", "is_shown"),
    [
        (PROGRESSING, history(BEFORE, PROGRESSING), True),
        (PAUSED, history(BEFORE, PAUSED), True),
        (FAILED, history(BEFORE, FAILED), True),
        (FAILED, history(FAILED), False),
        (COMPLETE, history(BEFORE.replace(phase=Phase.FAILED), COMPLETE), False),
        (SUPERSEDED, history(BEFORE, SUPERSEDED), False),
        (ROLLED_BACK, history(BEFORE, ROLLED_BACK), False),
        (ROLLBACK, history(BEFORE, FAILED, ROLLBACK), False),
    ],
)
def test_the_rollback_command_is_shown_if_there_is_a_target_and_no_rollback(of, known, is_shown):
    assert (COMMAND in as_markdown(of, known, COMMAND)) == is_shown


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        (SENT, '<a href="https://github.com/acme/web/actions/runs/15">octocat, acme/web&#64;1a2b3c4</a>'),
        ({"by": "password web"}, "password web"),
        ({"link": "https://x/?a=[1](2)&b"}, f'<a href="{(url := "https://x/?a=&#91;1&#93;(2)&#38;b")}">{url}</a>'),
    ],
)
def test_the_summary_links_who_sent_the_signal(fields, row):
    before, after = MARKDOWN_COMPLETE.split("| took |")
    markdown = as_markdown(COMPLETE.replace(**fields), history(BEFORE, COMPLETE), COMMAND)
    assert markdown == f"{before}| sent by | {row} |\n| took |{after}"


def test_the_summary_says_that_the_deployment_is_locked():
    locked = as_markdown(STARTING, {}, COMMAND, "release <b>freeze</b>")
    assert locked == f"{MARKDOWN_STARTING}\n**locked: release &#60;b&#62;freeze&#60;/b&#62;**\n"


HOSTILE = "x|y <script>&\n## title\r\n\t[a](https://b) ![c](d) `e` *f* _g_ ~h~ @team $m$ \\ <!-- </pre> -->"
ESCAPED = (
    "x&#124;y &#60;script&#62;&#38; ## title &#91;a&#93;(https://b) !&#91;c&#93;(d) &#96;e&#96; &#42;f&#42; "
    "&#95;g&#95; &#126;h&#126; &#64;team &#36;m&#36; &#92; &#60;!-- &#60;/pre&#62; --&#62;"
)
IN_PRE = """x|y &lt;script&gt;&amp;
## title
\t[a](https://b) ![c](d) `e` *f* _g_ ~h~ @team $m$ \\ &lt;!-- &lt;/pre&gt; --&gt;"""


def test_values_from_elsewhere_are_nothing_but_text_in_markdown():
    problem = PodProblem(reason="Error", message=HOSTILE, pod="web-1-x", logs=tuple(HOSTILE.splitlines()))
    changes = (f"image: {HOSTILE} -> z",)
    of = FAILED.replace(image=HOSTILE, message=HOSTILE, problems=(problem,), changes=changes, by=HOSTILE)
    before = BEFORE.replace(image=HOSTILE)
    known = {of.id: record(of, HOSTILE), before.id: record(before)}
    assert (
        as_markdown(of, known, COMMAND)
        == f"""### web: failed

| | |
|---|---|
| deployment | web in default |
| image | {ESCAPED} |
| revision | 2 |
| cause | {ESCAPED} |
| sent by | {ESCAPED} |
| took | 12 s |
| replaced | revision 1, {ESCAPED}, {DIGEST} |
| id | 20261122T201502.123456Z |
| message | {ESCAPED} |

**web-1-x: Error, {ESCAPED}**

<pre>{IN_PRE}</pre>

Changed since the last rollout that worked:

- image: {ESCAPED} -&#62; z

The way back:

```sh
{COMMAND}
```
"""
    )
