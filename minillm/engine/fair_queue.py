"""The queue of waiting requests: whose turn it is, and that nobody's never comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace

from minillm.engine.request import Request


@dataclass(eq=False)
class _Tenant:
    """What the queue knows of a tenant: tokens scheduled, requests unfinished, requests waiting (first one first)."""

    name: str
    service: int = 0
    num_unfinished: int = 0
    waiting: OrderedDict[str, Request] = field(default_factory=OrderedDict)
    is_ranked: bool = False

    @property
    def first(self) -> Request:
        return next(iter(self.waiting.values()))

    @property
    def rank(self) -> tuple[int, int, str]:
        return self.service, self.first.arrival, self.name


class FairQueue:
    """The waiting requests. Whose turn it is costs O(log tenants), however many wait.

    The tenant with the least service goes first, where service is the tokens scheduled for it (a virtual token
    counter, arXiv:2401.00588). A tenant that comes back is lifted to the least of those active, so that nobody saves
    up credit by staying away. A request that has been first of its tenant for `aging_steps` steps goes before all
    others: however many new tenants come with less service, it doesn't starve.

    Attributes:
        steps: how many there were; whoever uses the queue counts them.
    """

    def __init__(self, aging_steps: int) -> None:
        self.aging_steps = aging_steps
        self.steps = 0
        self._tenants: dict[str, _Tenant] = {}
        self._num_waiting = 0
        # A heap with at most one entry per tenant. Service only grows, so an outdated entry comes up too early, never
        # too late, and is corrected then.
        self._ranking: list[tuple[int, int, str]] = []
        self._heads: OrderedDict[str, int] = OrderedDict()  # tenant: since which step its first one is the first
        self._prune_at = 64

    def __len__(self) -> int:
        return self._num_waiting

    def __contains__(self, request: Request) -> bool:
        tenant = self._tenants.get(request.tenant)
        return tenant is not None and tenant.waiting.get(request.request_id) is request

    def activate(self, name: str, running: Iterable[Request]) -> None:
        """Counts one more unfinished request of a tenant. `running`: the unfinished ones outside of the queue."""
        tenant = self._tenants.get(name)
        if tenant is None or not tenant.num_unfinished:
            services = [self._tenants[request.tenant].service for request in running]
            if least_served := self._least_served():
                services.append(least_served.service)
            if not services:
                self._tenants.clear()  # nobody is active, so there's nothing to share: all start anew
            least = min(services, default=0)
            if len(self._tenants) >= self._prune_at:
                self._prune(least)
            tenant = self._tenants.setdefault(name, _Tenant(name))
            tenant.service = max(tenant.service, least)
        tenant.num_unfinished += 1

    def deactivate(self, name: str) -> None:
        """Counts one unfinished request less."""
        self._tenants[name].num_unfinished -= 1

    def charge(self, name: str, num_tokens: int) -> None:
        """Counts tokens that a tenant was given."""
        self._tenants[name].service += num_tokens

    def append(self, request: Request, at_front: bool = False) -> None:
        """Puts a request at its tenant's end, or at the front if it's one that was preempted."""
        tenant = self._tenants[request.tenant]
        tenant.waiting[request.request_id] = request
        self._num_waiting += 1
        if at_front:
            tenant.waiting.move_to_end(request.request_id, last=False)
        if tenant.first is request:
            self._on_new_first(tenant)

    def remove(self, request: Request) -> None:
        """Takes a request out, wherever it stands."""
        tenant = self._tenants[request.tenant]
        was_first = tenant.first is request
        del tenant.waiting[request.request_id]
        self._num_waiting -= 1
        if was_first:
            self._on_new_first(tenant)

    def first(self) -> Request | None:
        """Whose turn it is; None if nobody waits."""
        if not self._heads:
            return None
        name, since = next(iter(self._heads.items()))
        if self.steps - since > self.aging_steps:
            return self._tenants[name].first
        tenant = self._least_served()
        return None if tenant is None else tenant.first

    def _least_served(self) -> _Tenant | None:
        """Of the tenants with waiting requests, the one with the least service."""
        while self._ranking:
            tenant = self._tenants[self._ranking[0][-1]]
            if not tenant.waiting:
                heappop(self._ranking)
                tenant.is_ranked = False
            elif self._ranking[0] == tenant.rank:
                return tenant
            else:
                heapreplace(self._ranking, tenant.rank)
        return None

    def _on_new_first(self, tenant: _Tenant) -> None:
        self._heads.pop(tenant.name, None)
        if tenant.waiting:
            self._heads[tenant.name] = (
                self.steps
            )  # at the end: the one that's the first of its tenant for longest leads
            if not tenant.is_ranked:
                tenant.is_ranked = True
                heappush(self._ranking, tenant.rank)

    def _prune(self, least: int) -> None:
        """Forgets idle tenants that would be lifted to `least` anyway; in all it costs O(1) for each new tenant."""
        for name, tenant in list(self._tenants.items()):
            if not (tenant.num_unfinished or tenant.is_ranked) and tenant.service <= least:
                del self._tenants[name]
        self._prune_at = 64 + 2 * len(self._tenants)
