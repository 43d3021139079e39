"""A reference to a data key is found wherever it stands, and what is none is not taken for one."""

from __future__ import annotations

import base64
import json
import random
import string
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reencrypt.grafana import payload as payloads
from reencrypt.grafana import references
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.payload import CFB_PREFIX, GCM_PREFIX
from reencrypt.grafana.references import find
from tests.unit.grafana import test_payload as vectors

D2_STD = "I1JtNVdhbU5pWjFaNiMqWVdWekxXTm1ZZypaeVh3VnU5OBAREhMUFRYXGBkaGxwdHh9j1oFGfBR2"
LEGACY_STD = "KllXVnpMV05tWWcqWnlYd1Z1OTgQERITFBUWFxgZGhscHR4fau67IFhhRA=="
BODY = b"ZyXwVu98" + bytes(range(0xE8, 0xFF))  # whose base64 is rich in `+` and `/`
# One of each release's shape (grafana-format.md 2.3), with lengths that put what follows at each of base64's three alignments.
IDS = (
    "2021-11-29/root@secretKey", "2021-11-29/root@secretKey.v1", "HiUr1Ogdz", "sNQ9-dg_Ok", "vsQ9JdgdkA1", "fg5b0mreqohdsa", "bg5b0z7vetm9sfx",
    "b6a7c0de-1f2e-4d3c-8b4a-5e6f7a8b9c0d", "a" * 26,
)  # fmt: skip
ANY_ID = st.sampled_from(IDS) | st.from_regex(r"[a-f][0-9a-z]{7,24}[a-f]", fullmatch=True) | st.from_regex(r"[a-zA-Z0-9_-]{9,14}", fullmatch=True)
INNER = st.sampled_from((CFB_PREFIX + BODY, GCM_PREFIX + bytes(range(200, 236)), BODY, b"**" + BODY))


def in_lines(payload: bytes, end: str) -> str:
    """Base64 in lines so short that even an id is broken."""
    text = base64.b64encode(payload).decode()
    return end.join(text[start : start + 10] for start in range(0, len(text), 10))


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda payload: payload,
    "base64": base64.b64encode,
    "base64 without padding": lambda payload: base64.b64encode(payload).rstrip(b"="),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 in lines": lambda payload: in_lines(payload, "\r\n").encode(),
    "base64 after one byte more": lambda payload: base64.b64encode(b"\xff" + payload),
    "base64 after two bytes more": lambda payload: base64.b64encode(b"\0\xff" + payload),
    "base64 of base64": lambda payload: base64.b64encode(base64.b64encode(payload)),
    "base64 of base64 in text": lambda payload: base64.b64encode(b'{"password":"' + base64.b64encode(payload) + b'"}'),
    "base64 of base64 in other text": lambda payload: base64.b64encode(b"password: " + base64.b64encode(payload) + b"\n"),
    "base64 of base64 in a line": lambda payload: base64.b64encode(b"password: '" + base64.b64encode(payload) + b"'\n"),
    "hex": lambda payload: payload.hex().encode(),
    "HEX": lambda payload: payload.hex().upper().encode(),
    "PostgreSQL's hex": lambda payload: b"\\x" + payload.hex().encode(),
    "crypto_": lambda payload: b"crypto_" + base64.b64encode(payload),
    "JSON with escaped slashes": lambda payload: json.dumps({"a": base64.b64encode(payload).decode()}).replace("/", "\\/").encode(),
    "JSON in JSON in JSON": lambda payload: json.dumps(json.dumps(json.dumps({"a": base64.b64encode(payload).decode()}).replace("/", "\\/"))).encode(),
    "JSON of base64 in lines": lambda payload: json.dumps({"a": in_lines(payload, "\n")}).encode(),
    "JSON in JSON of base64 in lines": lambda payload: json.dumps(json.dumps({"a": in_lines(payload, "\r\n")})).encode(),
}
TEXTUAL = sorted(PLACES.keys() - {"raw"})
# What may stand beside base64 in a text without being part of the base64's own line.
SURROUNDINGS = st.lists(st.sampled_from(string.printable + "äß☃🔑"), max_size=60).map("".join).map(str.encode)

# Byte by byte and letter by letter: Hypothesis would put in the literals of the code under test, envelopes and ids among them.
NOISE = st.lists(st.integers(0, 255), max_size=1000).map(bytes) | st.lists(st.characters(), max_size=300).map(
    lambda letters: "".join(letters).encode(errors="replace")
)


