"""A rollout in words: as text, a line, a message, Markdown. Only this module has sentences of it. It makes no call."""

import html
import re
from urllib.parse import quote

from rollout.model import Phase, PodProblem, Rollout
from rollout.record import Record, Records, older_than

# What Markdown or HTML could take for more than text.
_MARKUP = re.compile(r'[&<>"|*_`~@$\[\]\\]')


def as_text(rollout: Rollout) -> str:
    """Say how a rollout stands, in several lines; the first word is the phase, or `ok` where it is complete."""
    lines = []
    for problem in rollout.problems:
        lines += [_problem(problem), *(f"  {line}" for line in problem.logs)]
    if rollout.changes:
        changes = "; ".join(each.replace("image: ", "image ", 1) for each in rollout.changes)
        lines.append(f"changed since revision {rollout.changed_since}, the last that worked: {changes}")
    if rollout.link:
        lines.append(f"sent by {rollout.by} from {rollout.link}" if rollout.by else f"sent from {rollout.link}")
    if rollout.rolled_back_to and rollout.ended:
        lines.append(f"rolled back to revision {rollout.rolled_back_to}")
    if not rollout.ended:
        lines.append(f"id {rollout.id}")
    return "\n".join([*_head(rollout), *lines])


def as_line(rollout: Rollout) -> str:
    """Say the gist in one line: the verdict, who sent the signal, and the first problem of a failure."""
    head = _head(rollout)[0] + (f" (sent by {rollout.by})" if rollout.by else "")
    failed = rollout.phase is Phase.FAILED and rollout.problems
    return f"{head}: {_problem(rollout.problems[0])}" if failed else head


def as_start(record: Record) -> str:
    """Say in one line that a rollout has started, and who sent the signal."""
    sent = f", sent by {record.rollout.by}" if record.rollout.by else ""
    return f"{record.cause} ({record.rollout.id}){sent}"


def as_lock(locked: str) -> str:
    """Say that a Deployment is locked, and why, where the annotation says it."""
    return f"locked: {reason}" if (reason := " ".join(locked.split())) else "locked"


def as_applied(rollout: Rollout) -> str:
    """Say what was applied, before Kubernetes has acted on it."""
    where = f"deployment {rollout.deployment} in {rollout.namespace}"
    return f"ok: {where}, image {rollout.image}, id {rollout.id}\n{rollout.message}"


def page_url(public_url: str | None, name: str, rollout_id: str | None = None) -> str | None:
    """Return where a browser shows a deployment, or one rollout of it; None where no PUBLIC_URL is set."""
    if public_url is None:
        return None
    return f"{public_url}/deployment/{quote(name, safe='')}" + (f"?id={rollout_id}" if rollout_id else "")


def as_message(record: Record, url: str | None = None) -> tuple[str, str]:
    """Return the title and the text of the message about a verdict; `url` is that of the page."""
    rollout = record.rollout
    seconds = round((rollout.finished_at - rollout.started_at).total_seconds())
    lines = [as_line(rollout), f"image {rollout.image}, {record.cause}, took {seconds} s"]
    if rollout.rolled_back_to:
        lines.append(f"rolled back to revision {rollout.rolled_back_to}")
    lines += filter(None, (rollout.link, url))
    return f"{rollout.deployment} in {rollout.namespace}: {rollout.phase}", "\n".join(lines)


def as_markdown(
    rollout: Rollout, history: Records, way_back: str, locked: str | None = None, url: str | None = None
) -> str:
    """Write the summary of a workflow's job; `way_back` is the command that rolls back, `url` the page that does."""
    older = [each.rollout for each in older_than(rollout.id, history)]
    before = next((each for each in older if each.phase is Phase.COMPLETE), None)
    lines = [f"### {_plain(rollout.deployment)}: {rollout.phase}", "", *_table(rollout, history, before), ""]
    if locked is not None:
        lines += [f"**{_plain(as_lock(locked))}**", ""]
    for problem in rollout.problems:
        lines += [f"**{_plain(_problem(problem))}**", ""]
        if problem.logs:
            lines += [f"<pre>{html.escape(chr(10).join(problem.logs))}</pre>", ""]
    if rollout.changes:
        lines += ["Changed since the last rollout that worked:", ""]
        lines += [*(f"- {_plain(change)}" for change in rollout.changes), ""]
    if before and rollout.rolled_back_to is None and rollout.phase is not Phase.SUPERSEDED:
        button = [f"[The page of {_plain(rollout.deployment)}]({url}) has a button for it."]
        lines += ["The way back:", "", *(button if url else ("```sh", way_back, "```")), ""]
    return "\n".join(lines)


def _table(rollout: Rollout, history: Records, before: Rollout | None) -> list[str]:
    took = rollout.finished_at and f"{int(rollout.finished_at.timestamp()) - int(rollout.started_at.timestamp())} s"
    replaced = [f"revision {before.revision}", before.image, before.digest] if before else []
    rows = {
        "deployment": f"{rollout.deployment} in {rollout.namespace}",
        "image": rollout.image,
        "digest": rollout.digest,
        "revision": rollout.revision,
        "cause": history[rollout.id].cause if rollout.id in history else None,
        "sent by": rollout.by or rollout.link,
        "took": took,
        "replaced": ", ".join(filter(None, replaced)) or None,
        "rolled back to": rollout.rolled_back_to and f"revision {rollout.rolled_back_to}",
        "id": rollout.id,
        "message": rollout.message,
    }
    texts = {name: _plain(value) for name, value in rows.items() if value is not None}
    if rollout.link:
        # In Markdown's own form, a bracket of the URL would end the link.
        texts["sent by"] = f'<a href="{_plain(rollout.link)}">{texts["sent by"]}</a>'
    written = [f"| {name} | {text} |" for name, text in texts.items()]
    return ["| | |", "|---|---|", *written]


def _head(rollout: Rollout) -> list[str]:
    revision = f"revision {rollout.revision} of " if rollout.revision else ""
    which = revision + rollout.deployment
    if rollout.phase is Phase.COMPLETE:
        head = f"ok: {which} in {rollout.namespace}, image {rollout.image}, id {rollout.id}"
        return [head, f"{rollout.phase}: {rollout.message}"]
    if rollout.phase is Phase.FAILED:
        # The message of a failure says what the rollout does or did: `does not start`.
        return [f"{rollout.phase}: {which} {rollout.message}"]
    return [f"{rollout.phase}: {which}: {rollout.message}"]


def _problem(problem: PodProblem) -> str:
    container = problem.container and f"container {problem.container}"
    code = None if problem.exit_code is None else f"exit code {problem.exit_code}"
    where = ", ".join(filter(None, (problem.pod, container)))
    what = ", ".join(filter(None, (problem.reason, code, problem.message)))
    return f"{where}: {what}" if where else what


def _plain(value: object) -> str:
    """Write a value that comes from elsewhere as one line of Markdown that is nothing but text."""
    line = " ".join(str(value).split())
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)
