"""The deployment settings: strict, and each refusal names the key and what is allowed, never the value."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import DeploymentSettings, SettingsError, VpcSettings, load_settings
from reencrypt.grafana.secret_columns import declared
from tests.infrastructure.conftest import ROOT

INI = 'grafana_ini_secret = "grafana/ini"\n'
EXAMPLE = (ROOT / "deployment.example.toml").read_text()
COLUMN = """
[[secret_column]]
table = "setting"
primary_key = ["id"]
column = "encrypted_value"
shape = "base64"
base64 = "std"
plaintext = "text"
"""
WRONG = {
    "kms_key_arn = []": "kms_key_arn: unknown setting; did you mean kms_key_arns?",
    "entirely_unknown_zzz = 1": "entirely_unknown_zzz: unknown setting; known: stack_name, ",
    'kms_key_arns = ["alias/grafana"]': "kms_key_arns[0]: is not allowed; allowed: ARNs of KMS keys",
    'kms_key_arns = ["arn:aws:kms:eu-north-1:111122223333:alias/grafana"]': "kms_key_arns[0]: is not allowed; allowed: ARNs of KMS keys",
    'kms_key_arns = ["arn:aws:kms:eu-north-1:111122223333:key/*"]': "kms_key_arns[0]: is not allowed; allowed: ARNs of KMS keys",
    'kms_credentials = "configured"': 'kms_credentials: is not allowed; allowed: "configured-first" or "role"',
    'kms_credentials = "role"': 'kms_credentials = "role" needs kms_key_arns or kms_role_to_assume',
    'kms_role_to_assume = "grafana-kms"': "kms_role_to_assume: is not allowed; allowed: the ARN of a role",
    "kms_encryption_context = {purpose = 1}": "kms_encryption_context.purpose: is not allowed; allowed: a table of texts",
    "max_concurrency = 0": "max_concurrency: is not allowed; allowed: a whole number from 1 to 100",
    'max_concurrency = "4"': "max_concurrency: is not allowed; allowed: a whole number from 1 to 100",
    "max_concurrency = true": "max_concurrency: is not allowed; allowed: a whole number from 1 to 100",
    "memory_mb = 128": "memory_mb: is not allowed; allowed: a whole number from 512 to 10240",
    'architecture = "amd64"': 'architecture: is not allowed; allowed: "arm64" or "x86_64"',
    "lambda_python = 3.13": 'lambda_python: is not allowed; allowed: "3.12", "3.13"',
    'removal = "delete"': 'removal: is not allowed; allowed: "retain" or "destroy"',
    "log_retention_days = 45": "log_retention_days: CloudWatch Logs does not offer this; allowed: one of 1, 3, 5, 7, 14, 30",
    'notify_emails = ["nobody"]': "notify_emails[0]: is not allowed; allowed: a list of e-mail addresses",
    'account = "111122223333"': "account and region are given together or not at all",
    'stack_name = "1 stack"': "stack_name: is not allowed; allowed: letters, digits and hyphens",
    '[[schedule]]\nname = "a"\nexpression = "daily"': 'schedule[0].expression: is not allowed; allowed: "rate(7 days)"',
    '[[schedule]]\nname = "a"\nexpression = "rate(7 days)"\ntime_zone = "Berlin"': "schedule[0].time_zone: no such time zone; allowed: an IANA",
    '[[schedule]]\nexpression = "rate(7 days)"': "schedule[0].name: is missing; letters, digits and hyphens",
    '[[schedule]]\nname = "a"\nexpression = "rate(7 days)"\n' * 2: "schedule: each needs a name of its own",
    '[vpc]\nvpc_id = "vpc-1"': "vpc.subnet_ids: is missing; one or more private subnets",
    '[vpc]\nvpc_id = "vpc-1"\nsubnet_ids = ["subnet-1"]\navailability_zones = ["a", "b"]\nsecurity_group_ids = ["sg-1"]':
        "vpc: availability_zones must name the zone of each subnet",
    '[[secret_column]]\ntable = "setting"': "secret_column[0].primary_key: is missing; the columns of the primary key",
    COLUMN + "nullable = true": "secret_column[0].nullable: unknown setting; did you mean table?",
    COLUMN.replace('"std"', '"none"'): 'secret_column[0]: base64: is not allowed with the shape base64; allowed: "std" (padded) or "rawstd" (unpadded)',
    COLUMN.replace('"setting"', '"data_keys"'): "secret_column[0]: table: data_keys holds data keys",
    COLUMN + COLUMN: "[[secret_column]] number 2 (setting.encrypted_value): setting.encrypted_value is in the list already",
    COLUMN + "where = {kind = 1}": "secret_column[0].where.kind: is not allowed; allowed: a table of columns and texts",
    COLUMN + 'json_paths = [{path = "a..b"}]': "secret_column[0].json_paths[0].path: is not allowed; allowed: keys joined by dots",
    "max_concurrency = 2027-01-01": "dates and times are written as texts, in quotes",
    "max_concurrency": "is not TOML",
}  # fmt: skip


def _load(tmp_path: Path, text: str) -> DeploymentSettings:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return load_settings(file)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_setting_is_refused_with_its_key_and_what_is_allowed(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(WRONG[text])):
        _load(tmp_path, INI + text)


def test_the_one_setting_without_a_default_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="grafana_ini_secret: is missing; the name or ARN of an existing Secrets Manager secret"):
        _load(tmp_path, "")


def test_a_refusal_never_echoes_the_value(tmp_path: Path) -> None:
    """Someone will paste grafana.ini itself where its secret's name belongs."""
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, 'grafana_ini_secret = """\n[security]\nsecret_key = hunter2\n"""\nnotify_emails = ["hunter2"]')
    assert "grafana_ini_secret: is not allowed" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, "memory_mb = 1\nmax_concurrency = 0\n")
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == ["grafana_ini_secret", "max_concurrency", "memory_mb"]


