"""The bill of materials of the Lambda bundle, in CycloneDX 1.5: what ships, each package with version, licence, purl and its wheel's SHA-256.

It is made of the bundle itself: of the packages' own metadata there, and of what pip says that it installed. If the two differ, there is none. What a
wheel says of the native code inside it (its own bills of materials, PEP 770) is nested under the package. The same bundle gives the same bytes: no
time, and a serial number that is made of the content. Every bundle carries its own, at `PLACE` in the metadata folder of grafana-reencrypt.

    .venv/bin/python -m infra.sbom --output sbom.cdx.json [--settings deployment.toml]

Sources: CycloneDX 1.5 JSON reference; PEP 639 (licence expressions), PEP 770 (bills of materials in wheels); the purl specification, type pypi.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRODUCT = "grafana-reencrypt"
LICENCE = "Apache-2.0"
PLACE = "sboms/bundle.cdx.json"
SPEC_VERSION = "1.5"
# What older metadata writes for a licence → its SPDX identifier. Anything else is quoted as it stands.
_SPDX = {"MIT": "MIT", "Apache-2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0"}
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_FOR_AN_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_COPIED = ("type", "name", "version", "scope", "purl", "licenses")  # of a nested component; paths of the machine that built it stay out


class BundleDiffers(Exception):
    """The packages in the bundle are not those that pip says it installed."""


@dataclass(frozen=True)
class Wheel:
    """What pip installed: the package, and the wheel file's name and SHA-256."""

    name: str
    version: str
    file: str
    sha256: str


def installed_wheels(report: Mapping[str, Any]) -> list[Wheel]:
    """The wheels of pip's installation report (`pip install --report`)."""
    wheels = []
    for item in report["install"]:
        archive = item["download_info"]["archive_info"]
        sha256 = archive["hashes"]["sha256"] if "hashes" in archive else archive["hash"].removeprefix("sha256=")  # pip before 23.1
        file = item["download_info"]["url"].rsplit("/", 1)[1].partition("#")[0]
        wheels.append(Wheel(item["metadata"]["name"], item["metadata"]["version"], file, sha256))
    return wheels


def bill_of_materials(bundle: Path, wheels: Iterable[Wheel], requirements: str, version: str, properties: Mapping[str, str]) -> dict[str, Any]:
    """The bill of materials of the folder `bundle`; `requirements` is the text that names the direct dependencies. Raises BundleDiffers."""
    by_name = {normal(wheel.name): wheel for wheel in wheels}
    folders = {normal(importlib.metadata.Distribution.at(folder).metadata["Name"]): folder for folder in sorted(bundle.glob("*.dist-info"))}
    folders.pop(PRODUCT, None)
    distributions = {name: importlib.metadata.Distribution.at(folder) for name, folder in folders.items()}
    if {name: found.version for name, found in distributions.items()} != {name: wheel.version for name, wheel in by_name.items()}:
        raise BundleDiffers(f"the bundle holds {sorted(distributions)}, pip installed {sorted(by_name)}")
    direct = _names_and_extras(requirements.splitlines())
    product = f"pkg:generic/{PRODUCT}@{version}"
    purls = {name: f"pkg:pypi/{name}@{wheel.version}" for name, wheel in by_name.items()}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": product,
                "name": PRODUCT,
                "version": version,
                "purl": product,
                "licenses": [{"license": {"id": LICENCE}}],
                "properties": [{"name": f"{PRODUCT}:{name}", "value": value} for name, value in sorted(properties.items())],
            }
        },
        "components": [_component(folders[name], by_name[name], purls[name]) for name in sorted(by_name)],
        "dependencies": [
            {"ref": product, "dependsOn": sorted(purls[name] for name in direct if name in purls)},
            *(
                {"ref": purls[name], "dependsOn": sorted(purls[other] for other in _needed(distributions[name], direct.get(name, set())) & set(purls))}
                for name in sorted(purls)
            ),
        ],
    }
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(text_of(document).encode()).digest()[:16], version=5)}"
    return document


def text_of(document: Mapping[str, Any]) -> str:
    """The document as it is stored."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def normal(name: str) -> str:
    """A package's name as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(folder: Path, wheel: Wheel, purl: str) -> dict[str, Any]:
    distribution = importlib.metadata.Distribution.at(folder)
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": distribution.metadata["Name"],
        "version": distribution.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "licenses": _licences(distribution.metadata),
        "properties": [{"name": f"{PRODUCT}:wheel", "value": wheel.file}],
    }
    inside = _inside(folder, normal(wheel.name))
    return component | ({"components": inside} if inside else {})


def _licences(metadata: importlib.metadata.PackageMetadata) -> list[dict[str, Any]]:
    """An expression where there is one (PEP 639), else the licence's field where it is an identifier, else what the classifiers name."""
    if expressions := metadata.get_all("License-Expression"):
        return [{"expression": expressions[0]}]
    field = (metadata.get_all("License") or [""])[0]
    if field in _SPDX:
        return [{"license": {"id": _SPDX[field]}}]
    named = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    return [{"license": {"name": name}} for name in sorted(named) or [field or "unknown"]]


def _inside(folder: Path, package: str) -> list[dict[str, Any]]:
    """What the wheel's own bills of materials say of the code that was compiled or copied into it."""
    found = {}
    for file in sorted((folder / "sboms").glob("*.json")):
        for component in json.loads(file.read_text(encoding="utf-8")).get("components", []):
            kept = {key: component[key] for key in _COPIED if key in component}
            if {"type", "name"} <= set(kept) and normal(kept["name"]) != package:
                found[text_of(kept)] = kept
    return [found[key] for key in sorted(found)]


def _names_and_extras(requirements: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in requirements:
        if match := _REQUIREMENT.match(line):
            found.setdefault(normal(match[1]), set()).update(extra.strip() for extra in (match[2] or "").split(",") if extra.strip())
    return found


def _needed(distribution: importlib.metadata.Distribution, extras: set[str]) -> set[str]:
    """The names that the package requires, for itself and for the extras that are asked of it."""
    wanted = []
    for requirement in distribution.requires or []:
        extra = _FOR_AN_EXTRA.search(requirement)
        if extra is None or extra[1] in extras:
            wanted.append(requirement)
    return set(_names_and_extras(wanted))


def main(arguments: list[str] | None = None) -> None:
    from infra.bundling import METADATA, SOURCE, PipBundling  # it writes the bill of materials, so it imports this module
    from infra.settings import DeploymentSettings, load_settings

    parser = argparse.ArgumentParser(prog="python -m infra.sbom", description="Writes the Lambda bundle's bill of materials (CycloneDX JSON).")
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--settings", type=Path, help="the deployment's settings, which choose Python and architecture; without: their defaults")
    given = parser.parse_args(arguments)
    fields, settings = DeploymentSettings.model_fields, load_settings(given.settings) if given.settings else None
    python, architecture = (getattr(settings, name) if settings else fields[name].default for name in ("lambda_python", "architecture"))
    with tempfile.TemporaryDirectory() as folder:
        PipBundling(SOURCE, python, architecture).try_bundle(folder)
        given.output.write_bytes((Path(folder) / METADATA / PLACE).read_bytes())


if __name__ == "__main__":
    main()
