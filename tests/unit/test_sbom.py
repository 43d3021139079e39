"""The bill of materials: every package of the bundle and no other, CycloneDX as its schema wants it, the same bytes for the same bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.sbom import BundleDiffers, Wheel, bill_of_materials, installed_wheels, text_of

_PURL = re.compile(r"pkg:(pypi|generic)/[a-z0-9.-]+@[0-9A-Za-z.]+")


def _package(bundle: Path, name: str, *lines: str, version: str = "1.0") -> Wheel:
    folder = bundle / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]) + "\n")
    return Wheel(name, version, f"{name}-{version}-py3-none-any.whl", f"{len(name):064x}")


def _document(bundle: Path, wheels: list[Wheel], requirements: str = "") -> dict[str, Any]:
    return bill_of_materials(bundle, wheels, requirements, "1.2.3", {"python": "3.13", "architecture": "arm64"})


def _component(bundle: Path, *lines: str) -> dict[str, Any]:
    (component,) = _document(bundle, [_package(bundle, "thing", *lines)])["components"]
    found: dict[str, Any] = component
    return found


def test_it_has_what_the_schema_of_cyclonedx_1_5_requires(tmp_path: Path) -> None:
    document = _document(tmp_path, [_package(tmp_path, "Some_Thing", "License-Expression: MIT"), _package(tmp_path, "other", "License: MIT")])
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", document["serialNumber"])
    everything = [document["metadata"]["component"], *document["components"]]
    for component in everything:
        assert component["type"] in ("application", "library")
        assert component["name"]
        assert component["version"]
        assert _PURL.fullmatch(component["purl"])
        assert all(re.fullmatch(r"[0-9a-f]{64}", found["content"]) for found in component.get("hashes", []))
        assert all(len(found) == 1 and set(found) <= {"license", "expression"} for found in component["licenses"])
    references = [component["bom-ref"] for component in everything]
    assert len(references) == len(set(references))
    assert [entry["ref"] for entry in document["dependencies"]] == references
    assert all(set(entry["dependsOn"]) <= set(references) for entry in document["dependencies"])


def test_it_names_the_product_its_version_and_its_target(tmp_path: Path) -> None:
    product = _document(tmp_path, [])["metadata"]["component"]
    assert (product["name"], product["version"], product["purl"]) == ("grafana-reencrypt", "1.2.3", "pkg:generic/grafana-reencrypt@1.2.3")
    assert {found["name"]: found["value"] for found in product["properties"]} == {
        "grafana-reencrypt:python": "3.13",
        "grafana-reencrypt:architecture": "arm64",
    }


def test_the_same_bundle_gives_the_same_bytes_and_another_one_another_serial_number(tmp_path: Path) -> None:
    one = [_package(tmp_path / "one", name) for name in ("b", "a")]
    two = [_package(tmp_path / "two", name) for name in ("a", "b")]
    first, second = _document(tmp_path / "one", one), _document(tmp_path / "two", two)
    assert text_of(first) == text_of(second)
    assert "timestamp" not in text_of(first)
    more = _document(tmp_path / "two", [*two, _package(tmp_path / "two", "c")])
    assert more["serialNumber"] != first["serialNumber"]


def test_a_package_that_pip_did_not_install_or_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    wheel = _package(tmp_path, "thing")
    with pytest.raises(BundleDiffers, match="thing"):
        _document(tmp_path, [])
    with pytest.raises(BundleDiffers, match="more"):
        _document(tmp_path, [wheel, Wheel("more", "1.0", "more.whl", "0" * 64)])
    with pytest.raises(BundleDiffers):
        _document(tmp_path, [Wheel("thing", "2.0", "thing.whl", "0" * 64)])


@pytest.mark.parametrize(
    ("lines", "licences"),
    [
        (["License-Expression: Apache-2.0 OR BSD-3-Clause", "License: MIT"], [{"expression": "Apache-2.0 OR BSD-3-Clause"}]),
        (["License: MIT"], [{"license": {"id": "MIT"}}]),
        (["License: Apache License 2.0"], [{"license": {"id": "Apache-2.0"}}]),
        (["Classifier: License :: OSI Approved :: BSD License", "Classifier: Topic :: X"], [{"license": {"name": "BSD License"}}]),
        (
            ["License: Dual License", "Classifier: License :: OSI Approved :: BSD License", "Classifier: License :: OSI Approved :: A License"],
            [{"license": {"name": "A License"}}, {"license": {"name": "BSD License"}}],
        ),
        (["License: Our own"], [{"license": {"name": "Our own"}}]),
        ([], [{"license": {"name": "unknown"}}]),
    ],
)
def test_a_licence_is_an_spdx_expression_where_the_package_has_one_else_what_it_says(tmp_path: Path, lines: list[str], licences: list[Any]) -> None:
    assert _component(tmp_path, *lines)["licenses"] == licences


def test_it_says_which_package_needs_which(tmp_path: Path) -> None:
    wheels = [
        _package(tmp_path, "direct", "Requires-Dist: needed>=1 ; python_version < '4'", 'Requires-Dist: native==1.0 ; extra == "binary"',
                 'Requires-Dist: unwanted ; extra == "tests"', "Requires-Dist: not-shipped"),
        _package(tmp_path, "needed"), _package(tmp_path, "native"), _package(tmp_path, "unwanted"),
    ]  # fmt: skip
    document = _document(tmp_path, wheels, "# a comment\ndirect[binary]==1.0   # why\n")
    needs = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert needs["pkg:generic/grafana-reencrypt@1.2.3"] == ["pkg:pypi/direct@1.0"]
    assert needs["pkg:pypi/direct@1.0"] == ["pkg:pypi/native@1.0", "pkg:pypi/needed@1.0"]


def test_what_a_wheel_says_of_the_code_inside_it_is_nested_under_it_without_paths_of_the_machine_that_built_it(tmp_path: Path) -> None:
    wheel = _package(tmp_path, "thing")
    folder = tmp_path / "thing-1.0.dist-info" / "sboms"
    folder.mkdir()
    openssl = {"type": "library", "name": "openssl", "version": "4.0.3", "purl": "pkg:generic/openssl@4.0.3", "bom-ref": "file:///builder/openssl"}
    itself = {"type": "library", "name": "thing", "version": "1.0"}
    (folder / "auditwheel.cdx.json").write_text(json.dumps({"components": [itself, openssl]}))
    (component,) = _document(tmp_path, [wheel])["components"]
    assert component["components"] == [{key: openssl[key] for key in ("type", "name", "version", "purl")}]


def test_pips_report_is_read_in_the_forms_of_old_and_new_pip() -> None:
    def item(archive: dict[str, Any]) -> dict[str, Any]:
        url = "https://files.example/a/thing-1.0-py3-none-any.whl"
        return {"metadata": {"name": "thing", "version": "1.0"}, "download_info": {"url": url, "archive_info": archive}}

    expected = Wheel("thing", "1.0", "thing-1.0-py3-none-any.whl", "ab")
    assert installed_wheels({"install": [item({"hashes": {"sha256": "ab"}}), item({"hash": "sha256=ab"})]}) == [expected, expected]
