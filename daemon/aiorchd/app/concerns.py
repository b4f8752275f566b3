"""What a fault of one of the three files means for whoever uses the daemon, in a sentence for ``status``."""

from __future__ import annotations

from aiorchd.store.opening import StoreStatistics


def file_concerns(store: StoreStatistics, now: float) -> list[str]:
    """Say of each file that does not work since when (``now`` is wall time), why, and what is lost by it."""
    answers, records = store.answers, store.records
    lost = {
        "cache": f"{answers['queued']} answers wait to be kept, {answers['dropped']} were not; calls are answered all the same",
        "metrics": f"calls are counted in memory, and would be lost with this process; {records.queued} of their stories "
        f"wait, {records.dropped} were dropped",
        "ledger": "what must be kept is refused until it works again",
    }
    return [
        f"{name}.db does not work since {max(0.0, now - (file.since or now)):.0f} s ({file.state}: {file.fault}): {lost[name]}"
        for name, file in store.files.items()
        if file.state != "ok"
    ]