@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize("key_id", IDS)
@pytest.mark.parametrize("known", [True, False])
def test_an_envelope_is_found_wherever_it_stands(place: str, key_id: str, known: bool) -> None:
    for inner in (CFB_PREFIX + BODY, GCM_PREFIX + bytes(range(200, 236)), BODY):
        stored = PLACES[place](payloads.envelope(key_id, inner))
        assert find(stored, {key_id} if known else {"another"}) == Counter({key_id: 1})


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.tuples(ANY_ID, INNER, st.sampled_from(TEXTUAL)), min_size=1, max_size=4), SURROUNDINGS, st.booleans())
def test_envelopes_in_any_text_are_all_counted(envelopes: list[tuple[str, bytes, str]], around: bytes, known: bool) -> None:
    ids = Counter(key_id for key_id, _, _ in envelopes)
    stored = around + b"".join(b' "' + PLACES[place](payloads.envelope(key_id, inner)) + b'", ' for key_id, inner, place in envelopes) + around
    assert find(stored, set(ids) if known else ()) == ids


@settings(max_examples=300, derandomize=True, deadline=None)
@given(ANY_ID, INNER, NOISE, NOISE, st.booleans())
@example("HiUr1Ogdz", BODY, b"#", b"#", False)
@example("HiUr1Ogdz", BODY, b"#abc", b"\\\r\n", True)
def test_an_envelope_in_any_bytes_is_found(key_id: str, inner: bytes, before: bytes, after: bytes, known: bool) -> None:
    assert find(before + payloads.envelope(key_id, inner) + after, {key_id} if known else ())[key_id] == 1


@settings(max_examples=300, derandomize=True, deadline=None)
@given(ANY_ID, INNER, NOISE, NOISE)
def test_an_envelope_is_found_in_base64_of_any_alignment(key_id: str, inner: bytes, before: bytes, after: bytes) -> None:
    stored = base64.b64encode(before + payloads.envelope(key_id, inner) + after)
    assert find(stored, ())[key_id] == 1


@settings(max_examples=300, derandomize=True, deadline=None)
@given(ANY_ID, INNER, st.text(st.sampled_from(string.ascii_letters + string.digits + "+/_-"), max_size=20))
def test_letters_of_base64_before_it_hide_no_envelope(key_id: str, inner: bytes, before: str) -> None:
    assert find(before.encode() + base64.b64encode(payloads.envelope(key_id, inner)), ())[key_id] == 1


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip() == text), st.binary(max_size=30))
def test_a_known_id_counts_whatever_it_is_and_whatever_follows(key_id: str, rest: bytes) -> None:
    envelope = payloads.envelope(key_id, rest)
    assert find(envelope, {key_id})[key_id] == 1
    assert find(base64.b64encode(envelope + bytes(12)), {key_id})[key_id] == 1


@settings(max_examples=300, derandomize=True, deadline=None)
@given(NOISE)
def test_anything_else_holds_no_reference(noise: bytes) -> None:
    for stored in (
        noise,
        base64.b64encode(noise),
        base64.b64encode(base64.b64encode(noise)),
        noise.hex().encode(),
        json.dumps(noise.decode("latin-1")).encode(),
    ):
        assert find(stored, IDS) == Counter()


@pytest.mark.parametrize("seed", range(4))
def test_megabytes_of_anything_else_hold_no_reference(seed: int) -> None:
    noise = random.Random(seed).randbytes(1 << 20)  # noqa: S311
    words = " ".join(f"#{noise[i : i + 9].hex()}# #{base64.b64encode(noise[i : i + 7]).decode()}#" for i in range(0, 200_000, 9))
    for stored in (noise, base64.b64encode(noise), base64.b64encode(base64.b64encode(noise)), noise.hex().encode(), base64.encodebytes(noise), words.encode()):
        assert find(stored, set(IDS)) == Counter()


@pytest.mark.parametrize(
    "stored",
    [
        b"", b"#", b"##", b"#abc#", b"#fff#", b"color: #fff; background: #EAB839#ffffff#", b"# Title\n## Dashboards ## and #tags#more#" + b"x" * 40,
        b"#dashboards#" + b"x" * 40,
        b"#" + base64.b64encode(b"unknown-1") + b"#" + b"x" * 23, b"#" + base64.b64encode(b"an \xff id of bytes") + b"#" + b"x" * 40,
        b"#" + base64.b64encode(b"a shape of no id!") + b"#" + b"x" * 40, b"#QQ#" + b"x" * 40, b"*YWVz*" + b"x" * 40, b"*italic*", b"fg5b0mreqohds",
        b"aaaaaa" * 50,
        b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    ],
    ids=repr,
)  # fmt: skip
def test_text_that_looks_a_little_like_it_is_no_reference(stored: bytes) -> None:
    assert find(stored, IDS) == Counter()


