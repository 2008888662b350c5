"""The lease of an account: one trader across hosts, compared by the gate at every order."""

from __future__ import annotations

from shared.errors import LeaseLost
from shared.keys import LEASE_TTL_SECONDS
from shared.store import Store, translated_errors
from worker.failpoints import failpoint

# KEYS 1 lease. ARGV 1 owner, 2 ttl in ms, 3 what an owner of this very lock file starts with.
_TAKE = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] and string.sub(found, 1, #ARGV[3]) ~= ARGV[3] then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """``lease:account:{name}``: whose owner id starts with the identity of the kernel lock that its process holds.

    Whoever holds that kernel lock may take over a lease left by a dead process of the same lock at once; a lease of
    anybody else is waited for.
    """

    def __init__(self, store: Store, account: str, lock_identity: str, entropy: str) -> None:
        self._store, self._key = store, store.keys.lease(account)
        self._mine = f"{lock_identity}#"
        self.owner = f"{self._mine}{entropy}"
        self._take = store.client.register_script(_TAKE)
        self._renew = store.client.register_script(_RENEW)
        self._release = store.client.register_script(_RELEASE)

    def take(self) -> str | None:
        """Take it; else return who holds it. Raises StoreUnreachable."""
        failpoint("lease.take")
        with translated_errors():
            holder = self._take(keys=[self._key], args=[self.owner, LEASE_TTL_SECONDS * 1000, self._mine])
        failpoint("lease.taken")
        return None if holder is None else holder.decode(errors="replace")

    def renew(self) -> None:
        """Keep it. Raises LeaseLost where it is gone or another's, StoreUnreachable where that is not known."""
        failpoint("lease.renew")
        with translated_errors():
            kept = self._renew(keys=[self._key], args=[self.owner, LEASE_TTL_SECONDS * 1000])
        failpoint("lease.renewed")
        if not kept:
            raise LeaseLost("the lease of the account is gone or another trader's")

    def release(self) -> None:
        """Give it back, if it is ours."""
        failpoint("lease.release")
        with translated_errors():
            self._release(keys=[self._key], args=[self.owner])
