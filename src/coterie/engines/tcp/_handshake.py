"""Who may talk: versions, and proof of the cluster key. Pure: messages in, messages out.

    caller                          listener
    Hello(magic, version, a)  --->
                              <---  Welcome(version, b, HMAC(key, "listener" a b))
    Proof(HMAC(key, "caller" a b)) --->                      only where there is a key

Each side proves the key over the other's fresh nonce, in its own role, so that no proof can be
replayed or reflected (the pattern of SCRAM, RFC 5802, without its passwords).
"""

from __future__ import annotations

import hashlib
import hmac

from ...errors import Outcome, PermissionDenied, ProtocolError, Unavailable
from ..common.calls import printable
from .messages import MAGIC, VERSION, Hello, Message, Proof, Reject, Welcome

__all__ = ["CallerHandshake", "ListenerHandshake"]

_NONCE_BYTES = 16


def _prove(key: str, role: str, a: bytes, b: bytes) -> bytes:
    return hmac.digest(key.encode(), role.encode() + a + b, hashlib.sha256)


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != _NONCE_BYTES:
        raise ProtocolError(f"a nonce has {_NONCE_BYTES} bytes, not {len(nonce)}")


class CallerHandshake:
    """The side that connects. `nonce` is 16 fresh random bytes."""

    def __init__(self, key: str, nonce: bytes) -> None:
        self._key = key
        self._nonce = nonce

    def hello(self) -> Hello:
        return Hello(MAGIC, VERSION, self._nonce)

    def receive(self, message: Message) -> Proof | None:
        """Take the listener's answer; the handshake is complete when what is returned is sent.

        Raises `PermissionDenied`, `ProtocolError`, and `Unavailable` if the listener drains.
        """
        if isinstance(message, Reject):
            said = f"the peer refused the connection: {printable(message.message)}"
            if message.code == Unavailable.code:  # It drains, and takes nothing new.
                raise Unavailable(said, outcome=Outcome.NOT_APPLIED)
            raise (PermissionDenied if message.code == PermissionDenied.code else ProtocolError)(said)
        if not isinstance(message, Welcome):
            raise ProtocolError(f"the peer began with {type(message).__name__} and not with a welcome")
        if message.version != VERSION:
            raise ProtocolError(f"the peer speaks version {message.version} of the wire, not {VERSION}")
        _check_nonce(message.nonce)
        if not self._key:
            if message.proof:
                raise PermissionDenied(
                    "the peer demands a cluster key", hint="set COTERIE_CLUSTER_KEY to the one of the cluster"
                )
            return None
        if not hmac.compare_digest(message.proof, _prove(self._key, "listener", self._nonce, message.nonce)):
            raise PermissionDenied(
                "the peer does not know the cluster key", hint="is COTERIE_CLUSTER_KEY the same on all nodes?"
            )
        return Proof(_prove(self._key, "caller", self._nonce, message.nonce))


class ListenerHandshake:
    """The side that was connected to. `complete` tells when calls may be taken."""

    def __init__(self, key: str, nonce: bytes) -> None:
        self._key = key
        self._nonce = nonce
        self._expected: bytes | None = None
        self.complete = False

    def receive(self, message: Message) -> Welcome | None:
        """Take the caller's next message and return what to answer.

        Raises `PermissionDenied` or `ProtocolError`, whose message the caller may see.
        """
        if self._expected is not None:
            if not isinstance(message, Proof) or not hmac.compare_digest(message.proof, self._expected):
                raise PermissionDenied("the caller did not prove that it knows the cluster key")
            self.complete = True
            return None
        if not isinstance(message, Hello) or message.magic != MAGIC:
            raise ProtocolError("a connection begins with a hello")
        if message.version != VERSION:
            raise ProtocolError(f"version {message.version} of the wire is not spoken here, only {VERSION}")
        _check_nonce(message.nonce)
        if not self._key:
            self.complete = True
            return Welcome(VERSION, self._nonce, b"")
        self._expected = _prove(self._key, "caller", message.nonce, self._nonce)
        return Welcome(VERSION, self._nonce, _prove(self._key, "listener", message.nonce, self._nonce))
