"""The deployment settings: strict, and each refusal names the key and what is allowed, never the value."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from infra.bundling import CA_BUNDLE, SOURCE, PipBundling, local_architecture, source_hash
from infra.setting_database import RDS_URL, DatabaseAccess
from infra.setting_network import ENDPOINTS, VpcSettings
from infra.setting_schedule import ScheduleSettings
from infra.settings import DeploymentSettings, SettingsError, load_settings
from reencrypt.database import certificates
from reencrypt.database.certificates import PUBLIC_AUTHORITIES
from reencrypt.grafana.secret_columns import declared
from tests.infrastructure.conftest import ROOT, SECRET_ARN

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
VPC = """
[vpc]
vpc_id = "vpc-1"
subnet_ids = ["subnet-1"]
availability_zones = ["eu-north-1a"]
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
    'grafana_ini_parameter = "x"': "grafana_ini_secret, grafana_ini_parameter: only one of them says where grafana.ini is",
    'grafana_environment = {GF_A = "plain"}': "grafana_environment.GF_A: is not allowed; allowed: a table of variables, each with the ARN",
    f'grafana_environment = {{GF_A = "{SECRET_ARN}:*::"}}': "grafana_environment.GF_A: is not allowed; allowed: a table of variables, each with the ARN",
    f'grafana_environment = {{"GF A" = "{SECRET_ARN}"}}': "grafana_environment.GF A: is not allowed; allowed: a table of variables, each with the ARN",
    "\n".join(["[grafana_environment]", *(f'GF_{n} = "{SECRET_ARN}:a-key-of-it::"' for n in range(30))]):
        "grafana_environment: is too long for a function's environment; put the variables into one secret, grafana_environment_secret",
    'settings_kms_key_arns = ["alias/aws/ssm"]': "settings_kms_key_arns[0]: is not allowed; allowed: ARNs of KMS keys",
    'permissions_boundary = "boundary"': "permissions_boundary: is not allowed; allowed: the ARN of a managed policy",
    'tags = {"aws:team" = "x"}': "tags: a name that begins with aws: is AWS's own; allowed: a table of texts",
    "tags = {team = 1}": "tags.team: is not allowed; allowed: a table of texts",
    '[database]\nhosts = "x"': "database.hosts: unknown setting; did you mean host?",
    '[database]\nhost = "db:3306"': "database.host: is not allowed; allowed: a host name without port",
    '[database]\nhost = "db"\ncluster = "grafana"': "database: host, instance, cluster: only one of them says where the database is",
    '[database]\ninstance = "*"': "database.instance: is not allowed; allowed: the identifier of an RDS instance",
    "[database]\nport = 0": "database.port: is not allowed; allowed: a port from 1 to 65535",
    '[database]\nauthentication = "token"': 'database.authentication: is not allowed; allowed: "password" (of grafana.ini), "secret" or "iam"',
    '[database]\nauthentication = "secret"': 'database: secret: with authentication = "secret", and only then',
    '[database]\nsecret = "rds!db-1"': 'database: secret: with authentication = "secret", and only then',
    '[database]\nauthentication = "iam"': 'database: user: with authentication = "iam", and only then',
    '[database]\nauthentication = "iam"\nuser = "x"': 'database: resource_id: with authentication = "iam", and only then',
    '[database]\nuser = "x"': 'database: user: with authentication = "iam", and only then',
    '[database]\nauthentication = "iam"\nuser = "*"': "database.user: is not allowed; allowed: the database user of authentication",
    '[database]\nauthentication = "iam"\nuser = "x"\nresource_id = "*"': "database.resource_id: is not allowed; allowed: the resource ID",
    '[database]\nauthentication = "iam"\nuser = "x"\nresource_id = "prx-1"': "database: ca_bundle: is missing, with authentication",
    '[database]\ntls = "verify-full"': "database: ca_bundle: is missing, with authentication",
    '[database]\ntls = "yes"': 'database.tls: is not allowed; allowed: "as-grafana" (ssl_mode of grafana.ini) or "verify-full"',
    '[database]\nca_bundle = "rds"': "there is no file global-bundle.pem beside the settings; AWS offers it at https://truststore.pki.rds.amazonaws.com/global/",
    '[database]\nca_bundle = "absent.pem"': 'database.ca_bundle: there is no such file; allowed: "rds" (the file global-bundle.pem), "public", or the path',
    '[database]\nca_bundle = "settings.toml"': "database.ca_bundle: the file holds no certificates in PEM form",
    '[database]\nsecurity_group_id = "sg-1"': "database: port: is missing; the rule for security_group_id lets in one port",
    '[database]\nsecurity_group_id = "sg-1"\nport = 3306': "database.security_group_id: only with [vpc]",
    '[grafana_ini_object]\nbucket = "b"': "grafana_ini_object.key: is missing; the key of an existing object",
    '[grafana_ini_object]\nbucket = "bucket"\nkey = "*"': "grafana_ini_object.key: is not allowed; allowed: the key of an existing object, without * and ?",
    '[vpc]\nvpc_id = "vpc-1"': "vpc.subnet_ids: is missing; one or more private subnets",
    VPC.replace('"eu-north-1a"', '"a", "b"'): "vpc: availability_zones must name the zone of each subnet",
    VPC: "vpc: security_group_ids: is missing; one or more existing security groups",
    VPC + 'security_group = "made"': 'vpc.security_group: is not allowed; allowed: "existing" (those of security_group_ids) or "make"',
    VPC + 'security_group = "make"\nsecurity_group_ids = ["sg-1"]': 'vpc: security_group_ids: not with security_group = "make"',
    VPC + 'security_group = "make"': 'database.security_group_id: is missing; with vpc.security_group = "make"',
    VPC + 'security_group_ids = ["sg-1"]\nprefix_list_ids = ["pl-1"]': 'vpc: prefix_list_ids: only with security_group = "make"',
    VPC + 'security_group_ids = ["sg-1"]\nendpoints = ["sns"]': "vpc.endpoints[0]: is not allowed; allowed: a list of VPC endpoints to make, of s3, dynamodb",
    VPC + 'security_group_ids = ["sg-1"]\nendpoints = ["kms", "kms"]': "vpc: endpoints: one is named twice",
    VPC + 'security_group_ids = ["sg-1"]\nendpoints = ["s3"]': "vpc: route_table_ids: is missing; the route tables of the subnets",
    VPC + 'security_group_ids = ["sg-1"]\nroute_table_ids = ["rtb-1"]': "vpc: route_table_ids: only with s3 or dynamodb in endpoints",
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
        _load(tmp_path, "memory_mb = 1\nmax_concurrency = 0\n[database]\nport = 0\n")
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == ["max_concurrency", "memory_mb", "database.port"]


