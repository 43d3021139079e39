"""The providers of the secrets manager, also while the `secret_key` of one is being changed."""

from __future__ import annotations

from dataclasses import dataclass

from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider


@dataclass(frozen=True)
class _Either:
    """A provider of the secrets manager while its `secret_key` is being changed: GCM tells which of the two a data key is under."""

    new: Provider
    old: Provider

    @property
    def name(self) -> str:
        return self.new.name

    def wrap(self, data_key: bytes) -> bytes:
        return self.new.wrap(data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            return self.new.unwrap(wrapped)
        except DataKeyUnwrapFailed:
            return self.old.unwrap(wrapped)


def manager_providers(workspace: Workspace, *, either: bool) -> dict[str, Provider]:
    """The providers of the secrets manager; with `either` such that open what is under the old `secret_key` of their section too."""
    providers = dict(workspace.manager_providers())
    if either:
        providers |= {name: _Either(providers[name], old) for name, old in workspace.old_manager_providers().items() if name in providers}
    return providers
