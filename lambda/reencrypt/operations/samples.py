"""The wrong-key preflight: decrypt a sample of every secret column, and trust a key only if what comes out makes sense.

AES-CFB does not authenticate, so the configured `secret_key` unwraps every data key to 16 bytes whether it is right or wrong. Grafana's own
re-encrypt then turns every value into garbage and says that all went well (seen in runs of 12.4.0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.errors import PayloadError, Reason, WrongSecretKey
from reencrypt.grafana import plausibility, secret_values
from reencrypt.grafana.key_ring import SECRET_KEY, KeyRing
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.grafana.secret_values import State
from reencrypt.grafana.settings import SecretKeyCandidate

SAMPLE_ROWS = 25
_SAMPLE_BYTES = 2 << 20
_LARGEST_ROW = 32 << 20  # twice what MySQL's MEDIUMBLOB holds
_SAMPLE_VALUES_PER_KEY = 10
_LUCK = 5


@dataclass(frozen=True)
class Sample:
    """A payload and the column that it stood in."""

    column: SecretColumn
    payload: Payload = field(repr=False)

    @property
    def key(self) -> str:
        """The data key id, or SECRET_KEY."""
        return SECRET_KEY if self.payload.key_id is None else self.payload.key_id


@dataclass(frozen=True)
class Trust:
    """The `secret_key` that decrypts the samples, and the data keys that do not."""

    secret_key: SecretKeyCandidate
    distrusted: frozenset[str]
    sampled: int


def take(database: Database, groups: Iterable[ColumnGroup]) -> list[Sample]:
    """Payloads from the first and the last rows of every group (the oldest and the newest keys), a bounded number for each key and column."""
    samples = []
    taken: Counter[tuple[str, str]] = Counter()
    for group in groups:
        rows: dict[Key, Row] = {}
        for after in dict.fromkeys((None, database.tail(group, SAMPLE_ROWS))):
            rows |= {row.key: row for row in _rows(database, group, after)}
        for row in rows.values():
            for column, stored in zip(group.columns, row.values, strict=True):
                for value in secret_values.read(column, stored):
                    if value.state is State.PAYLOAD and value.payload is not None:
                        sample = Sample(column, value.payload)
                        taken[column.id, sample.key] += 1
                        if taken[column.id, sample.key] <= _SAMPLE_VALUES_PER_KEY:
                            samples.append(sample)
    return samples


def _rows(database: Database, group: ColumnGroup, after: Key | None) -> list[Row]:
    """Some rows after `after`. One that is too large for this process is passed over: it must not keep the run from starting."""
    for _ in range(SAMPLE_ROWS):
        window = database.window(group, after, None, SAMPLE_ROWS, _SAMPLE_BYTES)
        if window.size <= _LARGEST_ROW or window.through is None:
            return database.page(group, after, window.through) if window.rows and window.size <= _LARGEST_ROW else []
        after = window.through
    return []


def judge(
    samples: Sequence[Sample],
    candidates: Sequence[SecretKeyCandidate],
    open_ring: Callable[[SecretKeyCandidate], KeyRing],
    under_secret_key: frozenset[str],
) -> Trust:
    """Which of `candidates` is the `secret_key` that these samples were encrypted under, and which keys yield garbage.

    `under_secret_key` are the ids of data keys that `secret_key` wraps: only those can be wrong without anybody noticing. Raises WrongSecretKey
    when most of the samples make no sense. A single damaged value does not: it is told when its turn comes.
    """
    best, verdicts = candidates[0], _verdicts(samples, open_ring(candidates[0]))
    for candidate in candidates[1:]:
        others = _verdicts(samples, open_ring(candidate))
        if _good(others) - _bad(others) > _good(verdicts) - _bad(verdicts):
            best, verdicts = candidate, others
    good, bad = _good(verdicts), _bad(verdicts)
    if bad > good:
        tried = " and ".join(candidate.source for candidate in candidates)
        raise WrongSecretKey(
            f"{bad} of {good + bad} sampled values decrypt to garbage under {tried}: the configured secret_key is not the one that this database "
            "was encrypted with; nothing was written. Put the secret_key of the running Grafana into the configuration"
        )
    # Now and then garbage passes for text, so a key is not trusted for one sample in many that makes sense.
    doubtful = (key for key in (SECRET_KEY, *under_secret_key) if verdicts[key, False] > verdicts[key, True] * _LUCK)
    return Trust(best, frozenset(doubtful), len(samples))


def _verdicts(samples: Iterable[Sample], ring: KeyRing) -> Counter[tuple[str, bool]]:
    """How many samples of each key are (not) plausible; unreadable ones and those too short to tell do not count."""
    verdicts: Counter[tuple[str, bool]] = Counter()
    for sample in samples:
        try:
            plaintext = ring.decrypt(sample.payload)
        except PayloadError as error:
            # GCM tells a wrong key by itself; a CFB-wrapped data key that does not even have 16 bytes is damaged, not wrong.
            if error.reason is Reason.AUTHENTICATION_FAILED:
                verdicts[sample.key, False] += 1
            continue
        if not plausibility.is_plausible(sample.column.plaintext, plaintext):
            verdicts[sample.key, False] += 1
        elif plausibility.is_convincing(sample.column.plaintext, plaintext):
            verdicts[sample.key, True] += 1
    return verdicts


def _good(verdicts: Mapping[tuple[str, bool], int]) -> int:
    return sum(count for (_, plausible), count in verdicts.items() if plausible)


def _bad(verdicts: Mapping[tuple[str, bool], int]) -> int:
    return sum(count for (_, plausible), count in verdicts.items() if not plausible)