def test_the_example_is_valid_as_it_is_and_with_every_setting_uncommented(tmp_path: Path) -> None:
    assert _load(tmp_path, EXAMPLE) == DeploymentSettings(grafana_ini_secret="grafana/grafana.ini")
    full = _load(tmp_path, re.sub(r"(?m)^#(?=\S)", "", EXAMPLE))
    assert full.model_fields_set == set(DeploymentSettings.model_fields), "the example must show every setting"
    assert full.vpc is not None
    assert full.vpc.model_fields_set == set(VpcSettings.model_fields)


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    full = _load(tmp_path, re.sub(r"(?m)^#(?=\S)", "", EXAMPLE))
    examples = {"grafana_ini_secret", "grafana_environment_secret", "account", "region", "kms_key_arns", "kms_role_to_assume", "secret_column", "schedule",
                "vpc"}  # fmt: skip
    for name, field in DeploymentSettings.model_fields.items():
        if name not in examples:
            assert getattr(full, name) == field.default, name


def test_declared_columns_reach_the_functions_as_they_were_declared(tmp_path: Path) -> None:
    assert _load(tmp_path, INI).declared_columns == ""
    text = COLUMN + 'where = {kind = "an \\"o\\" \\\\ ä"}\nenvelope = false\n'
    assert declared(_load(tmp_path, INI + text).declared_columns) == declared(text)
    full = _load(tmp_path, re.sub(r"(?m)^#(?=\S)", "", EXAMPLE))
    assert [column.id for column in declared(full.declared_columns)] == ["setting.encrypted_value", "my_plugin_account.options/oauth"]


def _app(*arguments: str) -> subprocess.CompletedProcess[str]:
    cli = ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk"
    assert cli.exists(), "the CDK CLI is missing: run npm ci"
    return subprocess.run(
        ["node", cli, "synth", "--quiet", "--no-notices", "--no-version-reporting", "--app", f"{sys.executable} app.py", *arguments],  # noqa: S607 - node is on PATH
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "CDK_DISABLE_CLI_TELEMETRY": "true", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"})  # fmt: skip


def test_a_missing_settings_file_says_what_to_copy_and_shows_no_traceback(tmp_path: Path) -> None:
    done = _app("--output", str(tmp_path / "out"), "--context", f"settings={tmp_path / 'absent.toml'}")
    assert done.returncode != 0
    assert "Copy deployment.example.toml to deployment.toml" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
