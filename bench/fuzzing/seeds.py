"""What the fuzzer begins with: well-formed inputs of each target, and the pieces that its mutations put into them.

Payloads are the vectors of Grafana's own tests, or were built from Grafana's layouts; documents and files have the shapes that Grafana 12.4 writes.
CANARY stands wherever a secret would: an error that repeats it has repeated a secret.
"""

from __future__ import annotations

import base64
import json

from reencrypt.grafana.secret_columns import secret_columns
from reencrypt.operations.run_input import RunInput

CANARY = "hunter2-canary"
SEPARATOR = b"\x1e"  # before it the environment, a NAME=value a line; after it the grafana.ini

_BODY = bytes.fromhex("5a795877567539381011121314151617") + bytes.fromhex("18191a1b1c1d1e1f63d681467c1476")
_ENVELOPE = b"#Rm5WamNiZ1Za#*YWVzLWNmYg*" + _BODY
_LEGACY = b"*YWVzLWNmYg*" + _BODY
_GCM = bytes.fromhex("306337323330534214632fee3d2c817d0e25a2e62f1f684690df1a33b4114c34245d11cb639edb664aad4a")

PAYLOADS = [
    _ENVELOPE,
    _LEGACY,
    b"*YWVzLWdjbQ*" + _GCM,
    _GCM,
    b"**" + _BODY,
    b"*" + _BODY,
    b"#YWJj#" + _BODY,
    b"##*YWVzLWNmYg*" + _BODY,
    bytes.fromhex("45544578") + bytes.fromhex("41526b5890bc6de55b585571dc23b2bed0b6d15bfc778a85c60801"),
    bytes.fromhex("2a5957567a4c57646a62512a2a2300ff80616263000102030405060708090a0ba459b0090a22e1f2a9ee571889d58eebfebea9b5611243"),
    bytes.fromhex("61626364656667683132333435363738393031328123655291d1f5eebe34c54ba55900f68a2700818a8fda9e2921190b67271d97ce"),
    *(base64.b64encode(each) for each in (_ENVELOPE, _LEGACY, _GCM)),
    base64.b64encode(_ENVELOPE).rstrip(b"="),
]

_STD = [base64.b64encode(each).decode() for each in (_ENVELOPE, _LEGACY, _BODY)]
_RAW = [text.rstrip("=") for text in _STD]
_DOCUMENTS: list[object] = [
    {"basicAuthPassword": _STD[0], "httpHeaderValue1": _STD[1], "httpHeaderValue2": "", "tlsClientKey": None, "plain": CANARY},
    {"token": _STD[2]},
    {
        "template_files": None,
        "alertmanager_config": {
            "route": {"receiver": "empty", "group_by": ["grafana_folder", "alertname"]},
            "receivers": [
                {"name": "empty"},
                {
                    "name": "hooks é 1",
                    "grafana_managed_receiver_configs": [
                        {"uid": "cp-8", "type": "webhook", "settings": {"url": "http://x/", "maxAlerts": 1e3}, "secureSettings": {"password": _STD[0]}},
                        {"uid": "cp-9", "type": "slack", "disableResolveMessage": False, "secureSettings": {"token": _STD[1], "url": "I1lX%%"}},
                    ],
                },
            ],
        },
        "extra_config": [{"identifier": "mimir", "alertmanager_config": "crypto_" + _STD[0]}, {"alertmanager_config": "route:\n  receiver: x\n"}],
    },
    {"client_id": "grafana", "client_secret": _RAW[1], "enabled": True, "tls_client_key": "", "allow_insecure_certificate": True, "retries": 3},
    {"config": {"servers": [{"bind_dn": "cn=admin", "bind_password": _RAW[0], "root_ca_cert": "/etc/tls/ca", "private_key": "/etc/grafana/key", "port": 389}]}},
    {
        "apiVersion": "provisioning.grafana.app/v0alpha1",
        "metadata": {"name": "r", "generation": 12345678901234567890},
        "spec": {"github": {"encryptedToken": _STD[0]}, "git": {"encryptedToken": _STD[1]}},
        "status": {"webhook": {"encryptedSecret": _STD[0], "id": 7}},
    },
]
DOCUMENTS = [
    *(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in _DOCUMENTS),
    *(json.dumps(each, indent=2).encode() for each in _DOCUMENTS),
    ('{ "a" :\t"\\u0049' + _STD[0][1:] + '", "\\ud83d\\ude00":"' + _STD[1].replace("/", "\\/") + '","\\ud800":"\\udc00" }\r\n').encode(),
    b'{"a":"' + _STD[0].encode() + b'","a":"' + _STD[1].encode() + b'"}',
    b"null",
    b"[]",
    _STD[0].encode(),
    _RAW[0].encode(),
    _ENVELOPE,
]

