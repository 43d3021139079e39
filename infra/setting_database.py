"""`[database]` of the deployment's settings: how the functions reach Grafana's database, where that differs from grafana.ini.

The certificates of `ca_bundle` are a file beside the settings, since neither a function nor a build should fetch what it trusts from the network.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from infra.setting_types import SecretId, SecurityGroupId, Strict, setting

PUBLIC = "public"
RDS_FILE, RDS_URL = "global-bundle.pem", "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
_IDENTIFIER = r"^[A-Za-z][A-Za-z0-9-]{0,62}$"


class DatabaseAccess(Strict):
    """What takes the place of `[database]` in grafana.ini; what is not given stays as grafana.ini says."""

    host: str | None = setting(
        None,
        'a host name without port, such as "grafana.cluster-abc.eu-north-1.rds.amazonaws.com" or an RDS Proxy\'s endpoint',
        pattern=r"^[A-Za-z0-9.-]{1,253}$",
    )
    instance: str | None = setting(None, 'the identifier of an RDS instance of this account and region, such as "grafana"', pattern=_IDENTIFIER)
    cluster: str | None = setting(None, 'the identifier of an Aurora cluster of this account and region, such as "grafana"', pattern=_IDENTIFIER)
    port: int | None = setting(None, "a port from 1 to 65535", ge=1, le=65535)
    security_group_id: SecurityGroupId | None = setting(None, 'the security group of the database, such as "sg-0123456789abcdef1"')

    authentication: Literal["password", "secret", "iam"] = setting("password", '"password" (of grafana.ini), "secret" or "iam"')
    secret: SecretId | None = setting(None, "the name or ARN of a secret whose text is a JSON object with username and password")
    user: str | None = setting(None, 'the database user of authentication = "iam"', pattern=r"^[A-Za-z0-9_.@-]{1,63}$")
    resource_id: str | None = setting(
        None, 'the resource ID of the instance, cluster or proxy: "db-…", "cluster-…" or "prx-…"', pattern=r"^(db|cluster|prx)-[A-Za-z0-9]+$"
    )

    tls: Literal["as-grafana", "verify-full"] = setting("as-grafana", '"as-grafana" (ssl_mode of grafana.ini) or "verify-full"')
    ca_bundle: str | None = setting(None, f'"rds" (the file {RDS_FILE}), "{PUBLIC}", or the path of a PEM file; relative to this file', min_length=1)

    @field_validator("ca_bundle")
    @classmethod
    def _is_there(cls, bundle: str | None, info: ValidationInfo) -> str | None:
        if bundle is None or bundle == PUBLIC:
            return bundle
        path = Path((info.context or {}).get("folder", ".")) / (RDS_FILE if bundle == "rds" else bundle)
        try:
            ssl.create_default_context(cadata=path.read_text(encoding="ascii"))
        except (ssl.SSLError, ValueError):
            raise ValueError("the file holds no certificates in PEM form") from None
        except OSError:
            raise ValueError(
                f"there is no file {RDS_FILE} beside the settings; AWS offers it at {RDS_URL}" if bundle == "rds" else "there is no such file"
            ) from None
        return str(path)

    @property
    def certificates(self) -> bytes:
        """The PEM file that goes into the functions' bundle; empty without one."""
        return b"" if self.ca_bundle in (None, PUBLIC) else Path(str(self.ca_bundle)).read_bytes()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if sum(name is not None for name in (self.host, self.instance, self.cluster)) > 1:
            raise ValueError("host, instance, cluster: only one of them says where the database is")
        if (self.authentication == "secret") != (self.secret is not None):
            raise ValueError('secret: with authentication = "secret", and only then')
        for name in ("user", "resource_id"):
            if (self.authentication == "iam") != (getattr(self, name) is not None):
                raise ValueError(f'{name}: with authentication = "iam", and only then')
        if (self.authentication == "iam" or self.tls == "verify-full") and self.ca_bundle is None:
            raise ValueError(f'ca_bundle: is missing, with authentication = "iam" and with tls = "verify-full"; "rds", "{PUBLIC}" or a PEM file')
        if self.security_group_id and self.port is None:
            raise ValueError("port: is missing; the rule for security_group_id lets in one port")
        return self
