"""Recognize a signal that is sent again, by its Idempotency-Key. It makes no call."""

from datetime import UTC, datetime, timedelta

from deployment_spec import Signal
from errors import KeyReused
from manifest.annotations import signal_of
from manifest.pod_template import is_rollout_id, time_of
from rollout.record import Records


class Duplicate(Exception):
    """An earlier signal with the same key has started this rollout."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(f"rollout {rollout_id} was started with the same key")
        self.rollout_id = rollout_id


def refuse_duplicate(signal: Signal, live: dict | None, records: Records, besides: str = "") -> None:
    """Raise Duplicate where a signal with the same key has started a rollout, and KeyReused where its body differs.

    `live` is asked before `records`: it knows what no process has recorded yet. `besides` is this signal's own rollout.
    """
    if signal.key is None or signal.dry_run:
        return
    started = {rollout_id: (record.key, record.fingerprint) for rollout_id, record in records.items()}
    if noted := signal_of(live or {}):
        started[noted["id"]] = noted.get("key"), noted.get("fingerprint")
    now = datetime.now(UTC)
    for rollout_id, (key, fingerprint) in started.items():
        if key != signal.key or rollout_id == besides or not is_rollout_id(rollout_id):
            continue
        if signal.key_seconds is not None and time_of(rollout_id) + timedelta(seconds=signal.key_seconds) < now:
            continue
        if fingerprint != signal.fingerprint:
            raise KeyReused(
                f"the Idempotency-Key was sent with another body, which started rollout {rollout_id}; "
                "send each new signal with a new key"
            )
        raise Duplicate(rollout_id)