_INI = f"""
# Grafana's own comments look like this
;app_mode = production
instance_name = ${{HOSTNAME}}
[paths]
data = /var/lib/grafana
[server]
root_url = %(protocol)s://%(domain)s:%(http_port)s/
[database]
;url =
type = mysql
host = db.example:3306
name = grafana
user = grafana
password = \"\"\"{CANARY};#x\"\"\"
ssl_mode = skip-verify
[security]
admin_password = `{CANARY}`
secret_key = {CANARY}
encryption_provider = awskms.example-encryption-key
available_encryption_providers = awskms.example-encryption-key secretKey.v1
[security.encryption]
data_keys_cache_ttl = 1h30m
[security.encryption.awskms.example-encryption-key]
key_id = alias/grafana
access_key_id = AKIAEXAMPLE
secret_access_key = '{CANARY}'
session_token = {CANARY} \\
  {CANARY}
region = eu-north-1
"""
_KMS = "[security.encryption.awskms.x]\nkey_id = alias/x\n[security]\nencryption_provider = awskms.x\n"
_SETTINGS: list[tuple[str, str]] = [
    ("", _INI),
    (f"GF_SECURITY_SECRET_KEY={CANARY}\nGF_DATABASE_HOST=[::1]:5432\nGF_SECURITY_ENCRYPTION_AWSKMS_X_KEY_ID=alias/y\n", _KMS),
    ("GF_SECURITY_SECRET_KEY__FILE=/run/secrets/key\nHOSTNAME=h\nX=y\n", "[security]\nsecret_key = $__file{/run/x}\n[database]\ntype = postgres\n"),
    ("GF_SECURITY_SECRET_KEY=$__file{/run/secrets/key}\n", f"[database]\nurl = postgres://grafana:{CANARY}@db:5432/grafana?sslmode=verify-full\n"),
    ("", f"[database]\nurl = mysql://root:{CANARY}%25@unix(/var/run/mysqld.sock)/grafana\n[security]\nsecret_key = $__vault{{a/b}}\n"),
    ("GF_DATABASE_PORT=99999\n", f"[database]\ntype = postgres\nhost = {CANARY}:65536\n[security.encryption]\ndata_keys_cache_ttl = 1.5h.5m\n"),
    ("X=y\n", f"[database]\ntype = mysql\nuser = u\npassword = %(user)s{CANARY}\nname = $__env{{X}}${{X}}\nssl_mode = $__file{{/run/x}}\n"),
    ("", "k = one \\\n two\n[a.b]\n- = x\n- = y\n[a]\nk = %(j)s%(j)s\nj = %(k)s%(k)s\n"),
]
INIS = [environment.encode() + SEPARATOR + ini.encode() for environment, ini in _SETTINGS]
INIS += [b"X=\xff\x1e[security]\nsecret_key = x", b"GF_SECURITY_SECRET_KEY=\xff\x1e", b"\x1e[security]\nsecret_key = x\xff"]

_INPUT_KEYS = [field.alias or name for name, field in RunInput.model_fields.items()]
INPUTS = [
    json.dumps(each).encode()
    for each in (
        {},
        {"mode": "plan"},
        {"mode": "re-encrypt", "tables": ["data_source", "user_auth"], "provider": "awskms.prod", "providerReady": True, "maxConcurrency": 7},
        {"mode": "re-encrypt", "chunkRows": 250, "onUnreadable": "report", "force": True, "settleSeconds": 0, "maxSweeps": 5},
        {"mode": "verify", "unreadableBudget": 0.25, "maxLoad": 25},
        {"mode": "restore", "run": "2026-11-24T22-10-05Z"},
        *({key: value} for key in _INPUT_KEYS for value in (CANARY, [CANARY], {CANARY: CANARY}, 1, -1, True, None, 0.5, 10**30)),
    )
]

