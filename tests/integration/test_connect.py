"""Logging in and TLS with real servers: credentials are asked for at each new connection, and a certificate counts for the name that is asked for."""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reencrypt.database.connect import create_engine
from reencrypt.database.database import Database
from reencrypt.database.login import Credentials, log_in_with
from reencrypt.errors import ConfigurationError, DatabaseUnavailable
from reencrypt.grafana.settings import DatabaseSettings
from tests.integration.conftest import EmptyDatabase
from tests.support import servers

SERVERS = ("mysql", "postgres")


@pytest.mark.parametrize("empty_database", SERVERS, indirect=True)
def test_each_new_connection_asks_for_its_credentials_and_an_old_one_does_not(empty_database: EmptyDatabase) -> None:
    given: list[Credentials] = []

    def login() -> Credentials:
        given.append(Credentials(empty_database.settings.user, empty_database.settings.password))
        return given[-1]

    engine = create_engine(replace(empty_database.settings, user="of-the-ini", password="of-the-ini"), read_only=True)
    log_in_with(engine, login)
    with engine.connect(), engine.connect():
        assert len(given) == 2
    with engine.connect(), engine.connect():
        assert len(given) == 2, "the pool's connections are logged in"
    engine.dispose()
    with engine.connect():
        assert len(given) == 3
    engine.dispose()


def test_a_password_that_changes_while_a_process_lives_is_no_failure(mysql_server: sa.URL) -> None:
    """As RDS rotates it, and as each IAM token ends after 15 minutes."""
    user = f"rotated_{uuid.uuid4().hex[:8]}"
    passwords = iter(("first", "second"))
    settings = replace(servers.settings_of(mysql_server), name="", user="of-the-ini", password="of-the-ini")
    database = Database(settings, read_only=True, login=lambda: Credentials(user, next(passwords)))
    servers.execute(mysql_server, f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'first'")
    try:
        first = database.version()
        servers.execute(mysql_server, f"ALTER USER {user}@'127.0.0.1' IDENTIFIED BY 'second'")
        database.close()
        assert database.version() == first
        assert list(passwords) == []
    finally:
        database.close()
        servers.execute(mysql_server, f"DROP USER {user}@'127.0.0.1'")


def test_a_password_that_is_refused_is_told_without_it(mysql_server: sa.URL) -> None:
    with servers.new_database(mysql_server) as url:
        database = Database(servers.settings_of(url), read_only=True, login=lambda: Credentials("grafana", "hunter2-wrong"))
        with pytest.raises(DatabaseUnavailable, match="user name or password is wrong") as refused:
            database.schema(["data_keys"])
        assert "hunter2" not in str(refused.value)


@dataclass(frozen=True)
class Authority:
    """A private certification authority and a server's certificate by it, as PEM files. Its root says nothing of basic constraints being critical."""

    bundle: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return _authority(tmp_path_factory.mktemp("authority"))


def _authority(folder: Path) -> Authority:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("root", "root", root_key, root_key, x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.DNSName("db.example.com"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = _certificate("server", "root", key, root_key, names)
    files = Authority(folder / "root.pem", folder / "server.pem", folder / "server.key")
    files.bundle.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
) -> x509.Certificate:
    def name(of: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)])

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    return builder.add_extension(extension, critical=False).sign(signer, hashes.SHA256())


@pytest.fixture(scope="module", params=SERVERS)
def tls_server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[DatabaseSettings]:
    """A server that speaks TLS with the authority's certificate; how the product would be told to demand it."""
    with servers.tls_server(request.param, authority.certificate, authority.key) as url:
        mode = "true" if request.param == "mysql" else "verify-full"
        yield replace(servers.settings_of(url), ssl_mode=mode, ca_cert_path=str(authority.bundle))


def _encrypted(settings: DatabaseSettings) -> bool:
    question = "SHOW STATUS LIKE 'Ssl_cipher'" if settings.type == "mysql" else "SELECT 0, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    engine = create_engine(settings, read_only=True)
    try:
        with engine.connect() as connection:
            return bool(connection.exec_driver_sql(question).one()[1])
    finally:
        engine.dispose()


def test_a_certificate_of_the_bundle_for_this_host_is_accepted_and_the_session_is_encrypted(tls_server: DatabaseSettings) -> None:
    assert _encrypted(tls_server)
    if tls_server.type == "postgres":  # PyMySQL encrypts without a check where the server offers it, unless told otherwise
        assert not _encrypted(replace(tls_server, ssl_mode="disable"))


def test_a_certificate_of_another_authority_is_refused(tls_server: DatabaseSettings, tmp_path: Path) -> None:
    other = replace(tls_server, ca_cert_path=str(_authority(tmp_path).bundle))
    with pytest.raises(sa.exc.OperationalError, match=r"(?i)certificate verify failed|signature failure"):
        _encrypted(other)
    if tls_server.type == "mysql":
        assert _encrypted(replace(other, ssl_mode="skip-verify"))


def test_a_certificate_for_another_host_is_refused(tls_server: DatabaseSettings) -> None:
    with pytest.raises(sa.exc.OperationalError, match=r"(?i)hostname mismatch|does not match host name"):
        _encrypted(replace(tls_server, host="localhost"))


def test_a_certificate_that_grafana_ini_names_is_checked_by_that_name(tls_server: DatabaseSettings) -> None:
    """MySQL only, as Grafana does: its own configuration must work here too, whatever the host is called."""
    if tls_server.type == "postgres":
        with pytest.raises(sa.exc.OperationalError):
            _encrypted(replace(tls_server, host="localhost", server_cert_name="db.example.com"))
        return
    assert _encrypted(replace(tls_server, host="localhost", server_cert_name="db.example.com"))
    with pytest.raises(sa.exc.OperationalError, match=r"(?i)hostname mismatch"):
        _encrypted(replace(tls_server, server_cert_name="other.example.com"))


def test_a_bundle_that_is_not_there_is_told_by_its_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"\[database\] ca_cert_path, client_cert_path or client_key_path cannot be used: FileNotFoundError"):
        create_engine(DatabaseSettings("mysql", "db", 3306, "grafana", "grafana", ssl_mode="true", ca_cert_path="/absent.pem"), read_only=True)