def _example_uncommented(tmp_path: Path) -> DeploymentSettings:
    return _load(tmp_path, re.sub(r"(?m)^#(?=\S)", "", EXAMPLE))


def _alternatives() -> list[tuple[str, str]]:
    """(table, line) of each "# or:" in the example."""
    found, table = [], ""
    for line in EXAMPLE.splitlines():
        if heading := re.fullmatch(r"#?\[+(\w+)\]+", line):
            table = heading[1]
        if line.startswith("# or: "):
            found.append((table, line.removeprefix("# or: ")))
    return found


def _shown(name: str, settings: BaseModel) -> set[str]:
    """The settings of a table that the example shows."""
    return settings.model_fields_set | {line.partition(" =")[0] for table, line in _alternatives() if table == name}


def test_the_example_is_valid_as_it_is_and_with_every_setting_uncommented(tmp_path: Path) -> None:
    assert _load(tmp_path, EXAMPLE) == DeploymentSettings(grafana_ini_secret="grafana/grafana.ini")
    full = _example_uncommented(tmp_path)
    assert _shown("", full) == set(DeploymentSettings.model_fields), "the example must show every setting"
    assert _shown("database", full.database) == set(DatabaseAccess.model_fields)
    assert full.vpc is not None
    assert _shown("vpc", full.vpc) == set(VpcSettings.model_fields)
    assert full.schedule[0].model_fields_set == set(ScheduleSettings.model_fields)


