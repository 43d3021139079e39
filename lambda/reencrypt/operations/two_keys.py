"""The preflight of a rotation of `secret_key`: is the old key the old one, and the new one new? Tried on a sample of every secret column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reencrypt.errors import ConfigurationError, PayloadError, Reason, WrongSecretKey
from reencrypt.grafana import cipher, plausibility
from reencrypt.grafana.data_keys import SECRET_KEY_PROVIDER, DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.operations.keys import Unwrapper, provider_of
from reencrypt.operations.samples import Sample, Trust
from reencrypt.operations.secret_key_rotation import SecretKeys, Side, TwoKeyRing


@dataclass(frozen=True)
class Judgement:
    """The keys that fit: `trust` in the new one, `old_source` names the old one (None: only the secrets manager's is changed).

    `new_in_use`: Grafana has written under the new key already.
    """

    trust: Trust
    old_source: str | None
    new_in_use: bool


def judge(settings: GrafanaSettings, sampled: Sequence[Sample], rows: Sequence[DataKey]) -> Judgement:
    """Raises ConfigurationError where the keys are not two, WrongSecretKey where the samples fit neither, or do not tell which is which."""
    new = settings.secret_keys[0]
    if len(settings.secret_keys) > 1:
        raise ConfigurationError(f"secret_key is not one text ({' or '.join(key.source for key in settings.secret_keys)}): write it out for a rotation")
    if not settings.old_secret_keys:
        if settings.manager.old_secret_keys:
            return Judgement(Trust(new, frozenset(), len(sampled)), None, False)
        raise ConfigurationError(
            "rotate-secret-key needs two keys: [security] secret_key is the new one, and [security] old_secret_key (or GF_SECURITY_OLD_SECRET_KEY) the "
            "one that Grafana used until now. Grafana itself ignores the second"
        )
    known = {row.name: row for row in rows}
    found: list[tuple[SecretKeyCandidate, Counter[str]]] = []
    for old in settings.old_secret_keys:
        if old.value == new.value:
            raise ConfigurationError(f"{old.source} and {new.source} are the same key: there is nothing to rotate")
        keys = SecretKeys(old.value.encode(), new.value.encode())
        ring = TwoKeyRing(keys, Unwrapper(rows, {}), cipher.caching_derivation(), new_in_use=True)
        found.append((old, _fits(ring, sampled, known)))
    old, fits = max(found, key=lambda candidate: candidate[1][Side.OLD])
    if fits["garbage"] > fits[Side.OLD] + fits[Side.NEW] + fits["marked"]:
        raise WrongSecretKey(
            f"{fits['garbage']} of {fits.total()} sampled values fit neither {old.source} nor {new.source}; nothing was written. old_secret_key must be "
            "the one that Grafana used until now"
        )
    if fits["both"] and not (fits[Side.OLD] or fits[Side.NEW] or fits["marked"]):
        raise WrongSecretKey(
            f"the sampled values are too short to tell {old.source} from {new.source}: every one of them fits both. Save a longer secret in Grafana first"
        )
    return Judgement(Trust(new, frozenset(), len(sampled)), old.source, bool(fits[Side.NEW]))


def _fits(ring: TwoKeyRing, sampled: Sequence[Sample], rows: dict[str, DataKey]) -> Counter[str]:
    """How many samples speak for which key. What carries the mark of a rotation was written by one, not by Grafana."""
    fits: Counter[str] = Counter()
    for sample in sampled:
        row = None if sample.payload.key_id is None else rows.get(sample.payload.key_id)
        if sample.payload.key_id is not None and (row is None or provider_of(row, System.GRAFANA) != SECRET_KEY_PROVIDER):
            continue
        try:
            plaintext, side = ring.read(sample.column, sample.payload)
        except PayloadError as error:
            if error.reason is Reason.AMBIGUOUS_KEY:
                fits["both"] += 1
            elif error.reason in (Reason.IMPLAUSIBLE_PLAINTEXT, Reason.AUTHENTICATION_FAILED):
                fits["garbage"] += 1
            continue
        if not plausibility.is_convincing(sample.column.plaintext, plaintext):
            fits["both"] += 1
        elif side is Side.NEW and ring.is_marked(sample.payload, row):
            fits["marked"] += 1
        elif side is not None:
            fits[side] += 1
    return fits
