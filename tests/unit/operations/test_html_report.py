"""report.html: what a person reads, and that nothing from a database can become more than text in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import Reason
from reencrypt.operations import html_report, reasons
from reencrypt.operations.certificate import certificate
from reencrypt.operations.html_report import MOST_ROWS, render
from reencrypt.operations.modes import Mode
from tests.support import reports
from tests.support.page import Page

_PICTURES = {
    "re-encrypt with unreadable values": reports.sample(), "plan": reports.sample("plan"), "verify": reports.sample("verify"),
    "clean": reports.clean(), "failed": reports.failed(), "minimal": reports.minimal(), "empty": {},
    **{mode.value: reports.whole(mode) for mode in Mode}, "not wrapped anew": reports.not_wrapped_anew(), "many keys": reports.with_many_keys(1200),
}  # fmt: skip


@pytest.mark.parametrize("report", _PICTURES.values(), ids=_PICTURES.keys())
def test_the_page_is_one_file_that_loads_nothing_and_runs_nothing(report: dict[str, Any]) -> None:
    html = render(report, certificate(report, "0" * 64))
    page = Page(html)
    policy = [attributes["content"] or "" for _, attributes in page.elements if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert page.tags().isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"})
    for _, attributes in page.elements:
        assert attributes.keys().isdisjoint({"src", "srcset", "style", "xlink:href", "action", "data"})
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert re.search(r"https?:|//[a-z]|url\(|@import|@font-face", html) is None


@pytest.mark.parametrize("report", _PICTURES.values(), ids=_PICTURES.keys())
def test_every_link_leads_somewhere_and_every_table_head_says_what_it_heads(report: dict[str, Any]) -> None:
    page = Page(render(report, certificate(report, "0" * 64)))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert tag != "th" or attributes.get("scope") in ("col", "row")
        assert (attributes.get("href") or "#")[1:] in {*ids, ""}
        assert attributes.get("aria-labelledby", ids[0] if ids else None) in {*ids, None}
        assert tag != "svg" or attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


@pytest.mark.parametrize("outcome", reasons.RUN_OUTCOMES)
def test_the_first_heading_is_the_headline_and_the_outcome_stands_before_it(outcome: str) -> None:
    page = Page(render(reports.sample() | {"outcome": outcome, "headline": f"{outcome}: as it says"}))
    headings = [(tag, text) for tag, text in page.texts if tag in ("h1", "h2", "h3")]
    assert headings[0] == ("h1", f"{outcome}: as it says")
    assert page.text("title").startswith(outcome)
    assert page.text().index(outcome) < page.text().index("as it says")
    assert reasons.explain_run(outcome, "re-encrypt", stopped=False, unreadable=True, left=False).meaning in page.text()


def test_a_failed_run_never_claims_unreadable_values_that_it_does_not_have() -> None:
    assert "Some values are unreadable" in render(reports.sample() | {"outcome": "failed"})
    assert "Some values are unreadable" not in render(reports.clean() | {"outcome": "failed"})
    assert "Some values are unreadable" not in render(reports.failed())


def test_an_outcome_this_version_does_not_know_is_shown_as_bad() -> None:
    assert '<header class="bad">' in render(reports.sample() | {"outcome": "half-done"})


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_shown_with_what_it_means_and_what_to_do(reason: Reason) -> None:
    assert set(reasons.REASONS) == set(Reason)
    row = {"table": "secrets", "column": "value", "primary_key": {"id": 5}, "path": None, "reason": reason.value}
    text = Page(render(reports.sample() | {"unreadable": [row]})).text()
    explanation = reasons.REASONS[reason]
    assert explanation.meaning.endswith(".")
    assert explanation.action.endswith(".")
    assert f"{reason}1{explanation.meaning}{explanation.action}" in text


def test_a_reason_this_version_does_not_know_is_listed_all_the_same() -> None:
    row = {"table": "secrets", "column": "value", "primary_key": {"id": 5}, "path": None, "reason": "moon-phase"}
    text = Page(render(reports.sample() | {"unreadable": [row]})).text()
    assert "moon-phase" in text
    assert "does not know this reason" in text


@pytest.mark.parametrize("mode", ["plan", "verify"])
def test_a_run_that_writes_nothing_never_says_that_it_re_encrypted(mode: str) -> None:
    text = Page(render(reports.sample(mode) | {"outcome": "succeeded", "next_steps": [], "headline": "h", "next_input": None})).text()
    assert "would be re-encrypted" in text
    assert "re-encrypted" not in text.replace("would be re-encrypted", "")
    assert "This run wrote nothing." in text
    assert "After" not in text


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_says_under_its_headline_what_it_is_for(mode: Mode) -> None:
    text = Page(render(reports.whole(mode))).text()
    aim = reasons.MODES[mode]
    assert aim.endswith(".")
    assert f"What the mode {mode} is for: {aim[0].lower()}{aim[1:]}" in text
    assert text.index("as it should be") < text.index("What the mode") < text.index("Started")


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.steps.reads_values])
def test_every_mode_calls_the_outcomes_by_its_own_words(mode: Mode) -> None:
    text = Page(render(reports.whole(mode))).text()
    for word in reasons.WORDS_OF_MODES.get(mode, {}).values():
        assert f"{word.shown}{word.said.meaning}" in text
    if mode in (Mode.ROLLBACK, Mode.ROTATE_SECRET_KEY):
        assert "now under the run's data key" not in text


def test_a_run_that_reads_no_values_shows_no_counts_of_values() -> None:
    text = Page(render(reports.whole("prune-data-keys"))).text()
    for absent in ("Every value, counted once", "Counts per secret column", "What the counts mean", "Who is encrypted by what"):
        assert absent not in text
    assert "Every column was looked through" in text


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("rotate-secret-key", "needs the new secret_key, the rest the old one; nothing is lost"),
        ("verify", "It wrote nothing."),
        ("rollback", "What it wrote, Grafana can read."),
    ],
)
def test_a_failed_run_says_who_can_read_what_it_wrote(mode: str, said: str) -> None:
    assert said in Page(render(reports.whole(mode) | {"outcome": "failed"})).text()


def test_a_run_that_stopped_half_way_is_not_said_to_have_written_nothing() -> None:
    report = reports.sample() | {"outcome": "failed", "error": {"name": "DatabaseUnavailable", "message": "gone"}}
    report["census"] = report["census"] | {"after": None}
    text = Page(render(report)).text()
    assert "wrote nothing" not in text
    assert "as the run found it." in text


def test_every_count_stands_in_its_columns_row() -> None:
    report = reports.sample()
    text = Page(render(report)).text().replace(" ", "")
    for column in report["columns"]:
        name = f"{column['table']}.{column['column']}"
        if column["present"]:
            counts = [column[key] for key in ("rows", "values", *reports.OUTCOMES)]
            assert name + "".join(map(str, counts)) in text
        else:
            assert f"{name}notinthisdatabase" in text


def test_counts_that_do_not_add_up_are_said_aloud() -> None:
    report = reports.sample()
    assert "do not add up" not in render(report)
    report["columns"][0]["values"] += 1
    assert "do not add up" in render(report)


def test_the_chart_says_in_words_what_it_shows() -> None:
    page = Page(render(reports.sample()))
    before, after = (attributes["aria-label"] or "" for tag, attributes in page.elements if tag == "svg" and "aria-label" in attributes)
    start = "Before: 21236 values; 19 under awskms.example-encryption-key, active data keys; 11200 under secretKey.v1, active data keys; "
    assert before.replace("\u202f", "").startswith(start)
    assert after.replace("\u202f", "").endswith("9 under data keys missing from data_keys")
    text = page.text().replace(" ", "")
    assert "secret_keydirectly,nodatakey33100" in text
    assert "Allencryptedvalues2123621236" in text


@given(st.dictionaries(st.sampled_from(["secret_key", "a", "b", "c", "gone"]), st.integers(0, 10**7)), st.booleans())
def test_no_segment_of_the_chart_leaves_its_bar_and_none_is_too_thin_to_see(census: dict[str, int], writes: bool) -> None:
    keys = [{"id": key, "provider": f"p{key}", "active": key != "c"} for key in "abc"]
    page = Page(render({"provider": "pa", "data_keys": keys, "census": {"before": census, "after": census if writes else None}}))
    rects = [a for tag, a in page.elements if tag == "rect" and a.get("height") == "40" and a["class"] != "track"]
    kinds = {"secret_key" if key == "secret_key" else key for key, values in census.items() if values}
    assert len(rects) == len(kinds) * (2 if writes else 1)
    for rect in rects:
        start, width = (float((rect[name] or "").rstrip("%")) for name in ("x", "width"))
        assert width > 0.5
        assert start + width <= 100.01


def test_at_most_a_thousand_unreadable_and_plaintext_values_are_listed_and_the_rest_is_counted() -> None:
    rows = [{"table": "t", "column": "c", "primary_key": {"id": n}, "path": None, "reason": "too-short"} for n in range(MOST_ROWS + 234)]
    html = render(reports.sample() | {"unreadable": rows, "plaintext_values": rows[: MOST_ROWS + 1]})
    text = Page(html).text()
    assert html.count("id = 999<") == 2
    assert "id = 1000<" not in html
    assert "234 more in report.json" in text
    assert "1 more in report.json" in text
    assert "too-short1 234" in text


def test_the_next_input_can_be_copied_as_it_is() -> None:
    given_input = {"mode": "re-encrypt", "provider": 'a"<b>&\u202e', "tables": ["user_auth"]}
    page = Page(render(reports.sample() | {"next_input": given_input}))
    assert json.loads("".join(data for tag, data in page.texts if tag == "pre")) == given_input


def test_a_failed_run_shows_its_error_before_anything_else() -> None:
    text = Page(render(reports.failed())).text()
    assert text.index("KeyAccessDenied") < text.index("What to do next") < text.index("Started")
    assert "in the key's policy." in text
    assert "stopped before its end" in text


@pytest.mark.parametrize(
    "report",
    [
        reports.minimal(),
        {},
        {"error": {}},
        {"columns": [{}], "data_keys": [{}], "unreadable": [{}], "plaintext_values": [{}]},
        {"kms_keys": [{}], "unknown_ciphertext": [{}], "scan": {}, "rewrapped": {"failed": [{}]}, "removed": {"removed": [{}], "kept": [{}]}},
    ],
)
def test_a_report_that_holds_next_to_nothing_still_makes_a_page(report: dict[str, Any]) -> None:
    assert "failed" in Page(render(report)).text("h1")


def test_nulls_are_as_good_as_missing_keys() -> None:
    Page(render(dict.fromkeys(reports.sample())))


_HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>", "{{ 7*7 }}", "{% raw %}"]),
    st.sampled_from(["]]>", "<!--", "\u202egnp.exe", "\ud800", "\x00"]),
)


_CERTIFIED = certificate(reports.whole("prune-data-keys"), "0" * 64) or {}


@given(name=_HOSTILE, key=_HOSTILE, step=_HOSTILE, label=_HOSTILE, word=_HOSTILE)
def test_hostile_names_from_the_database_stay_text(name: str, key: str, step: str, label: str, word: str) -> None:
    report = reports.sample()
    place = {"table": name, "column": label, "primary_key": {key: step}, "path": [step, 0, name], "reason": word}
    hostile = report | {
        "run": name, "mode": word, "outcome": label, "engine": key, "provider": step, "started": word, "finished": label,
        "headline": name, "data_key": key, "unreadable": [place], "plaintext_values": [place],
        "columns": [column | {"table": name, "column": key} for column in report["columns"]],
        "data_keys": [row | {"id": key, "provider": step, "label": label} for row in report["data_keys"]],
        "census": {"before": {key: 3, name: 4}, "after": {step: 7}},
        "kms_keys": [{"kms_key": key, "safe_to_disable": True, "because": label, "providers": [step]}],
        "unknown_ciphertext": [{"table": name, "column": key, "data_keys": {step: 3, label: 1}}],
        "rewrapped": {"rewrapped": {word: 1}, "failed": [{"id": key, "name": name, "system": step, "reason": word, "why": label}]},
        "removed": {"removed": [{"id": step, "system": key, "namespace": name}], "kept": [{"id": key, "namespace": step, "why": word}]},
        "notes": [name], "next_steps": [step], "next_input": {key: word}, "error": {"name": name, "message": label},
    }  # fmt: skip
    html = render(hostile, {**_CERTIFIED, "statement": name, "run": key, "data_keys_removed": [step, label]})
    html.encode()
    page = Page(html)
    assert page.tags() <= Page(render(report | {"error": {"name": "E", "message": "m"}})).tags() | {"small", "h3"}
    assert all(not attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\ud800-\udfff]", html)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (None, ""),
        (["password"], "password"),
        (["receivers", 0, "secureSettings", "url"], "receivers[0].secureSettings.url"),
        (["a.b", "c d"], '["a.b"]["c d"]'),
        (["tls-client-key"], "tls-client-key"),
    ],
)
def test_a_path_reads_as_one_would_write_it(path: list[str | int] | None, shown: str) -> None:
    assert html_report._place(path) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-24T22:10:05.123Z", "2026-11-24 22:10:05 UTC"),
        ("2026-11-25T00:10:05+02:00", "2026-11-24 22:10:05 UTC"),
        ("2026-11-24T22:10:05", "2026-11-24 22:10:05 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_shown_in_utc(text: str, shown: str) -> None:
    assert html_report._instant(text) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.42, "0.4 s"), (41.2, "41 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"), (3720, "1 h 02 min")])
def test_durations_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    assert html_report._duration(seconds) == shown


@pytest.mark.parametrize(("cost", "shown"), [(0, "less than USD 0.0001"), (0.0021, "about USD 0.0021"), (1.3, "about USD 1.30")])
def test_a_cost_is_never_shown_as_nothing(cost: float, shown: str) -> None:
    assert html_report._usd(cost) == shown


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_all_text_has_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", render({}), re.DOTALL)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[scheme]))
    for text in ("ink", "soft", "good", "warn", "bad"):
        for ground in ("paper", "wash"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for kind in ("current", "other", "inactive", "legacy", "missing"):
        assert _contrast(colours["on-key"], colours[f"k-{kind}"]) >= 4.5, kind
        assert _contrast(colours[f"k-{kind}"], colours["paper"]) >= 3, kind


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
