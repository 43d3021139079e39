"""The preflight's judgement: which secret_key is the right one, and which data keys are not to be trusted."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.database.database import Database
from reencrypt.errors import PayloadError, Reason, WrongSecretKey
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.key_ring import SECRET_KEY, KeyRing
from reencrypt.grafana.payload import CFB_PREFIX, envelope
from reencrypt.grafana.secret_columns import SecretColumn, secret_columns
from reencrypt.grafana.settings import DatabaseSettings, SecretKeyCandidate
from reencrypt.operations import samples
from reencrypt.operations.samples import SAMPLE_ROWS, Sample, Trust

RIGHT = SecretKeyCandidate("right-secret-key", "[security] secret_key")
WRONG = SecretKeyCandidate("wrong-secret-key", "GF_SECURITY_SECRET_KEY, literally")
OTHER = SecretKeyCandidate("other-secret-key", "GF_SECURITY_SECRET_KEY, expanded")
DATA_KEYS = {"k1": bytes(range(16)), "k2": bytes(range(16, 32)), "kms": bytes(range(32, 48))}
UNDER_SECRET_KEY = frozenset({"k1", "k2"})
COLUMN = {column.id: column for column in secret_columns()}
TEXT, PEM, JSON = COLUMN["secrets.value"], COLUMN["signing_key.private_key"], COLUMN["dashboard_snapshot.dashboard_encrypted"]
TOKEN = b"a token of more than sixteen bytes"


# One salt for each key, so that the derivations of all tests together are few.
DERIVE = cipher.caching_derivation()
SALT = b"AbCdEf12"
SEALERS = {key: KeyRing(b"", DATA_KEYS.__getitem__, derive=DERIVE).sealer(key) for key in DATA_KEYS}


def sample(key: str, plaintext: bytes = TOKEN, column: SecretColumn = TEXT) -> Sample:
    """`plaintext` under the data key `key`, or under the right secret_key."""
    return Sample(column, payloads.parse(stored(key, plaintext)))


def stored(key: str, plaintext: bytes = TOKEN) -> bytes:
    if key == SECRET_KEY:
        return CFB_PREFIX + cipher.encrypt_cfb(plaintext, DERIVE(RIGHT.value.encode(), SALT), SALT)
    return SEALERS[key].seal(plaintext)


def garbage(key: str, size: int = 40) -> Sample:
    """A value that decrypts to no text under any key."""
    payload = envelope(key, CFB_PREFIX) + SALT + bytes(16 + size)
    return Sample(PEM, payloads.parse(payload))


def open_ring(candidate: SecretKeyCandidate) -> KeyRing:
    """As a run's: a wrong secret_key unwraps its data keys to sixteen bytes of something else; KMS does not ask for it."""

    def unwrap(key_id: str) -> bytes:
        if key_id not in DATA_KEYS:
            raise PayloadError(Reason.UNKNOWN_DATA_KEY)
        if key_id in UNDER_SECRET_KEY and candidate is not RIGHT:
            return random.Random(candidate.value + key_id).randbytes(16)  # noqa: S311  (a test's)
        return DATA_KEYS[key_id]

    return KeyRing(candidate.value.encode(), unwrap, derive=DERIVE)


def judge(found: list[Sample], *candidates: SecretKeyCandidate) -> Trust:
    return samples.judge(found, candidates or (RIGHT,), open_ring, UNDER_SECRET_KEY)


# --- judging ---------------------------------------------------------------------------------------------------------------------------


def test_a_right_secret_key_is_trusted_with_every_data_key() -> None:
    found = [sample("k1"), sample("k2"), sample(SECRET_KEY), sample("kms")]
    assert judge(found) == Trust(RIGHT, frozenset(), 4)


def test_a_wrong_secret_key_is_refused_with_its_name_and_never_its_value() -> None:
    with pytest.raises(WrongSecretKey) as refusal:
        judge([sample("k1")] * 3 + [sample("k2")], WRONG)
    message = str(refusal.value)
    for words in ("4 of 4 sampled values", WRONG.source, "nothing was written", "Put the secret_key of the running Grafana"):
        assert words in message
    assert WRONG.value not in repr(refusal.value)


