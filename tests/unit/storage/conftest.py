"""DynamoDB and S3 in this process: real boto3 clients whose requests MiniStack's services answer, without a socket between.

The conditions that the lease and the store stand on are thus judged by something that this project did not write.
"""

from __future__ import annotations

import asyncio
import importlib
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

# MiniStack has no types.
dynamodb_service: Any = importlib.import_module("ministack.services.dynamodb")
s3_service: Any = importlib.import_module("ministack.services.s3")

SESSION = boto3.Session("testing", "testing", region_name="us-east-1")  # loads each service's model once

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client


class _Raw:
    """A response's body as botocore reads it from urllib3; `reads` are the sizes that were asked for."""

    def __init__(self, body: bytes, reads: list[int | None]) -> None:
        self._body, self._reads, self.closed = body, reads, False

    def read(self, amount: int | None = None) -> bytes:
        self._reads.append(amount)
        size = len(self._body) if amount is None else amount
        taken, self._body = self._body[:size], self._body[size:]
        return taken

    def stream(self) -> list[bytes]:
        return [self.read()]

    def close(self) -> None:
        self.closed = True


class Wire:
    """Every request that was sent, and how their answers' bodies were read."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self.requests: list[AWSPreparedRequest] = []
        self.reads: list[int | None] = []

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        self.requests.append(request)
        url = urlsplit(request.url)
        headers = {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in request.headers.items()}
        given: Any = request.body or b""
        body = given.read() if hasattr(given, "read") else given
        call = self._service.handle_request(
            request.method, unquote(url.path), headers, body.encode() if isinstance(body, str) else body, parse_qs(url.query, keep_blank_values=True)
        )
        status, answered, content = asyncio.run(call)
        return AWSResponse(request.url, status, answered, _Raw(content or b"", self.reads))


def _client(name: Any, wire: Wire, **options: Any) -> Any:
    client: Any = SESSION.client(name, config=Config(request_checksum_calculation="when_required", **options))
    client.meta.events.register(f"before-send.{name}", wire.answer)
    return client


@pytest.fixture
def dynamodb() -> DynamoDBClient:
    client: DynamoDBClient = _client("dynamodb", Wire(dynamodb_service))
    return client


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> str:
    """A fresh table, keyed as infra/run_storage.py does."""
    name = f"lease-{uuid.uuid4().hex}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    return name


@pytest.fixture
def s3_wire() -> Wire:
    return Wire(s3_service)


@pytest.fixture
def s3(s3_wire: Wire) -> S3Client:
    client: S3Client = _client("s3", s3_wire, s3={"addressing_style": "path"})
    return client


@pytest.fixture
def bucket(s3: S3Client) -> str:
    name = f"runs-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name