SEEDS = {"payload": PAYLOADS, "ini": INIS, "json": DOCUMENTS, "input": INPUTS}

_ANYWHERE = [
    b"\x00", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8", b"\xc2\x85", b"\r\n", b"\n", b" ", b"=", b"#", b"*",
    b"##", b"**", b"*#", b"9" * 30, b"-0", b"1e999", b"18446744073709551616", b"I", b"I1", b"KllXVnpM", CANARY.encode(),
]  # fmt: skip
_JSON = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\\uD8", b"\\/", b"null", b"true", b"NaN",
    b"Infinity", b"-", b"1E+2", b'{"a":', b'"":', b'"":"",', b"[[[[", b"crypto_", b'"secureSettings":{', b'"password":', b'"CLIENT_SECRET":',
]  # fmt: skip
_INI_PIECES = [
    b"[", b"]", b";", b"`", b'"', b'"""', b"'", b"\\\n", b"%(user)s", b"%(", b")s", b"${X}", b"$__env{X}", b"$__file{/run/x}", b"$__file{hunter2-canary}",
    b"$__vault{", b"[database]\n", b"url = ", b"type = ", b"host = ", b"port = ", b"[security]\n", b"secret_key = ", b"encryption_provider = ", b"awskms.",
    b"[security.encryption]\n", b"data_keys_cache_ttl = ", b"9223372036854775807ns", b"2562048h", b"-", b"mysql://", b"postgres://[", b"%zz", b"://@:/?#",
    b"GF_DATABASE_URL=", b"GF_DATABASE_TYPE=", b"GF_SECURITY_SECRET_KEY__FILE=", b"GF_SECURITY_ENCRYPTION_PROVIDER=", b"__FILE=", SEPARATOR,
]  # fmt: skip
_INPUT_PIECES = [*(f'"{key}":'.encode() for key in _INPUT_KEYS), *(f'"{table}"'.encode() for table in sorted({column.table for column in secret_columns()}))]

PIECES = {
    "payload": [*_ANYWHERE, b"#YQ#", b"*YWVzLWdjbQ*", b"*YWVzLWNmYg*", b"*YWVz*", bytes(24), b"a" * 36],
    "ini": [*_ANYWHERE, *_INI_PIECES],
    "json": [*_ANYWHERE, *_JSON, *(text.encode() for text in (*_STD, *_RAW))],
    "input": [*_ANYWHERE, *_JSON, *_INPUT_PIECES, b'"plan"', b'"restore"', b'"re-encrypt"', b'"report"'],
}


def pathological(target: str) -> list[bytes]:
    """Long inputs that a careless reader takes quadratic time or the whole stack for; each is tried once before the random ones."""
    long = [piece * (60_000 // len(piece) + 1) for piece in PIECES[target]]
    if target == "ini":
        # A value that quotes over thousands of lines, one that never ends, one that continues, and references that lead to each other.
        quoted = ["`" + "x\n" * 30_000 + "`", '"""' + "x\n" * 30_000, "x\\\n" * 30_000]
        for value in (*quoted, "%(k)s" * 10_000, "%(" * 30_000, "${" * 30_000, "$__file{}" * 9_000):
            long.append(SEPARATOR + f"[security]\nsecret_key = {value}\n[database]\npassword = {value}\nk = {value}\n".encode())
        long += [SEPARATOR + b"[security.encryption]\ndata_keys_cache_ttl = " + b"1h" * 40_000, SEPARATOR + b"[" + b"a." * 30_000 + b"]\nk = %(j)s\n"]
        long += [SEPARATOR + b"".join(b"[s%d]\nk%d = %%(j)s\n" % (number, number) for number in range(5_000))]
    if target in ("json", "input"):
        for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
            long += [open_ * depth + b"1" + close * depth for depth in (900, 999, 1000, 1001, 20_000)]
        long += [b"[" * 999 + b"1" + b",1" * 20_000 + b"]" * 999, b'"' + b"\\" * 60_001, b'{"a":"' + b"a\\n" * 30_000 + b'"}', b"1" * 60_000]
        long += [b"{" + b",".join(b'"%d":%d' % (number, number) for number in range(5_000)) + b"}", b'"' + b"I" * 60_000 + b'"', b"-" + b"0" * 60_000]
    return long