def test_of_two_wrong_candidates_both_are_named() -> None:
    with pytest.raises(WrongSecretKey, match=f"under {WRONG.source} and {OTHER.source}:"):
        judge([sample("k1")] * 3, WRONG, OTHER)


@pytest.mark.parametrize("candidates", [(RIGHT, WRONG), (WRONG, RIGHT), (WRONG, OTHER, RIGHT)])
@pytest.mark.parametrize("key", ["k1", SECRET_KEY])
def test_of_several_candidates_the_one_that_decrypts_is_taken(key: str, candidates: tuple[SecretKeyCandidate, ...]) -> None:
    assert judge([sample(key)] * 3, *candidates).secret_key is RIGHT


@pytest.mark.parametrize("found", [[], [sample("kms")] * 3], ids=["no value", "KMS alone"])
def test_where_the_samples_say_nothing_the_most_likely_candidate_is_taken(found: list[Sample]) -> None:
    assert judge(found, RIGHT, WRONG) == Trust(RIGHT, frozenset(), len(found))
    assert judge(found, OTHER, RIGHT).secret_key is OTHER


def test_a_plaintext_too_short_to_tell_speaks_for_no_key() -> None:
    found = [sample("k1", b"ok")] * 3
    assert judge(found) == Trust(RIGHT, frozenset(), 3)
    assert judge([*found, garbage("k1"), sample("k2")]).distrusted == {"k1"}


def test_a_secret_key_that_is_wrong_beside_many_values_under_kms_is_not_trusted() -> None:
    trust = judge([sample("kms")] * 30 + [sample("k1")] * 5 + [sample(SECRET_KEY)] * 5, WRONG)
    assert trust.distrusted == {"k1", SECRET_KEY}


def test_a_data_key_of_an_earlier_secret_key_is_not_trusted_and_the_others_are() -> None:
    assert judge([sample("k1")] * 20 + [garbage("k2")] * 6).distrusted == {"k2"}


def test_a_few_damaged_values_do_not_discredit_their_key() -> None:
    assert judge([sample("k2")] * 20 + [sample("k1")] + [garbage("k1")] * 5).distrusted == frozenset()


def test_garbage_that_once_passes_for_text_does_not_redeem_a_key() -> None:
    assert judge([sample("k2")] * 20 + [sample("k1")] + [garbage("k1")] * 6).distrusted == {"k1"}


def test_damaged_values_under_kms_discredit_nothing_since_kms_authenticates() -> None:
    assert judge([sample("k1")] * 20 + [garbage("kms")] * 6).distrusted == frozenset()


def test_values_that_no_key_can_read_are_not_taken_for_garbage() -> None:
    unknown = Sample(TEXT, payloads.parse(envelope("gone", CFB_PREFIX) + bytes(60)))
    assert judge([sample("k1"), *[unknown] * 9]) == Trust(RIGHT, frozenset(), 10)


def test_gcm_tells_a_wrong_key_by_itself() -> None:
    gcm = Sample(TEXT, payloads.parse(payloads.GCM_PREFIX + SALT + bytes(60)))
    with pytest.raises(WrongSecretKey, match="1 of 1"):
        judge([gcm])


@pytest.mark.parametrize(
    ("column", "plaintext", "plausible"),
    [
        (JSON, b'{"panels": []}', True),
        (JSON, b"no json, if readable", False),
        (PEM, b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", True),
        (PEM, b"readable but no armour", False),
        (TEXT, "ein Schlüssel mit Umlaut".encode(), True),
        (TEXT, b"\xff\xfe not utf-8 at all", False),
    ],
)
def test_a_sample_is_judged_as_what_its_column_holds(column: SecretColumn, plaintext: bytes, plausible: bool) -> None:
    found = [sample("k1", plaintext, column)]
    if plausible:
        assert judge(found).distrusted == frozenset()
    else:
        with pytest.raises(WrongSecretKey):
            judge(found)


def test_a_sample_shows_neither_its_payload_nor_a_candidate_its_key() -> None:
    assert "body" not in repr(sample("k1"))
    assert RIGHT.value not in repr(judge([sample("k1")]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["k1", "k2", SECRET_KEY]), st.text(min_size=16).map(str.encode)), min_size=4, max_size=12))
