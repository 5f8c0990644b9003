"""A client session on a running replica: retries that never apply a command twice."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import trio

from distkit.core import LocalError, Outcome
from distkit.node.outcomes import result_of
from distkit.replica import ClientSession
from distkit.replica.client import retry_delay

if TYPE_CHECKING:
    from typing import Any

    from distkit.node.replica import Replica


class Session:
    """Made by `Replica.session()`; registers when entered and closes when left.

    The session lives in the replicated state, so `Session.id` may be used from another node after this one failed.
    Raises SessionExpired once it was evicted: what was in flight then may or may not have been applied.
    """

    def __init__(self, replica: Replica[Any]) -> None:
        self._replica = replica
        self._client: ClientSession | None = None

    @property
    def id(self) -> int:
        """Number of the session, the index of its register entry."""
        return self._open().id

    async def propose(self, command: bytes) -> bytes:
        """Apply a command exactly once and return its first answer, retrying over elections until it is known."""
        client = self._open()
        sequence = client.begin()
        attempt = 1
        try:
            while True:
                reply = await self._replica.ask(
                    lambda core, now, ticket: core.propose(now, ticket, command, client.id, sequence, client.lowest)
                )
                delay = retry_delay(reply, attempt)
                if delay is None:
                    return result_of(reply)
                attempt += 1
                await trio.sleep(delay)
        finally:
            client.finish(sequence)

    async def __aenter__(self) -> Session:
        while True:
            reply = await self._replica.ask(lambda core, now, ticket: core.register(now, ticket))
            if reply.outcome is Outcome.COMMITTED:
                self._client = ClientSession(int.from_bytes(reply.result, "little"))
                return self
            delay = retry_delay(reply, 1)
            if delay is None:
                result_of(reply)
                raise LocalError(f"a session could not be registered: {reply}")
            await trio.sleep(delay)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None and value is None:
            await self._replica.ask(lambda core, now, ticket: core.close_session(now, ticket, client.id))

    def _open(self) -> ClientSession:
        if self._client is None:
            raise LocalError("the session is not open: use it inside `async with replica.session()`")
        return self._client
