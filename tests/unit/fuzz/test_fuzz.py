"""A bounded fuzz of everything that parses, and the proof that it would find a bug. The long form: `python -m bench.fuzz`."""

from __future__ import annotations

import binascii
import sys
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from bench import fuzz
from bench.fuzzing import targets
from bench.fuzzing.mutations import Pool
from bench.fuzzing.seeds import CANARY, PIECES, SEEDS
from reencrypt.errors import ConfigurationError, InvalidIni
from reencrypt.grafana import base64_text, document, environment, ini, secret_values
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.payload import Payload
from reencrypt.operations import run_input

NO_LIMIT = float("inf")  # how long an input may take is for the long form: no test depends on a clock


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_no_input_whatever_raises_anything_but_our_own_errors(target: str) -> None:
    assert fuzz.fuzz(target, 5_000, seed=4, limit=NO_LIMIT) == []


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_every_seed_is_answered_and_they_are_not_all_alike(target: str) -> None:
    assert len({targets.TARGETS[target](seed) for seed in SEEDS[target]}) > 3


def _without_translation(text: bytes) -> bytes:
    return binascii.a2b_base64(text.rstrip(b"=") + b"==="[: -len(text.rstrip(b"=")) % 4], strict_mode=True)


def _body_too_long(data: bytes, parse: Callable[[bytes], Payload] = payloads.parse) -> Payload:
    parsed = parse(data)
    return Payload(parsed.key_id, parsed.algorithm, parsed.named, parsed.body + b"\x00" * (b"##" in data[:2]))


def _key_that_quotes(line: str, number: int, key: Callable[[str, int], tuple[str, str]] = ini._key) -> tuple[str, str]:
    try:
        return key(line, number)
    except InvalidIni as error:
        raise InvalidIni(f"{error}: {line}") from None


def _expander_that_quotes(self: environment.Environment, path: str, where: str) -> str:
    try:
        return self._read_file(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _splice_that_trims(data: bytes, replacements: Iterable[tuple[int, int, bytes]], splice: Callable[..., bytes] = document.splice) -> bytes:
    return splice(data, replacements).rstrip()


def _text_with_surrogates(token: bytes) -> str:
    return document.json.loads(token)  # type: ignore[attr-defined, no-any-return]  # document has no __all__; a planted bug


def _problem_that_quotes(entry: Any, problem: Callable[[Any], str] = run_input._problem) -> str:
    return f"{problem(entry)}, not {entry.get('ctx', {}).get('error', '')}{CANARY if entry['type'] == 'int_type' else ''}"


@pytest.mark.parametrize(
    ("target", "module", "name", "bug", "kind"),
    [
        ("payload", base64_text, "decode", _without_translation, "Error at"),
        ("payload", payloads, "parse", _body_too_long, "broken promise"),
        ("ini", ini, "_key", _key_that_quotes, "broken promise"),
        ("ini", environment.Environment, "_read", _expander_that_quotes, "broken promise"),
        ("ini", ini, "_check_unicode", lambda text: None, "UnicodeEncodeError"),
        ("json", document, "splice", _splice_that_trims, "broken promise"),
        ("json", document, "_text", _text_with_surrogates, "UnicodeEncodeError"),
        ("json", secret_values, "_was_a_payload", lambda text: base64_text.decode(text) == b"#", "PayloadError"),
        ("input", run_input, "_problem", _problem_that_quotes, "broken promise"),
        ("input", ValidationError, "errors", lambda *args, **named: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, target: str, module: Any, name: str, bug: Any, kind: str) -> None:
    monkeypatch.setattr(module, name, bug)
    found = fuzz.fuzz(target, 2_000, seed=4, limit=NO_LIMIT, long_ones=False)
    assert any(kind in finding.kind for finding in found), [finding.kind for finding in found]


def test_the_same_seed_makes_the_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        pool = Pool(Random(seed), SEEDS["json"], PIECES["json"])  # noqa: S311  (no secret is made here)
        return [pool.next() for _ in range(200)]

    assert inputs(1) == inputs(1) != inputs(2)


def test_a_finding_is_shrunk_printed_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> str:
        if b"I" in data:
            raise KeyError("planted")
        return ""

    monkeypatch.setitem(targets.TARGETS, "payload", target)
    command = ["fuzz", "--target", "payload", "--seed", "9"]
    monkeypatch.setattr(sys, "argv", [*command, "--inputs", "300"])
    assert fuzz.main() == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "300 inputs, 1 unexpected errors"
    assert printed[-2] == "--replay 49"
    assert any("of seed 9" in line for line in printed)
    monkeypatch.setattr(sys, "argv", [*command, *printed[-2].split()])
    assert fuzz.main() == 1
    monkeypatch.setattr(sys, "argv", [*command, "--replay", "00"])
    assert fuzz.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 inputs, 0 unexpected errors"


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    """With a limit that everything exceeds, so that the test needs no clock."""
    finding = fuzz.examine("payload", b"x" * 40, 1, limit=-1.0)
    assert finding is not None
    assert finding.kind == "slow"
