"""What is fuzzed: each target takes any bytes, and raises if the product breaks a promise with them.

A target returns what came of its input in a few words, so that the fuzzer can tell new behaviour from old. An exception that is none of
`reencrypt.errors` goes through as it is; a promise that does not hold raises `Broken`.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from bench.fuzzing.seeds import CANARY, SEPARATOR
from reencrypt.errors import ConfigurationError, InvalidIni, InvalidInput, PayloadError, Reason
from reencrypt.grafana import base64_text, cipher, document, ini, plausibility, secret_values, settings
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.document import Kind
from reencrypt.grafana.durations import parse_duration
from reencrypt.grafana.ini import Ini
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.plausibility import PlaintextKind
from reencrypt.grafana.secret_columns import SecretColumn, Shape, secret_columns
from reencrypt.grafana.secret_values import SecretValue, State
from reencrypt.operations import run_input

Target = Callable[[bytes], str]

_REASONS = frozenset(reason.value for reason in Reason)
_INVALID_INI = re.compile(
    r"grafana\.ini, line [1-9][0-9]*: (the section's name is not closed by \]|the section has no name|this is not valid Unicode text|the key's quote is not "
    r'closed|there is neither = nor :|the key has no name|the quoted value is not closed by ("""|`))'
)
_COLUMNS = tuple({(column.shape, column.base64, column.json_paths, column.plaintext): column for column in secret_columns()}.values())
_JSON_COLUMNS = tuple(column for column in _COLUMNS if column.shape not in (Shape.RAW, Shape.BASE64))
_SCALARS = (None, True, False, 0, 1, -1, 2**63, -(10**400), 0.5, float("inf"), float("nan"), "", CANARY, "plan", "restore")
_REBUILT = payloads.envelope("new", payloads.CFB_PREFIX + b"saltSALT" + bytes(16) + b"rewritten")
_INPUT_KEYS = [field.alias or name for name, field in run_input.RunInput.model_fields.items()]


class Broken(AssertionError):
    """A promise of the product does not hold for this input; the message says which."""


def payload(data: bytes) -> str:
    """Base64, payload parser and ciphers: a value, or a PayloadError that says its reason and nothing else; what is built is read back."""
    for flavour in (Base64.STD, Base64.RAWSTD):
        _require(base64_text.decode(base64_text.encode(data, flavour)) == data, "base64 that is written is read back")
    with _reasons_only():
        decoded = base64_text.decode(data)
        _require(base64_text.decode(base64_text.encode(decoded, Base64.STD)) == decoded, "decoded base64 is encoded again without loss")
    key_id = data[:40].decode(errors="replace")
    sealed = payloads.envelope(key_id, payloads.CFB_PREFIX + cipher.encrypt_cfb(data, bytes(32), b"saltSALT"))
    read = payloads.parse(sealed)
    _require((read.key_id, payloads.decrypt(read, b"", _derive)) == (key_id, data), "an envelope is read back under its data key")
    try:
        parsed = payloads.parse(data)
    except PayloadError as error:
        _require(str(error) in _REASONS, "a PayloadError says its reason and nothing else")
        return str(error)
    _require(payloads.parse(_built(parsed)) == parsed, "a payload that is parsed and built again is the same payload")
    _require(len(parsed.body) < 40 or repr(parsed.body)[2:-1] not in repr(parsed), "a payload's repr does not show its body")
    words = [parsed.algorithm.value, str(parsed.named), str(parsed.key_id is None), str(parsed.could_be_grafanas)]
    try:
        plaintext = payloads.decrypt(parsed, b"password", _derive)
    except PayloadError as error:
        _require(str(error) in _REASONS, "a PayloadError says its reason and nothing else")
        return " ".join((*words, str(error)))
    return " ".join((*words, *(kind for kind in PlaintextKind if plausibility.is_plausible(kind, plaintext) and plausibility.is_convincing(kind, plaintext))))


def configuration(data: bytes) -> str:
    """grafana.ini and its environment: settings, or an error that names a line or a setting, and repeats no value that could be a secret."""
    before, _, text = _decoded(data).rpartition(SEPARATOR.decode())
    environment = dict(line.split("=", 1) for line in before.split("\n") if "=" in line)
    for line in text[:2000].split("\n")[:20]:
        parse_duration(line.rpartition("= ")[2])
    try:
        parsed = ini.parse(text)
    except InvalidIni as error:
        _require(_INVALID_INI.fullmatch(str(error)) is not None, "an InvalidIni names the line and its kind of damage, nothing of its text")
        return re.sub("[0-9]+", "0", str(error))
    items = list(parsed.items())
    for section, key, value in items[:50]:
        _require(parsed.raw(section, key) == value, "a value that stands in a section is the one read there")
        with contextlib.suppress(ConfigurationError):
            parsed.text(section, key)
    _require(CANARY not in repr(parsed) and parsed.raw("no such section", "no such key") is None, "an Ini shows no value")
    try:
        loaded = settings.load_settings(text, environment, read_file=_read_file, hostname="host")
    except ConfigurationError as error:
        _repeats_no_secret(str(error), parsed, environment)
        return re.sub(r"[0-9]+|\[.*?\]|GF_\S+|'.*?'|= \S+", "", str(error))[:60]
    for candidate in loaded.secret_keys:
        candidate.value.encode()
    for warning in loaded.warnings:
        _repeats_no_secret(warning, parsed, environment)
    database = loaded.database
    secrets = [candidate.value for candidate in loaded.secret_keys] + [database.password, *database.query.values()]
    if CANARY in secrets:
        bare = (loaded.encryption_provider, *loaded.available_encryption_providers, *loaded.kms, loaded.algorithm, *loaded.warnings)
        shown = [part for section in loaded.kms.values() for part in (section.key_id, section.region or "")]
        shown += [str(value) for name, value in vars(database).items() if name not in ("password", "query")]
        _require(CANARY in "".join((*bare, *shown, *(each.source for each in loaded.secret_keys))) or CANARY not in repr(loaded), "a repr shows no secret")
    return f"{database.type} {bool(database.unix_socket)} {len(loaded.secret_keys)} {len(loaded.kms)} {len(loaded.warnings)} {bool(database.query)}"


def stored_value(data: bytes) -> str:
    """A column's bytes: `read` accounts for them and never fails; `write` changes the chosen payloads and no other byte."""
    columns = _JSON_COLUMNS if data.lstrip()[:1] in (b"{", b"[") and data[-1:] != b" " else _COLUMNS
    column = columns[zlib.crc32(data) % len(columns)]
    values = secret_values.read(column, data)
    _require(bool(values), "each row is accounted for")
    found = [value for value in values if value.state is State.PAYLOAD]
    _require(all((value.state is State.PAYLOAD) == (value.payload is not None) for value in values), "a payload is parsed, anything else is not")
    _require(all((value.state is State.UNREADABLE) == (value.reason is not None) for value in values), "what is unreadable has a reason, nothing else has")
    _only_payloads_change(column, data, values, [value for number, value in enumerate(found) if number % 3 != 1])
    for value in found[:3]:
        alone = secret_values.read_place(column, data[slice(*value.span)])
        _require((alone.state, alone.payload, alone.prefix) == (value.state, value.payload, value.prefix), "a place is read alone as it is read in its column")
    secret_values.read_place(column, data)  # whatever a journal gives back: an answer
    well_formed = _same_as_the_standard_library(data)
    return f"{column.id} {well_formed} {sorted({value.state.value + (value.reason or '') for value in values})} {len(found) > 1}"


def execution_input(data: bytes) -> str:
    """The input of an execution: taken, or refused by an InvalidInput that quotes no value but a table's name."""
    raw = _json_value(data)
    try:
        parsed = run_input.parse(raw)
    except InvalidInput as error:
        message = str(error)
        message.encode()
        named = [*_keys(raw), *(raw["tables"] if isinstance(raw, dict) and isinstance(raw.get("tables"), list) else ())]
        _require(CANARY not in message or any(CANARY in str(name) for name in named), "of the values, only a table's name is quoted")
        return re.sub(r"'.*'|[0-9]+|\S+\.\S+", "", message)[:80]
    again = run_input.parse(json.loads(json.dumps(parsed.as_input())))
    _require(again == parsed, "an input that is written as JSON is read back")
    return f"taken with {sorted(parsed.model_fields_set)}"


TARGETS: dict[str, Target] = {"payload": payload, "ini": configuration, "json": stored_value, "input": execution_input}


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(f"broken promise: {promise}")


@contextlib.contextmanager
def _reasons_only() -> Any:
    try:
        yield
    except PayloadError as error:
        _require(str(error) in _REASONS, "a PayloadError says its reason and nothing else")


def _derive(_password: bytes, _salt: bytes) -> bytes:
    """In place of PBKDF2, which costs a millisecond and sees only 8 bytes of the input."""
    return bytes(32)


def _built(parsed: Payload) -> bytes:
    inner = parsed.body
    if parsed.named:
        inner = b"*" + base64_text.encode(parsed.algorithm.encode(), Base64.RAWSTD) + b"*" + inner
    elif inner[:1] in (b"*", b"#") or parsed.key_id is None:
        inner = b"**" + inner
    return inner if parsed.key_id is None else payloads.envelope(parsed.key_id, inner)


def _decoded(data: bytes) -> str:
    """Text of any bytes: with lone surrogates for what is no UTF-8, or with U+FFFD, which lets the rest of the file be read."""
    return data.decode("utf-8", "surrogateescape" if b"\xff" in data else "replace")


def _read_file(path: str) -> str:
    """A file system in which everything can go wrong that can go wrong with a path."""
    if "\x00" in path:
        raise ValueError(f"embedded null byte in {path}")
    if not path.startswith("/"):
        raise FileNotFoundError(2, "No such file or directory", path)
    if "bin" in path:
        raise UnicodeDecodeError("utf-8", b"\xff" + CANARY.encode(), 0, 1, "invalid start byte")
    return f" {CANARY}\udcff\n" if "broken" in path else f" {CANARY}\n\n"


def _repeats_no_secret(message: str, parsed: Ini, environment: dict[str, str]) -> None:
    """Names of sections and keys may be quoted, a database's type and a provider's id; what those are made of by references may be anything."""
    message.encode()
    if CANARY not in message:
        return
    quotable = parsed.sections()
    for _section, key, value in parsed.items():
        quotable.append(key)
        if key in ("type", "url", "encryption_provider"):
            quotable.append(value.partition(":")[0] if key == "url" and not re.search(r"\$|%\(", value) else _referring(value))
    for name, value in environment.items():
        if name.startswith(("GF_SECURITY_ENCRYPTION_PROVIDER", "GF_DATABASE_TYPE", "GF_DATABASE_URL")):
            quotable.append(value.partition(":")[0] if "URL" in name and "$" not in value else _referring(value))
            quotable.append(CANARY if name.endswith("__FILE") else "")
    _require(any(CANARY in each for each in quotable), "an error repeats no value that could be a secret")


def _referring(value: str) -> str:
    return CANARY if re.search(r"\$|%\(", value) else value


def _only_payloads_change(column: SecretColumn, data: bytes, values: list[SecretValue], chosen: list[SecretValue]) -> None:
    if not chosen:
        return
    written = secret_values.write(column, data, [(value, _REBUILT) for value in chosen])
    read_at = wrote_at = 0
    for value in chosen:
        start, end = value.span
        _require(read_at <= start < end <= len(data), "spans are in order and do not overlap")
        before = data[read_at:start]
        _require(written[wrote_at : wrote_at + len(before)] == before, "every byte that is no payload stays")
        text = value.prefix.encode() + base64_text.encode(_REBUILT, column.base64)
        text = text if value.path is None else b'"' + text + b'"'
        wrote_at += len(before)
        _require(written[wrote_at : wrote_at + len(text)] == text, "a new payload stands in the place of the old one")
        read_at, wrote_at = end, wrote_at + len(text)
    _require(written[wrote_at:] == data[read_at:], "every byte after the last payload stays")
    again = secret_values.read(column, written)
    _require(len(again) == len(values), "a write adds and loses no value")
    expected, ids = payloads.parse(_REBUILT), {id(value) for value in chosen}
    for old, new in zip(values, again, strict=True):
        wanted = (old.path, State.PAYLOAD, expected) if id(old) in ids else (old.path, old.state, old.payload)
        _require((new.path, new.state, new.payload) == wanted, "what is read after a write is what was written, and what stood there before")


def _same_as_the_standard_library(data: bytes) -> bool:
    """Whether the document is well-formed, after comparing every reader of it that there is."""
    by_kind = plausibility.is_plausible(PlaintextKind.JSON, data)
    _require(by_kind is document.is_json(data), "plausible JSON is JSON")
    strings = []
    try:
        for leaf in document.leaves(data):
            if leaf.kind is Kind.STRING:
                strings.append(document.string_at(data, leaf))
    except PayloadError as error:
        _require(str(error) in _REASONS, "a PayloadError says its reason and nothing else")
        _require(not by_kind or _is_deep(data), "well-formed JSON is walked to its end")
        return False
    _require(by_kind, "what is walked to its end is JSON")
    for string in strings:
        string.encode()
    return True


def _is_deep(data: bytes) -> bool:
    return data.count(b"[") + data.count(b"{") > document.MAXIMUM_DEPTH


def _json_value(data: bytes) -> object:
    """The JSON of `data`, or else a value that its bytes decide: the keys of the input with values of every kind."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(data.decode("utf-8", "surrogatepass"))
    random = Random(data)  # noqa: S311  (no secret is made here)
    text = _decoded(data)
    return {random.choice((*_INPUT_KEYS, text[:20])): _value(random, text) for _ in range(random.randrange(5))}


def _value(random: Random, text: str, depth: int = 0) -> object:
    start = random.randrange(len(text) + 1)
    plain = (*_SCALARS, text[start:], text[start : start + 8])
    if depth > 3 or random.random() < 0.7:
        return random.choice(plain)
    members = [_value(random, text, depth + 1) for _ in range(random.randrange(4))]
    return members if random.random() < 0.6 else {text[start : start + number]: member for number, member in enumerate(members)}


def _keys(value: object) -> list[str]:
    """All keys of a JSON value, without recursion: it may be as deep as the reader allows."""
    keys: list[str] = []
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            keys += each
            stack += each.values()
        elif isinstance(each, list):
            stack += each
    return keys
