"""Recognize a signal that is sent again, by its Idempotency-Key. It makes no call to the cluster."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from deployment_spec import Signal
from errors import KeyReused
from manifest.annotations import signals_of
from manifest.pod_template import is_rollout_id, time_of
from rollout.record import Record


class Duplicate(Exception):
    """An earlier signal with the same key has started this rollout."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(f"rollout {rollout_id} was started with the same key")
        self.rollout_id = rollout_id


def refuse_duplicate(signal: Signal, live: dict | None, records: Iterable[Record]) -> None:
    """Raise Duplicate where a signal with the same key has started a rollout, and KeyReused where its body differs.

    `live` is asked as well as `records`: it knows what no process has recorded yet.
    """
    if signal.key is None:
        return
    started = {record.rollout.id: (record.key, record.fingerprint) for record in records}
    started |= {rollout_id: (key, fingerprint) for rollout_id, key, fingerprint in signals_of(live)}
    for rollout_id, (key, fingerprint) in started.items():
        if key != signal.key or _is_over(signal, rollout_id):
            continue
        if fingerprint != signal.fingerprint:
            raise KeyReused(
                f"the Idempotency-Key was sent with another body, which started rollout {rollout_id}; "
                "send each new signal with a new key"
            )
        raise Duplicate(rollout_id)


def _is_over(signal: Signal, rollout_id: str) -> bool:
    """Tell whether the key of a rollout holds no more."""
    if signal.key_seconds is None:
        return False
    return not is_rollout_id(rollout_id) or datetime.now(UTC) > time_of(rollout_id) + timedelta(
        seconds=signal.key_seconds
    )