def test_whatever_texts_there_are_the_right_key_is_trusted_and_a_wrong_one_is_not(texts: list[tuple[str, bytes]]) -> None:
    found = [sample(key, plaintext) for key, plaintext in texts]
    assert judge(found, RIGHT) == Trust(RIGHT, frozenset(), len(found))
    with pytest.raises(WrongSecretKey):
        judge(found, WRONG)


# --- taking ----------------------------------------------------------------------------------------------------------------------------

Open = Callable[[Mapping[str, list[tuple[object, ...]]]], Database]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a SQLite database with the given rows of `secrets` and `data_source`."""
    made: list[Database] = []

    def fill(tables: Mapping[str, list[tuple[object, ...]]]) -> Database:
        path = tmp_path / "grafana.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, value TEXT NULL)")
        connection.execute("CREATE TABLE data_source (id INTEGER PRIMARY KEY, secure_json_data TEXT NULL)")
        for table, rows in tables.items():
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        connection.commit()
        connection.close()
        made.append(Database(DatabaseSettings("sqlite3", path=str(path)), read_only=True))
        return made[0]

    yield fill
    for database in made:
        database.close()


def text(key: str) -> str:
    return base64.b64encode(stored(key)).decode().rstrip("=")


def test_a_database_without_secrets_has_no_samples(opened: Open) -> None:
    database = opened({"secrets": [(1, None), (2, ""), (3, "plain, no payload")]})
    assert samples.take(database, database.groups()) == []


def test_the_oldest_and_the_newest_rows_are_sampled_and_none_twice(opened: Open) -> None:
    old, middle, new = text("k1"), text("kms"), text("k2")
    rows = 3 * SAMPLE_ROWS
    database = opened(
        {
            "secrets": [(n, old if n <= 5 else new if n > rows - 5 else middle if n == rows // 2 else "") for n in range(1, rows + 1)],
        }
    )
    taken = Counter(found.key for found in samples.take(database, database.groups()))
    assert taken == {"k1": 5, "k2": 5}


@pytest.mark.parametrize("rows", [1, SAMPLE_ROWS - 1, SAMPLE_ROWS, SAMPLE_ROWS + 1, 2 * SAMPLE_ROWS])
def test_a_small_table_is_sampled_whole_and_each_row_once(opened: Open, rows: int) -> None:
    ids = [envelope(f"key{n}", CFB_PREFIX) + SALT + bytes(40) for n in range(rows)]
    database = opened({"secrets": [(n + 1, base64.b64encode(payload).decode()) for n, payload in enumerate(ids)]})
    assert sorted(found.key for found in samples.take(database, database.groups())) == sorted(f"key{n}" for n in range(rows))


def test_of_one_key_and_column_only_some_values_are_sampled_but_every_key_has_its_own(opened: Open) -> None:
    common, rare = text("k1"), text("k2")
    database = opened(
        {
            "secrets": [(n, rare if n == 20 else common) for n in range(1, 41)],
            "data_source": [(1, json.dumps({f"secret{n}": base64.b64encode(stored("k1")).decode() for n in range(15)}))],
        }
    )
    taken = Counter((found.column.id, found.key) for found in samples.take(database, database.groups()))
    assert taken == {("secrets.value", "k1"): 10, ("secrets.value", "k2"): 1, ("data_source.secure_json_data", "k1"): 10}


def test_a_row_larger_than_a_page_is_sampled_too(opened: Open) -> None:
    large = base64.b64encode(stored("k1", b"x" * (3 << 20))).decode()
    database = opened({"secrets": [(1, large), (2, large)]})
    assert Counter(found.key for found in samples.take(database, database.groups()))["k1"] >= 1


def test_a_damaged_value_is_no_sample_and_does_not_end_the_preflight(opened: Open) -> None:
    database = opened({"secrets": [(1, "IyM="), (2, text("k1"))], "data_source": [(1, "{not json"), (2, "[1]"), (3, '{"a": 1}')]})
    assert [found.key for found in samples.take(database, database.groups())] == ["k1"]
