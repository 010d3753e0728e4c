"""What /v1/responses keeps of its answers, so that a later request can go on from one of them."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

from minillm.server.errors import UnknownResponseError

MAX_RESPONSES = 1000
MAX_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Turn:
    """One request and its answer.

    Attributes:
        response: the `response` object as it was answered.
        input: the items of the request, without those of the turns before.
    """

    response: dict[str, Any]
    input: list[dict[str, Any]]

    @property
    def items(self) -> list[dict[str, Any]]:
        """What it adds to the conversation."""
        return [*self.input, *self.response["output"]]


@dataclass(frozen=True)
class _Record:
    previous: str | None
    body: bytes  # a `Turn` as JSON: a copy that nobody changes, whose size is known


class ResponseStore:
    """Turns in memory, a tenant's own ones only, the least recently used dropped first.

    A turn goes on from another one, so using it uses all those before it, and the oldest is dropped last. Belongs to
    the event loop's thread.

    Attributes:
        max_responses: the most turns that are kept for a tenant.
        max_bytes: the most bytes of JSON that are kept for a tenant.
    """

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self.max_responses, self.max_bytes = max_responses, max_bytes
        # From the least recently used to the most recently used; whatever a turn follows is further on than itself.
        self._records: defaultdict[str, OrderedDict[str, _Record]] = defaultdict(OrderedDict)
        self._num_bytes: defaultdict[str, int] = defaultdict(int)

    def add(self, tenant: str, turn: Turn) -> None:
        """Keeps a turn. One that is larger than `max_bytes` is not kept."""
        record = _Record(
            turn.response["previous_response_id"],
            json.dumps({"response": turn.response, "input": turn.input}).encode(),
        )
        if len(record.body) > self.max_bytes:
            return
        records = self._records[tenant]
        records[turn.response["id"]] = record
        self._num_bytes[tenant] += len(record.body)
        self._use(records, record.previous)
        while len(records) > self.max_responses or self._num_bytes[tenant] > self.max_bytes:
            _, dropped = records.popitem(last=False)
            self._num_bytes[tenant] -= len(dropped.body)

    def get(self, tenant: str, response_id: str) -> Turn:
        """One turn.

        Raises:
            UnknownResponseError: if it isn't there, or is somebody else's.
        """
        return _turn(self._find(tenant, response_id, "response_id"))

    def chain(self, tenant: str, response_id: str, param: str) -> list[Turn]:
        """A turn and all those that it goes on from, oldest first.

        Args:
            tenant: whose it is.
            response_id: the newest one's.
            param: the field of the request that names it.

        Raises:
            UnknownResponseError: if one of them isn't there any more, or is somebody else's.
        """
        found: list[_Record] = []
        following: str | None = response_id
        while following is not None:
            found.append(self._find(tenant, following, param, since=response_id))
            following = found[-1].previous
        self._use(self._records[tenant], response_id)
        return [_turn(record) for record in reversed(found)]

    def delete(self, tenant: str, response_id: str) -> None:
        """Forgets a turn; those that go on from it can't be gone on from any more.

        Raises:
            UnknownResponseError: if it isn't there, or is somebody else's.
        """
        self._num_bytes[tenant] -= len(self._find(tenant, response_id, "response_id").body)
        del self._records[tenant][response_id]

    def _find(self, tenant: str, response_id: str, param: str, *, since: str | None = None) -> _Record:
        record = self._records[tenant].get(response_id) if tenant in self._records else None
        if record is not None:
            return record
        before = f", which {since!r} goes on from" if since not in (None, response_id) else ""
        raise UnknownResponseError(
            f"There is no response {response_id!r:.100}{before}. It was deleted, wasn't stored (store=false), or was "
            f"dropped: the last {self.max_responses} are kept, as long as the server runs. Send the conversation as "
            "input items instead.",
            param,
        )

    def _use(self, records: OrderedDict[str, _Record], response_id: str | None) -> None:
        while response_id is not None and (record := records.get(response_id)) is not None:
            records.move_to_end(response_id)
            response_id = record.previous


def _turn(record: _Record) -> Turn:
    return Turn(**json.loads(record.body))
