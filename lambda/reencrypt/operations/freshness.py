"""How long ago a mode last succeeded: `record` when a run has, `days_since` when somebody asks.

CloudWatch alarms look back seven days at most, and a rotation may be due once in a quarter; so the time of the last success is kept as an object of the
run bucket, and its age is the metric. The clock of a mode that never succeeded starts when it is first asked for: that is the day of the deployment.
Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html (evaluation period).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reencrypt.storage.objects import RunStore

# Where the objects lie, in place of a run's name. Step Functions gives scheduled executions names of their own, and an operator's begin otherwise.
FRESHNESS = "_last-success"


def record(store: RunStore, mode: str, run: str, finished: datetime) -> None:
    """Keeps that `run` has succeeded."""
    store.of_run(FRESHNESS).put_json(f"{mode}.json", {"run": run, "since": finished.isoformat()})


def days_since(store: RunStore, mode: str, now: datetime) -> tuple[float, str | None]:
    """Days since the last success of `mode`, and its run; without any since it was first asked for, and None."""
    kept, name = store.of_run(FRESHNESS), f"{mode}.json"
    found: dict[str, Any] | None = kept.find_json(name)
    if found is None:
        kept.put_json(name, {"run": None, "since": now.isoformat()}, once=True)
        found = kept.get_json(name)
    return max((now - datetime.fromisoformat(found["since"])).total_seconds() / 86_400, 0.0), found["run"]
