"""What report.html says of keys: what became of each, which KMS keys may go, what is in no list, and the certificate at its end."""

from __future__ import annotations

import re

import pytest

from reencrypt.errors import Reason
from reencrypt.operations import key_words, reasons
from reencrypt.operations.certificate import certificate
from reencrypt.operations.html_keys import MOST_FOLDED, MOST_KEYS, MOST_LISTED
from reencrypt.operations.html_report import render
from reencrypt.operations.removable import Kept
from reencrypt.providers.rewrap import How
from tests.support import reports
from tests.support.page import Page


def test_a_data_key_that_could_not_be_wrapped_anew_comes_before_everything_but_the_headline() -> None:
    text = Page(render(reports.not_wrapped_anew())).text()
    assert "Not every data key could be wrapped anew." in text
    assert text.index("2 data keys could not be wrapped anew") < text.index("What to do next") < text.index("Who is encrypted by what")
    listed = "twin" + "provider-unavailable" + f"awskms.retired-key: KMS says AccessDenied for kms:Decrypt on {reports.OLD_KMS_KEY}"
    assert listed + reasons.REASONS[Reason.PROVIDER_UNAVAILABLE].action in text
    assert "twinsecrets manager, namespace stack-1ambiguous-keynothing tells" + reasons.REASONS[Reason.AMBIGUOUS_KEY].action in text
    assert "2 still under another provider than the run was asked for" in text
    assert "noyesnot wrapped anew" not in text
    assert "activeyesnot wrapped anew: provider-unavailable" in text


@pytest.mark.parametrize("how", How)
def test_how_a_data_key_was_wrapped_anew_is_said_in_plain_words(how: How) -> None:
    assert set(key_words.WAYS) == set(How)
    report = reports.whole("rewrap-data-keys")
    report["rewrapped"]["rewrapped"] = {how.value: 4321}
    text = Page(render(report)).text()
    assert f"{how}4 321{key_words.WAYS[how].meaning}" in text
    assert "4 321 data keys wrapped anew" in text


@pytest.mark.parametrize("why", Kept)
def test_why_a_data_key_was_kept_is_said_with_what_to_do(why: Kept) -> None:
    assert set(key_words.KEPT) == set(Kept)
    report = reports.whole("prune-data-keys")
    report["removed"]["kept"] = [reports.listed("stay1", "secretKey.v1", 1, namespace="default") | {"references": 1, "why": why.value}]
    text = Page(render(report)).text()
    said = key_words.KEPT[why]
    assert f"{why}1{said.meaning}{said.action}default/stay1" in text
    assert "2 data keys removed, 1 kept" in text


def test_words_about_keys_that_this_version_does_not_know_are_shown_all_the_same() -> None:
    report = reports.whole("rollback")
    report["removed"]["kept"][0]["why"] = "moon-phase"
    report["rewrapped"] = {"rewrapped": {"by hand": 1}}
    text = Page(render(report)).text()
    for word in ("moon-phase1This version", "by hand1This version"):
        assert word in text


def test_a_removal_that_stopped_on_the_way_is_not_shown_as_done() -> None:
    report = reports.whole("prune-data-keys")
    assert "some of these may still be there" not in render(report)
    report["removed"]["finished"] = False
    assert "some of these may still be there" in render(report)


def test_removed_data_keys_keep_their_name_in_the_picture_of_before() -> None:
    report = reports.whole("rollback")
    report["census"] = {"before": {"gone1": 12}, "after": {"secret_key": 12}}
    text = Page(render(report)).text()
    assert "awskms.retired-key, inactive data keys120" in text
    assert "missing from data_keys" not in text


def test_a_rollback_paints_secret_key_as_the_place_where_values_should_be() -> None:
    report = reports.whole("rollback") | {"census": {"before": {"eejw1hkc5vtvke": 3}, "after": {"secret_key": 3}}, "provider": "secretKey.v1"}
    page = Page(render(report))
    painted = [(a["class"], a["height"]) for tag, a in page.elements if tag == "rect" and a["class"] != "track" and a["height"] == "40"]
    assert painted == [("other", "40"), ("current", "40")]


def test_each_kms_key_is_answered_with_yes_or_no_and_why() -> None:
    text = Page(render(reports.whole("verify"))).text()
    assert f"{reports.OLD_KMS_KEY}awskms.retired-keyyesnothing needs it" in text
    assert f"{reports.NEW_KMS_KEY}{reports.PROVIDER}noGrafana wraps with it" in text
    assert "a deletion cannot be undone" in text


def test_columns_in_no_list_are_named_with_their_keys_and_what_to_do() -> None:
    text = Page(render(reports.whole("prune-data-keys"))).text()
    assert "Columns in no list: 1 column" in text
    assert "setting.valueeejw1hkc5vtvke, secret_key4" in text
    assert "declare the column in the deployment settings" in text
    assert "82 tables, 1 875 rows" in text
    assert "None stands in a column" not in text
    assert "None stands in a column" in render(reports.whole("prune-data-keys") | {"unknown_ciphertext": []})


def test_keys_of_both_stores_are_told_apart() -> None:
    report = reports.whole("re-encrypt")
    report["census"]["before"] = {"default/mk1": 7}
    text = Page(render(report)).text()
    assert "mk12026-11-24/root@secret_key.v1secrets manager, namespace defaultsecret_key.v1activeyes72" in text
    assert "secret_key.v1 in the secrets manager, active data keys72" in text


def test_a_thousand_data_keys_stay_readable() -> None:
    number = MOST_KEYS + MOST_FOLDED + 7
    report = reports.with_many_keys(number)
    html = render(report)
    page = Page(html)
    text = page.text()
    folded = sorted((key for key in report["data_keys"]), key=lambda key: (key["readable"], not key["active"], -key["values"], key["id"]))[MOST_KEYS:]
    active, values = sum(key["active"] for key in folded), sum(key["values"] for key in folded)
    assert f"1 007 more, {active} of them active, 0 not readable; they protect {values // 1000} {values % 1000:03} values" in text
    unfolded = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    assert len(re.findall(r'class="key"', unfolded)) == MOST_KEYS + MOST_LISTED
    assert unfolded.count("plugin_") == MOST_LISTED
    assert len(re.findall(r">g\d{6}<", unfolded)) == MOST_LISTED
    assert "90 more columns" in text
    assert "80 more notes" in text
    assert "7 more in report.json." in text
    unreadable = [key["id"] for key in report["data_keys"] if not key["readable"]]
    assert all(key in unfolded for key in unreadable), "what needs attention is never folded before the rest"
    assert page.tags() >= {"details", "summary"}
    assert f"{number:,} kept".replace(",", " ") in text


def test_the_certificate_is_the_last_page_with_its_hashes_in_full() -> None:
    report = reports.whole("rotate")
    certified = certificate(report, "ab" * 32)
    assert certified is not None
    html = render(report, certified)
    page = Page(html)
    text = page.text()
    assert [data for tag, data in page.texts if tag == "h2"][-1] == "Certificate"
    for fact in (certified["statement"], certified["sha256"], "ab" * 32, *certified["does_not_say"]):
        assert fact in text
    assert re.search(r"@media print \{.*\.certificate \{ break-before: page", html, re.DOTALL)
    assert "This run has no certificate" not in text


def test_a_run_that_ended_well_without_a_certificate_says_why() -> None:
    text = Page(render(reports.whole("plan"))).text()
    assert "This run has no certificate: a plan only looks" in text
    assert "no certificate" not in render(reports.failed())
