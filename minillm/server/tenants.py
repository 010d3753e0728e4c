"""Who may use the server, and how much of it.

A key belongs to a tenant. A tenant has its own part of the prefix cache, its share of the scheduler, and its limits.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minillm.errors import MinillmError
from minillm.server.errors import RateLimitedError

_FIELDS = ("keys", "max_requests", "tokens_per_minute")


class Tenant:
    """One who uses the server. Belongs to the event loop's thread.

    Attributes:
        name: what the engine, the prefix cache and the log know it by.
        max_requests: the most HTTP requests in flight; None sets no limit.
        tokens_per_minute: the most tokens, of prompts and outputs together; None sets no limit.
        num_requests: in flight now.
    """

    def __init__(
        self,
        name: str = "",
        *,
        max_requests: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.max_requests, self.tokens_per_minute = name, max_requests, tokens_per_minute
        self.num_requests = 0
        self._clock, self._filled_at = clock, clock()
        # A bucket that fills steadily and holds a minute's worth. A request may begin while there's something in it,
        # and may overdraw it, since nobody knows beforehand how long an answer gets; the debt is waited for.
        self._tokens = float(tokens_per_minute or 0)

    @contextmanager
    def request(self, num_prompt_tokens: int) -> Iterator[None]:
        """Counts a request while it runs, and its prompt's tokens.

        Raises:
            RateLimitedError: if the tenant is over a limit. Nothing is counted then.
        """
        if self.max_requests is not None and self.num_requests >= self.max_requests:
            raise RateLimitedError(
                f"{self.num_requests} requests of yours are running, which is your limit. Wait for one to end.", 1
            )
        if self.tokens_per_minute is not None:
            self._fill()
            if self._tokens <= 0:
                wait = (1 - self._tokens) * 60 / self.tokens_per_minute
                raise RateLimitedError(
                    f"You have used your {self.tokens_per_minute} tokens a minute. Try again in {wait:.0f} s.", wait
                )
        self.num_requests += 1
        self.charge(num_prompt_tokens)
        try:
            yield
        finally:
            self.num_requests -= 1

    def charge(self, num_tokens: int) -> None:
        """Counts tokens against the limit; a negative number gives them back."""
        if self.tokens_per_minute is not None:
            self._tokens -= num_tokens

    def _fill(self) -> None:
        assert self.tokens_per_minute is not None
        now = self._clock()
        gained = (now - self._filled_at) * self.tokens_per_minute / 60
        self._tokens, self._filled_at = min(self._tokens + gained, float(self.tokens_per_minute)), now


class Tenants:
    """Finds the tenant of an API key. Keeps hashes of the keys only."""

    def __init__(self, keys: Mapping[str, Tenant] | None = None) -> None:
        """Takes the tenants in.

        Args:
            keys: each key, or "sha256:" and the hash of one in hex, with its tenant. None lets everybody in, as one
                tenant without limits.
        """
        self._everybody = Tenant() if keys is None else None
        self._by_digest = {_digest(key): tenant for key, tenant in (keys or {}).items()}

    @classmethod
    def load(cls, path: str | Path) -> Tenants:
        """Reads a TOML file with a table for each tenant.

        ```toml
        [ann]
        keys = ["sk-…", "sha256:…"]   # as they are, or hashed (printf %s "$KEY" | sha256sum)
        max_requests = 8              # in flight; optional
        tokens_per_minute = 60000     # optional
        ```

        Raises:
            MinillmError: if it can't be read, or holds something else.
        """
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise MinillmError(f"The keys file {path} can't be read: {error}") from error
        tenants: dict[str, Tenant] = {}
        for name, table in tables.items():
            keys, limits = _check_table(str(path), name, table)
            tenant = Tenant(name, **limits)
            for key in keys:
                if any(_digest(key) == _digest(other) for other in tenants):
                    raise MinillmError(f"In {path}, a key of [{name}] is there twice. Each belongs to one tenant.")
                tenants[key] = tenant
        if not tenants:
            raise MinillmError(f'{path} has no keys. Write a table for each tenant, such as: [ann] keys = ["sk-…"]')
        return cls(tenants)

    @property
    def need_keys(self) -> bool:
        """Whether nobody gets in without a key."""
        return self._everybody is None

    def find(self, key: str | None) -> Tenant | None:
        """The tenant that a key belongs to; None for a wrong or missing one."""
        if self._everybody is not None:
            return self._everybody
        digest, found = _digest(key or "", hashed_ok=False), None
        for known, tenant in self._by_digest.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(known, digest):
                found = tenant
        return found if key else None


def _digest(key: str, *, hashed_ok: bool = True) -> bytes:
    if hashed_ok and key.startswith("sha256:"):
        return bytes.fromhex(key.removeprefix("sha256:"))
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _check_table(path: str, name: str, table: Any) -> tuple[list[str], dict[str, Any]]:
    """Keys and limits of a tenant. Messages never quote a key."""
    if not isinstance(table, dict) or not isinstance(keys := table.get("keys"), list) or not keys:
        raise MinillmError(f'In {path}, [{name}] needs keys, such as: keys = ["sk-…"].')
    if unknown := sorted(set(table) - set(_FIELDS)):
        raise MinillmError(f"In {path}, [{name}] has {', '.join(unknown)}; known are {', '.join(_FIELDS)}.")
    for key in keys:
        if not isinstance(key, str) or not key.strip():
            raise MinillmError(f"In {path}, a key of [{name}] is empty or not a string.")
        if key.startswith("sha256:") and not _is_sha256(key.removeprefix("sha256:")):
            raise MinillmError(f"In {path}, a hash of [{name}] is not 64 hexadecimal digits.")
    limits = {field: table[field] for field in _FIELDS[1:] if field in table}
    for field, value in limits.items():
        if type(value) is not int or value < 1:
            raise MinillmError(f"In {path}, {field} of [{name}] is {value!r}; expected a whole number from 1.")
    return keys, limits


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdefABCDEF" for char in text)
