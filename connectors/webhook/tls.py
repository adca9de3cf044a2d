"""Trust for calls to receivers: full verification, and handshakes that are shortened by sessions of earlier ones. Used by the engines."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import Self

import certifi

SESSIONS_MAX = 1_024


class Trust(ssl.SSLContext):
    """
    A context that resumes the last session of each host.

    asyncio has no parameter for a session, but it makes every connection with :meth:`wrap_bio`. A resumed session was verified when it was
    new, for the same host name and by the same context. Source: RFC 8446, 2.2.
    """

    _sessions: OrderedDict[str, ssl.SSLSession]

    def __new__(cls) -> Self:
        """A client's context, which verifies certificate and host name."""
        found = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        found.set_alpn_protocols(["http/1.1"])
        found._sessions = OrderedDict()
        return found

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """See :meth:`ssl.SSLContext.wrap_bio`; offers the host's last session."""
        host = server_hostname.decode("ascii") if isinstance(server_hostname, bytes) else server_hostname
        session = session or self._sessions.get(host or "")
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, connection: ssl.SSLObject) -> None:
        """Take a connection's session for the next one to its host; call it after bytes have come, as tickets follow the handshake."""
        host, session = connection.server_hostname, connection.session
        if host is None or session is None:
            return
        self._sessions[host] = session
        self._sessions.move_to_end(host)
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)


def trusted() -> Trust:
    """Verifies against this machine's certificate authorities and, since some machines have none where Python looks, those of certifi."""
    tls = Trust()
    tls.load_default_certs(ssl.Purpose.SERVER_AUTH)
    tls.load_verify_locations(certifi.where())
    return tls