_NEEDS = {
    "secret": 'authentication = "secret"\n',
    "prefix_list_ids": VPC.replace("[vpc]", "") + 'security_group = "make"\n[database]\nport = 3306\nsecurity_group_id = "sg-1"\n',
}


@pytest.mark.parametrize(("table", "line"), _alternatives())
def test_each_alternative_of_the_example_is_valid(tmp_path: Path, table: str, line: str) -> None:
    key = line.partition(" =")[0]
    settings = _load(tmp_path, f"{INI}[{table}]\n{line}\n{_NEEDS.get(key, '')}" if table else line)
    assert key in (getattr(settings, table) if table else settings).model_fields_set


def test_the_example_names_every_file_and_endpoint_that_the_settings_know() -> None:
    assert RDS_URL in EXAMPLE
    assert f"of: {', '.join(ENDPOINTS)}." in EXAMPLE


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    full = _example_uncommented(tmp_path)
    examples = {"grafana_ini_secret", "grafana_environment_secret", "grafana_environment", "settings_kms_key_arns", "account", "region", "kms_key_arns",
                "kms_role_to_assume", "permissions_boundary", "tags", "secret_column", "schedule", "database", "vpc"}  # fmt: skip
    for name, field in DeploymentSettings.model_fields.items():
        if name not in examples:
            assert getattr(full, name) == field.default, name


def test_a_ca_bundle_is_a_file_beside_the_settings_wherever_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = PUBLIC_AUTHORITIES.read_bytes()
    (tmp_path / "global-bundle.pem").write_bytes(authorities)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own.pem").write_bytes(authorities)
    monkeypatch.chdir("/")
    for bundle in ("rds", "sub/own.pem"):
        assert _load(tmp_path, f'{INI}[database]\nca_bundle = "{bundle}"\n').database.certificates == authorities
    assert _load(tmp_path, f'{INI}[database]\nca_bundle = "public"\n').database.certificates == b""


def test_a_ca_bundle_is_in_the_functions_bundle_where_they_look_for_it_and_part_of_its_hash(tmp_path: Path) -> None:
    assert SOURCE / CA_BUNDLE == certificates.CA_BUNDLE
    source, out = tmp_path / "source", tmp_path / "out"
    (source / CA_BUNDLE).parent.mkdir(parents=True)
    out.mkdir()
    (source / CA_BUNDLE).with_name("module.py").write_text("")
    (source / "requirements.txt").write_text("")
    (source / "requirements.lock").write_text("")
    (source / CA_BUNDLE).write_text("left behind by somebody")
    PipBundling(source, "3.14" if sys.version_info[:2] != (3, 14) else "3.13", local_architecture(), ca_bundle=b"of the settings").try_bundle(str(out))
    assert (out / CA_BUNDLE).read_bytes() == b"of the settings"
    assert len({source_hash(source, "3.13", "arm64", ca_bundle=bundle) for bundle in (b"", b"one", b"two")}) == 3
    before = source_hash(source, "3.13", "arm64")
    (source / CA_BUNDLE).unlink()
    assert source_hash(source, "3.13", "arm64") == before


def test_declared_columns_reach_the_functions_as_they_were_declared(tmp_path: Path) -> None:
    assert _load(tmp_path, INI).declared_columns == ""
    text = COLUMN + 'where = {kind = "an \\"o\\" \\\\ ä"}\nenvelope = false\n'
    assert declared(_load(tmp_path, INI + text).declared_columns) == declared(text)
    full = _example_uncommented(tmp_path)
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
