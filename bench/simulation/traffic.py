"""What users do: a random operation of a live Grafana on a row that is there, each kind as likely as it should be to make trouble."""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.live_grafana import LiveGrafana, Operation

_DELETES = 0.15  # of the choices on a row that may be deleted


def operation(grafana: LiveGrafana, rng: random.Random) -> tuple[str, Operation] | None:
    """Name and steps of the next operation; None where there is nothing to do it on."""
    rows, makers = grafana.truth.rows, _makers(grafana)
    if rng.random() < 0.15:
        maker = makers.get(rng.choice(sorted(rows)))
        return (maker.__name__, maker()) if maker else None
    tables = [table for table in sorted(rows) if rows[table]]
    if not tables:
        return None
    table = rng.choice(tables)
    key = rng.choice(list(rows[table]))
    if rng.random() < 0.15:
        places = [place for place in list(grafana.truth.values) if (place.table, place.key) == (table, key)]
        return ("read", grafana.read(rng.choice(places))) if places else None
    deleters, savers = _deleters(grafana), _savers(grafana)
    if table in deleters and (rng.random() < _DELETES or table not in savers) and len(rows[table]) > 1:
        return deleters[table].__name__, deleters[table](key)
    return (savers[table].__name__, savers[table](key)) if table in savers else None


def _savers(grafana: LiveGrafana) -> dict[str, Callable[..., Operation]]:
    return {
        "user_auth": grafana.refresh_login, "user_external_session": grafana.refresh_session, "data_source": grafana.save_data_source,
        "secrets": grafana.save_data_source, "plugin_setting": grafana.save_plugin, "alert_configuration": grafana.save_alerting,
        "alert_configuration_history": grafana.activate_history, "sso_setting": grafana.save_sso,
    }  # fmt: skip


def _makers(grafana: LiveGrafana) -> dict[str, Callable[[], Operation]]:
    return {
        "user_auth": grafana.first_login, "user_external_session": grafana.log_in, "data_source": grafana.create_data_source,
        "plugin_setting": grafana.create_plugin, "dashboard_snapshot": grafana.create_snapshot, "signing_key": grafana.create_signing_key,
    }  # fmt: skip


def _deleters(grafana: LiveGrafana) -> dict[str, Callable[..., Operation]]:
    return {
        "user_auth": grafana.delete_login, "user_external_session": grafana.log_out, "data_source": grafana.delete_data_source,
        "dashboard_snapshot": grafana.expire_snapshot,
    }  # fmt: skip
