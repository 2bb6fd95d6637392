"""Who a request is from, by the key that it shows: a bearer, or the cookie of a browser.

**What is looked at.** The key as ``Authorization: Bearer <key>``, as the field of the sign-in,
and in ``/admin/<key>``; else a cookie. A bearer that is no key of ours is refused, also where
no key is needed: whoever sends one wants to be known by it, and to be told that it was taken
back. Where a server has no key at all, bearers mean nothing.

**Guessing.** Keys of ``modelrunner key add`` have 192 random bits, and cookies are sealed with
256: these nobody guesses, so they are let in whatever else came from their address. What a
keeper chose for ``--admin-key`` may be short. So an address from which too many wrong keys came
(``web.tries``) has to wait, and meanwhile that key alone is not compared.

**The cookie** is the key's name, and a seal over name and hash with a secret of the data
directory: who reads a cookie jar can be signed in, but learns no key, and cannot try the
cookies of guessed keys either. It ends with its key.
"""

from __future__ import annotations

import hmac
import logging
import math

from primary.accesskeys import ADMIN, AccessKey, digest
from primary.keyring import Keyring
from primary.roles import greater
from web.access import Access, Headers
from web.identity import CHALLENGE, Who
from web.problems import Problem
from web.tries import Tries

COOKIE = "modelrunner_key"
_SEALED = b"Model Runner: signed in\0"

log = logging.getLogger(__name__)


class Gate:
    """Thread-safe. ``secret`` seals cookies; ``tries`` counts wrong keys."""

    def __init__(
        self, access: Access, keys: Keyring, secret: bytes, tries: Tries | None = None
    ) -> None:
        self._access, self._keys, self._secret = access, keys, secret
        self._tries = tries or Tries()
        self._chosen = _chosen(access.admin_key)

    def keyed(self) -> bool:
        """Whether there is any key to sign in with."""
        return self._chosen is not None or bool(self._keys.keys())

    def trouble(self) -> str:
        """Why the file of keys does not count as it is now, or ""."""
        return self._keys.trouble()

    def who(self, headers: Headers, address: str) -> Who:
        """Who asks. Raises Problem for a bearer that is no key."""
        known = self.by_cookie(headers)
        given = _bearer(headers)
        if known.signed_in or given is None or not self.keyed():
            return known
        key = self._key(given, address)
        if key is None:
            raise Problem(
                401,
                "the key that was sent is none of this server's, or none any more; ask its "
                "keeper for one" + ("" if known.role == "none" else ", or ask without it"),
                headers={
                    "WWW-Authenticate": f'{CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'
                },
            )
        return self._signed_in(key, known)

    def by_cookie(self, headers: Headers) -> Who:
        """The same, but bearers are not looked at: it tells nobody whether one is right."""
        nobody = Who(self._access.role(headers))
        name, _, seal = headers.cookie(COOKIE).rpartition(".")
        chosen = self._chosen if name == ADMIN else self._keys.named(name)
        if chosen is None:
            return nobody
        given = seal.encode(errors="replace")
        if not hmac.compare_digest(given, self._seal(chosen).encode()):
            return nobody
        return self._signed_in(chosen, nobody)

    def sign_in(self, given: str, address: str) -> str | None:
        """The cookie for a browser that shows this key; None if it is no key. Raises Problem."""
        key = self._key(given.encode(errors="replace"), address)
        return None if key is None else f"{key.name}.{self._seal(key)}"

    def _key(self, given: bytes, address: str) -> AccessKey | None:
        """The key with this text. Raises Problem (429)."""
        shown = digest(given)
        if found := self._keys.find(shown):
            return found
        wait = math.ceil(self._tries.wait(address))
        if wait:
            raise Problem(
                429,
                f"too many keys that are none came from {address}: wait {wait} s. Browsers that "
                "are signed in, and keys of 'modelrunner key add', are let in meanwhile",
                headers={"Retry-After": str(wait)},
            )
        if self._chosen is not None and hmac.compare_digest(self._chosen.digest, shown):
            return self._chosen
        if seconds := self._tries.failed(address):
            log.warning("%s showed a wrong key again, and has to wait %.0f s", address, seconds)
        return None

    @staticmethod
    def _signed_in(key: AccessKey, nobody: Who) -> Who:
        # A key takes nothing away of what may be done without one.
        return Who(greater(key.role, nobody.role), key.name)

    def _seal(self, key: AccessKey) -> str:
        text = _SEALED + key.name.encode() + b"\0" + key.digest
        return hmac.new(self._secret, text, "sha256").hexdigest()


def _chosen(admin_key: str | None) -> AccessKey | None:
    if not admin_key:
        return None
    return AccessKey(name=ADMIN, role="admin", sha256=digest(admin_key.encode()).hex())


def _bearer(headers: Headers) -> bytes | None:
    """The key in the Authorization header, as bytes; None if none is, or an empty one."""
    scheme, _, given = headers.get("Authorization").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return given.strip().encode("latin-1", errors="replace") or None  # as headers come