@pytest.mark.parametrize(
    "payload", [vectors.D1, vectors.D4, vectors.D5, vectors.G7, "2a5957567a4c57646a62512a" + vectors.G2], ids=["D1", "D4", "D5", "G7", "G3"]
)
@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_payload_that_names_an_algorithm_but_no_key_is_under_secret_key(payload: str, place: str) -> None:
    assert find(PLACES[place](bytes.fromhex(payload)), IDS) == Counter({SECRET_KEY: 1})


def test_grafanas_vectors_are_told_apart() -> None:
    assert find(bytes.fromhex(vectors.D2), ()) == find(D2_STD.encode(), ()) == Counter({"FnVjcbgVz": 1})
    assert find(LEGACY_STD.encode(), ()) == Counter({SECRET_KEY: 1})
    [g4] = [payload for name, payload, _, _ in vectors.PAYLOADS if name == "G4"]
    for unprefixed in (vectors.G1, vectors.G2, g4, vectors.G5, vectors.G6):
        assert find(bytes.fromhex(unprefixed), ()) == Counter()


def test_in_one_value_every_payload_counts() -> None:
    envelope = base64.b64encode(payloads.envelope("fg5b0mreqohdsa", CFB_PREFIX + BODY)).decode()
    stored = json.dumps({"a": D2_STD, "b": envelope, "c": [envelope, "plain", LEGACY_STD], "d": {"dataKeyId": "cg5b0z8p8lywwb", "uid": "unknown"}})
    expected = Counter({"FnVjcbgVz": 1, "fg5b0mreqohdsa": 2, SECRET_KEY: 1, "cg5b0z8p8lywwb": 1})
    assert find(stored.encode(), {"cg5b0z8p8lywwb"}) == expected
    assert find(json.dumps({"inner": stored}).encode(), {"cg5b0z8p8lywwb"}) == expected
    assert find((envelope + D2_STD + LEGACY_STD).encode(), ()) == Counter({"FnVjcbgVz": 1, "fg5b0mreqohdsa": 1, SECRET_KEY: 1})


@pytest.mark.parametrize(
    "stored",
    ["{}", " {}\n", '"{}"', '{{"dataKeyId": "{}", "encryptedData": ""}}', '{{\\"dataKeyId\\":\\"{}\\"}}', '["a","{}"]', '{{"{}":1}}', 'x"{}"'],
    ids=repr,
)
@pytest.mark.parametrize("key_id", IDS)
def test_the_id_itself_counts_as_a_whole_value_and_as_a_string_of_json(stored: str, key_id: str) -> None:
    value = stored.format(key_id)
    assert find(value.encode(), {key_id, "other"}) == Counter({key_id: 1})
    assert find(value.replace("/", "\\/").encode(), {key_id})[key_id] == (0 if "/" in key_id and '"' not in stored else 1)
    assert find(value.encode(), ()) == Counter()


def test_an_id_of_another_shape_counts_where_the_algorithm_is_named() -> None:
    assert find(payloads.envelope("k1", CFB_PREFIX), ()) == Counter({"k1": 1})
    assert find(payloads.envelope("k1", BODY), ()) == Counter()
    assert find(payloads.envelope("k1", BODY), {"k1"}) == Counter({"k1": 1})
    # It is not known whose it is, but it is a payload: whoever counts what is under secret_key hears of it.
    assert find(payloads.envelope("<k>", CFB_PREFIX), ()) == Counter({SECRET_KEY: 1})


@pytest.mark.parametrize(
    "unit",
    [b"#", b"##A", b"#" + b"a" * 133, b"I0A0", b"Sj", b"CMAK", b"2341", b"23", b'"', b'"a', b"\\", b"\\/", b"\\\\n", b"*YWVzLWNmYg*", b"A" * 16 + b" "],
    ids=repr,
)
def test_no_repetition_takes_more_than_its_share_of_steps(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the bytes, twice the heads that are decoded: counted, not timed."""
    calls = 0
    judge = references._key

    def counting(head: bytes, known: tuple[str, ...]) -> tuple[str, int] | None:
        nonlocal calls
        calls += 1
        assert len(head) <= references._HEAD_BYTES + 3
        return judge(head, known)

    monkeypatch.setattr(references, "_key", counting)
    seen = []
    for size in (8_000, 16_000):
        calls = 0
        find(unit * (size // len(unit)), ())
        seen.append(calls)
    assert seen[1] <= 2 * seen[0] + 3
