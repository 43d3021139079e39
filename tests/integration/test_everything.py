"""A full scan reads every table that there is, whatever it is called, whatever its columns and keys are, and never more than a page of it."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database import stream
from reencrypt.database.database import Database, Row
from reencrypt.errors import DatabaseError
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.payload import CFB_PREFIX
from reencrypt.grafana.references import find
from reencrypt.grafana.secret_columns import ColumnGroup
from tests.integration.conftest import EmptyDatabase
from tests.support import servers
from tests.support.golden import GoldenDatabase

ENVELOPE = payloads.envelope("fg5b0mreqohdsa", CFB_PREFIX + bytes(range(60, 100)))
TEXT = base64.b64encode(ENVELOPE).decode()
FOUND = Counter({"fg5b0mreqohdsa": 1})
LARGE = 16_000_000
NO_TEXT = (sa.Integer, sa.Numeric, sa.DateTime, sa.Boolean)
# Columns that hold the id of a data key and nothing else.
PLAIN_IDS = {"data_keys.name", "secret_data_key.uid", "secret_encrypted_value.data_key_id"}


@pytest.fixture
def database(empty_database: EmptyDatabase) -> Iterator[Database]:
    opened = Database(empty_database.settings, read_only=True)
    yield opened
    opened.close()


def pages(database: Database, group: ColumnGroup) -> Iterator[list[Row]]:
    """Every page of a group, as a scan reads them."""
    if not group.primary_key:
        yield from database.stream(group)
        return
    after, last = None, False
    while not last:
        window = database.window(group, after, None, 200, 1 << 20)
        yield database.page(group, json_round_trip(after), json_round_trip(window.through))
        after, last = window.through, window.last


def json_round_trip(key: tuple[object, ...] | None) -> tuple[object, ...] | None:
    """Keys travel between functions as JSON."""
    return None if key is None else tuple(json.loads(json.dumps(key)))


def rows(database: Database, group: ColumnGroup) -> list[Row]:
    return [row for page in pages(database, group) for row in page]


def references(database: Database, known: Collection[str] = ()) -> Counter[tuple[str, str]]:
    """By (table.column, key)."""
    found: Counter[tuple[str, str]] = Counter()
    for group in database.everything():
        for row in rows(database, group):
            for column, value in zip(group.columns, row.values, strict=True):
                for key, count in find(value or b"", known).items():
                    found[f"{group.table}.{column.column}", key] += count
    return found


def only(database: Database, table: str) -> ColumnGroup:
    [group] = database.everything([table])
    return group


def quoted(database: EmptyDatabase, name: str) -> str:
    mark = "`" if database.engine_name == "mysql" else '"'
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


COLUMNS = {
    "sqlite": {
        "text": "TEXT", "nothing": "", "varchar": "VARCHAR(200)", "nvarchar": "NVARCHAR(200)", "clob": "CLOB", "blob": "BLOB", "uuid": "UUID", "json": "JSON",
        "odd": "GEOMETRY",
    },
    "mysql": {
        "char": "CHAR(200)", "varchar": "VARCHAR(200)", "latin1": "VARCHAR(200) CHARACTER SET latin1", "wide": "VARCHAR(200) CHARACTER SET utf16",
        "tinytext": "TINYTEXT", "text": "TEXT", "mediumtext": "MEDIUMTEXT", "longtext": "LONGTEXT", "json": "JSON", "enum": f"ENUM('a', '{TEXT}')",
        "set": f"SET('a', '{TEXT}')", "binary": "BINARY(200)", "varbinary": "VARBINARY(200)", "tinyblob": "TINYBLOB", "blob": "BLOB",
        "mediumblob": "MEDIUMBLOB", "longblob": "LONGBLOB",
    },
    "postgres": {
        "text": "TEXT", "varchar": "VARCHAR(200)", "char": "CHAR(200)", "bytea": "BYTEA", "json": "JSON", "jsonb": "JSONB", "texts": "TEXT[]",
        "varchars": "VARCHAR(200)[][]", "blobs": "BYTEA[]", "jsons": "JSONB[]", "xml": "XML", "domain": "plain", "pair": "pair",
    },
}  # fmt: skip
IGNORED = {
    "sqlite": ["INTEGER", "BIGINT(20)", "REAL", "DATETIME", "BOOLEAN", "NUMERIC(10,2)", "UNSIGNED BIG INT"],
    "mysql": ["INT", "BIGINT(20) UNSIGNED", "TINYINT(1)", "DOUBLE", "DECIMAL(10,2)", "DATETIME", "TIMESTAMP NULL", "BIT(1)"],
    "postgres": ["INTEGER", "BIGINT", "NUMERIC", "DOUBLE PRECISION", "BOOL", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "INTEGER[]", "INET"],
}  # fmt: skip


def literal(engine: str, column: str) -> str:
    """SQL for a value of the column that holds one envelope."""
    if column in ("json", "jsonb"):
        return f"'{json.dumps({'a': [TEXT]})}'"
    if "blob" in column or "binary" in column or column == "bytea":
        binary = f"decode('{ENVELOPE.hex()}', 'hex')" if engine == "postgres" else f"x'{ENVELOPE.hex()}'"
        return f"ARRAY[{binary}]" if column == "blobs" else binary
    arrays = {"texts": f"ARRAY['a b', '{TEXT}']", "varchars": f"ARRAY[['{TEXT}']]", "jsons": f"""ARRAY['{{"a": "{TEXT}"}}'::jsonb]"""}
    return arrays.get(column, {"xml": f"'<a>{TEXT}</a>'", "pair": f"ROW(1, '{TEXT}')"}.get(column, f"'{TEXT}'"))


@pytest.mark.parametrize("keyed", [True, False])
def test_every_type_that_holds_text_or_bytes_is_read(database: Database, empty_database: EmptyDatabase, keyed: bool) -> None:
    engine = empty_database.engine_name
    if engine == "postgres":
        empty_database.execute("CREATE DOMAIN plain AS TEXT")
        empty_database.execute("CREATE TYPE pair AS (number INT, word TEXT)")
    columns = COLUMNS[engine]
    declared = [f"{quoted(empty_database, name)} {kind} NULL" for name, kind in columns.items()]
    declared += [f"ignored_{number} {kind}{'' if 'NULL' in kind else ' NULL'}" for number, kind in enumerate(IGNORED[engine])]
    empty_database.execute(f"CREATE TABLE things (id INTEGER NOT NULL{' PRIMARY KEY' if keyed else ''}, {', '.join(declared)})")
    group = only(database, "things")
    assert rows(database, group) == []
    assert group.primary_key == (("id",) if keyed else ())
    assert [column.column for column in group.columns] == list(columns)
    for number, name in enumerate(columns):
        with empty_database.engine.begin() as connection:
            text = f"INSERT INTO things (id, {quoted(empty_database, name)}) VALUES ({number}, {literal(engine, name)})"
            connection.exec_driver_sql(text)
    found = {name: find(row.values[number] or b"", ()) for number, (name, row) in enumerate(zip(columns, rows(database, group), strict=True))}
    assert found == dict.fromkeys(columns, FOUND)


def test_an_id_alone_is_found_in_any_shape(database: Database, empty_database: EmptyDatabase) -> None:
    ids = {"sqlite": {"TEXT": "'{}'", "BLOB": "'{}'"}, "mysql": {"VARCHAR(50)": "'{}'", "JSON": "'[\"{}\"]'", "ENUM('fg5b0mreqohdsa')": "'{}'"}}
    if empty_database.engine_name == "postgres":
        empty_database.execute("CREATE TYPE mood AS ENUM ('a', 'fg5b0mreqohdsa')")
    ids["postgres"] = {"mood": "'{}'", "TEXT": "'{}'", "CHAR(50)": "'{}'", "TEXT[]": "ARRAY['a', '{}']", "JSONB": '\'{{"dataKeyId":"{}"}}\''}
    kinds = ids[empty_database.engine_name]
    empty_database.execute(f"CREATE TABLE things ({', '.join(f'c{number} {kind}' for number, kind in enumerate(kinds))})")
    values = ", ".join(form.format("fg5b0mreqohdsa") for form in kinds.values())
    with empty_database.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO things VALUES ({values})")
    [row] = rows(database, only(database, "things"))
    assert [find(value or b"", {"fg5b0mreqohdsa"}) for value in row.values] == [FOUND] * len(kinds)


@pytest.mark.parametrize(
    ("declaration", "key"),
    [
        ("id INTEGER NOT NULL PRIMARY KEY, v TEXT", ("id",)),
        ("id VARCHAR(40) NOT NULL PRIMARY KEY, v TEXT", ("id",)),
        ("a VARCHAR(40) NOT NULL, b BIGINT NOT NULL, c VARCHAR(40) NOT NULL, v TEXT, PRIMARY KEY (c, a, b)", ("c", "a", "b")),
        ("a VARCHAR(40) NOT NULL, b INTEGER NOT NULL, v TEXT, UNIQUE (a, b), UNIQUE (b)", ("b",)),
        ("a VARCHAR(40) NOT NULL, b INTEGER NOT NULL, v TEXT, UNIQUE (a, b)", ("a", "b")),
        ("a VARCHAR(40) NULL, v TEXT, UNIQUE (a)", ()),
        ("a INTEGER NOT NULL, v TEXT", ()),
        ("a DOUBLE PRECISION NOT NULL PRIMARY KEY, v TEXT", ()),
        ("a DOUBLE PRECISION NOT NULL PRIMARY KEY, b VARCHAR(40) NOT NULL, v TEXT, UNIQUE (b)", ("b",)),
    ],
)
def test_a_table_is_paged_by_a_key_that_is_unique_and_travels(
    database: Database, empty_database: EmptyDatabase, declaration: str, key: tuple[str, ...]
) -> None:
    empty_database.execute(f"CREATE TABLE things ({declaration})")
    group = only(database, "things")
    assert group.primary_key == key
    kinds = dict(part.split()[:2] for part in declaration.split(", ") if part.split()[0] in ("id", "a", "b", "c") and len(part.split()) > 2)
    with empty_database.engine.begin() as connection:
        for number in range(701):
            values = {name: f"{number:05d}" if "CHAR" in kind else number for name, kind in kinds.items()} | {"v": f"value {number}"}
            connection.execute(sa.text(f"INSERT INTO things ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"), values)
    found = rows(database, group)
    place = [column.column for column in group.columns].index("v")
    assert sorted(row.values[place] or b"" for row in found) == sorted(f"value {number}".encode() for number in range(701))
    assert all(len(row.key) == len(key) for row in found)


def test_an_index_over_a_part_of_the_rows_or_of_a_column_is_no_key(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("CREATE TABLE things (a VARCHAR(40) NOT NULL, v TEXT)")
    index = {"sqlite": "(a) WHERE a <> 'x'", "postgres": "(a) WHERE a <> 'x'", "mysql": "(a(2))"}[empty_database.engine_name]
    empty_database.execute(f"CREATE UNIQUE INDEX of_some ON things {index}")
    if empty_database.engine_name != "mysql":
        empty_database.execute("CREATE UNIQUE INDEX of_lower ON things (lower(a))")
    assert only(database, "things").primary_key == ()


@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("declaration", "key"),
    [
        ("k TEXT PRIMARY KEY, v TEXT", ()),  # SQLite allows NULL in it
        ("k TEXT NOT NULL PRIMARY KEY, v TEXT", ("k",)),
        ("k INT PRIMARY KEY, v TEXT", ()),
        ("k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID --", ("k",)),
        ("k BLOB PRIMARY KEY, v TEXT) WITHOUT ROWID --", ()),
        ("rowid TEXT, v TEXT", ()),
        ("rowid TEXT, _rowid_ TEXT, v TEXT, k TEXT", ()),
    ],
)
def test_sqlites_tables_are_read_to_the_end_whatever_their_keys_are(
    database: Database, empty_database: EmptyDatabase, declaration: str, key: tuple[str, ...]
) -> None:
    empty_database.execute(f"CREATE TABLE things ({declaration}\n)".replace(" --\n)", ""))
    first = declaration.split()[0]
    for number in range(450):
        empty_database.execute(
            f"INSERT INTO things ({first}, v) VALUES (:k, :v)",
            k=None if number < 3 and not key and "BLOB" not in declaration else f"{number:03d}",
            v=str(number),
        )
    group = only(database, "things")
    assert group.primary_key == key
    assert {row.values[[c.column for c in group.columns].index("v")] for row in rows(database, group)} == {str(number).encode() for number in range(450)}


NAMES = [
    "with space",
    "Upper",
    "select",
    'dou"ble',
    "back`tick",
    "per%cent",
    "%s",
    "{c}",
    "a.b",
    "tab?le",
    "ünï☃",
    "semi;colon",
    "it's",
    ":name",
    "back\\slash",
]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_names_are_read_like_others(database: Database, empty_database: EmptyDatabase, name: str, keyed: bool) -> None:
    escaped = quoted(empty_database, name)
    with empty_database.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        cursor = raw.cursor()
        cursor.execute(f"CREATE TABLE {escaped} (id INTEGER NOT NULL{' PRIMARY KEY' if keyed else ''}, {escaped} TEXT)")
        cursor.execute(f"INSERT INTO {escaped} VALUES (1, '{TEXT}')")
        cursor.execute(f"INSERT INTO {escaped} VALUES (2, NULL)")
        raw.commit()
    [group] = database.everything()
    assert (group.id, group.table, [column.column for column in group.columns]) == (f"everything:{name}", name, [name])
    assert [row.values for row in rows(database, group)] == [(TEXT.encode(),), (None,)]


def test_views_and_tables_without_text_are_left_out(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("CREATE TABLE numbers (id INTEGER NOT NULL PRIMARY KEY, n BIGINT)")
    empty_database.execute("CREATE TABLE words (id INTEGER NOT NULL PRIMARY KEY, w VARCHAR(20))")
    empty_database.execute("CREATE VIEW shown AS SELECT w FROM words")
    assert [group.table for group in database.everything()] == ["words"]
    assert database.everything(["numbers", "shown", "absent"]) == ()
    assert [group.table for group in database.everything(["absent", "words"])] == ["words"]


def test_generated_columns_are_read(database: Database, empty_database: EmptyDatabase) -> None:
    kind = "TEXT" if empty_database.engine_name != "mysql" else "VARCHAR(200)"
    empty_database.execute(f"CREATE TABLE things (id INTEGER NOT NULL PRIMARY KEY, a {kind}, b {kind} GENERATED ALWAYS AS (lower(a)) STORED)")
    empty_database.execute("INSERT INTO things (id, a) VALUES (1, 'ABC')")
    [row] = rows(database, only(database, "things"))
    assert row.values == (b"ABC", b"abc")


def test_tables_are_looked_up_once_and_by_few_queries(database: Database, empty_database: EmptyDatabase) -> None:
    with empty_database.engine.begin() as connection:
        for number in range(100):
            connection.exec_driver_sql(f"CREATE TABLE unknown_{number:03d} (id INTEGER NOT NULL PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))")
    asked = []
    sa.event.listen(database._engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    assert [group.table for group in database.everything(["unknown_007"])] == ["unknown_007"]
    assert [group.table for group in database.everything()] == [f"unknown_{number:03d}" for number in range(100)]
    assert len(asked) == 4
    assert [len(rows(database, group)) for group in database.everything()] == [0] * 100
    assert [group.table for group in database.everything(["unknown_007", "unknown_001"])] == ["unknown_007", "unknown_001"]
    assert len(asked) == 4 + 2 * 100


# Made by the server: a statement may not be as large as that everywhere.
LARGE_VALUES = {
    "sqlite": (f"substr(hex(zeroblob({LARGE // 2})), 1, {LARGE})", f"zeroblob({LARGE})"),
    "mysql": (f"REPEAT('x', {LARGE})", f"REPEAT(x'00', {LARGE})"),
    "postgres": (f"repeat('x', {LARGE})", f"decode(repeat('00', {LARGE}), 'hex')"),
}


@pytest.mark.parametrize("keyed", [True, False])
def test_large_values_are_held_one_at_a_time(database: Database, empty_database: EmptyDatabase, keyed: bool) -> None:
    kinds = {"sqlite": "BLOB", "mysql": "LONGBLOB", "postgres": "BYTEA"}
    text = "LONGTEXT" if empty_database.engine_name == "mysql" else "TEXT"
    empty_database.execute(f"CREATE TABLE things (id INTEGER NOT NULL{' PRIMARY KEY' if keyed else ''}, t {text}, b {kinds[empty_database.engine_name]})")
    large_text, large_blob = LARGE_VALUES[empty_database.engine_name]
    with empty_database.engine.begin() as connection:
        for number in range(4):
            connection.exec_driver_sql(f"INSERT INTO things VALUES ({3 * number}, {large_text}, NULL)")
            connection.exec_driver_sql(f"INSERT INTO things VALUES ({3 * number + 1}, 'small', {large_blob})")
            connection.exec_driver_sql(f"INSERT INTO things VALUES ({3 * number + 2}, 'small', NULL)")
    group = only(database, "things")
    sizes = Counter[tuple[int, int]]()
    tracemalloc.start()
    try:
        for page in pages(database, group):
            for row in page:
                sizes[len(row.values[0] or b""), len(row.values[1] or b"")] += 1
            del page, row
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == {(LARGE, 0): 4, (5, LARGE): 4, (5, 0): 4}
    assert peak < 5 * LARGE  # the driver's copy, its decoded form and ours of one value; eight values are 128 MB


def test_a_table_without_a_key_comes_in_bounded_batches(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("CREATE TABLE things (id INTEGER NOT NULL, v VARCHAR(10000))")
    with empty_database.engine.begin() as connection:
        for number in range(1000):
            connection.execute(sa.text("INSERT INTO things VALUES (:id, :v)"), {"id": number, "v": f"{number:04d}" + "x" * (9_000 if number > 500 else 0)})
    batches = list(database.stream(only(database, "things")))
    assert sorted((row.values[0] or b"")[:4] for batch in batches for row in batch) == [f"{number:04d}".encode() for number in range(1000)]
    assert all(batch and len(batch) <= stream.ROWS for batch in batches)
    assert all(sum(len(row.values[0] or b"") for row in batch) <= stream.BYTES + 10_000 for batch in batches)
    assert {row.key for batch in batches for row in batch} == {()}


def test_a_stream_that_is_given_up_leaves_the_database_as_it_was(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("CREATE TABLE things (v VARCHAR(100))")
    with empty_database.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO things VALUES (:v)"), [{"v": f"{number}"} for number in range(5000)])
    group = only(database, "things")
    for _ in range(8):  # more often than there are connections
        batches = database.stream(group)
        assert len(next(batches)) == stream.ROWS
        assert isinstance(batches, Iterator)
        batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(rows(database, group)) == 5000


def test_a_table_that_is_gone_is_named(database: Database, empty_database: EmptyDatabase) -> None:
    for name, key in (("keyed", " PRIMARY KEY"), ("bare", "")):
        empty_database.execute(f"CREATE TABLE {name} (id INTEGER NOT NULL{key}, v VARCHAR(100))")
    groups = database.everything()
    for group in groups:
        empty_database.execute(f"DROP TABLE {group.table}")
        with pytest.raises(DatabaseError, match=f"reading {group.table}"):
            rows(database, group)


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_a_table_that_may_not_be_read_is_an_error(empty_database: EmptyDatabase) -> None:
    user = f"reader_{empty_database.url.database}"
    settings = servers.settings_of(empty_database.url.set(username=user, password="x"))

    def listed(*tables: str) -> list[str]:
        with closing(Database(settings, read_only=True)) as database:
            return [group.table for group in database.everything(tables)]

    empty_database.execute("CREATE TABLE readable (id INTEGER PRIMARY KEY, v TEXT)")
    empty_database.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY)")
    empty_database.execute("CREATE TABLE closed (id INTEGER PRIMARY KEY, v TEXT, w TEXT)")
    empty_database.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    try:
        empty_database.execute(f"GRANT SELECT ON readable TO {user}")
        with pytest.raises(DatabaseError, match=r"may not read v of the table closed.*SELECT on every table"):
            listed()
        assert listed("readable") == ["readable"]
        empty_database.execute(f"GRANT SELECT (v) ON closed TO {user}")
        with pytest.raises(DatabaseError, match="may not read w of the table closed"):
            listed()
        empty_database.execute(f"GRANT SELECT ON closed TO {user}")
        assert listed() == ["closed", "readable"]
        empty_database.execute("ALTER TABLE closed ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DatabaseError, match="row-level security hides rows of the table closed"):
            listed()
    finally:
        empty_database.execute(f"DROP OWNED BY {user}")
        empty_database.execute(f"DROP ROLE {user}")


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_partitions_are_read_once(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("CREATE TABLE whole (id INTEGER, v TEXT) PARTITION BY RANGE (id)")
    for number in range(2):
        empty_database.execute(f"CREATE TABLE part_{number} PARTITION OF whole FOR VALUES FROM ({number * 10}) TO ({number * 10 + 10})")
    with empty_database.engine.begin() as connection:
        for number in range(20):
            connection.execute(sa.text("INSERT INTO whole VALUES (:id, :v)"), {"id": number, "v": f"{number:02d}" + "x" * 20_000})
    assert [group.table for group in database.everything()] == ["whole"]
    assert sorted((row.values[0] or b"")[:2] for row in rows(database, only(database, "whole"))) == [f"{number:02d}".encode() for number in range(20)]


def listed(expected: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """The references of a golden database's secrets, as expected.json tells of them, and those of its data keys."""
    references: Counter[tuple[str, str]] = Counter()
    for value in expected["values"]:
        place = f"{value['table']}.{value['column']}"
        if value["form"] == "split-gcm":  # the payload names no key; the column beside it does
            references[place, SECRET_KEY] += 1
            references[f"{value['table']}.data_key_id", value["key_id"]] += 1
        elif value["form"] != "legacy-cfb-unprefixed":  # which looks like any bytes
            references[place, value["key_id"] or SECRET_KEY] += 1
    for table, name in (("data_keys", "name"), ("secret_data_keys", "uid")):
        for key in expected[table]:  # all of them wrapped by secret_key
            stored = table.replace("secret_data_keys", "secret_data_key")
            references[f"{stored}.{name}", key[name]] += 1
            references[f"{stored}.encrypted_data", SECRET_KEY] += 1
    return references


@pytest.mark.golden
def test_on_the_golden_databases_exactly_the_references_of_their_secrets_are_found(golden_database: GoldenDatabase) -> None:
    """And those of the remote cache, which holds what expected.json does not list: auth info, under keys that may be gone."""
    expected = golden_database.expected
    known = {key["name"] for key in expected["data_keys"]} | {key["uid"] for key in expected["secret_data_keys"]}
    opened = Database(golden_database.settings().database, read_only=True)
    with golden_database.engine.connect() as connection:
        inspector = sa.inspect(connection)
        tables = set(inspector.get_table_names()) - {"sqlite_sequence"}
        numbers = {table for table in tables if all(isinstance(column["type"], NO_TEXT) for column in inspector.get_columns(table))}
    assert {group.table for group in opened.everything()} == tables - numbers
    found = references(opened, known)
    assert {place: count for place, count in found.items() if place[0] != "cache_data.data"} == listed(expected)
    unknown = references(opened)
    opened.close()
    assert unknown == Counter({place: count for place, count in found.items() if place[0] not in PLAIN_IDS})
