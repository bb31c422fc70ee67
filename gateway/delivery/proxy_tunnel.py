"""Open a tunnel to a vendor through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6)."""

import asyncio
import re
import socket

from gateway.config.proxy import Proxy
from gateway.delivery.request_head import Origin

MAX_HEAD = 64 * 1024
"""Bytes of a proxy's response that are read."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)[ \r]")
_END = b"\r\n\r\n"
_AUTHENTICATE = 407


async def open_tunnel(made: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Ask *proxy*, at the other end of *made*, for a tunnel to *origin*.

    What the proxy says beside the status is not repeated: it is not the vendor's word.

    Raises:
        OSError: there is no tunnel.
    """
    loop = asyncio.get_running_loop()
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    await loop.sock_sendall(made, "\r\n".join([*lines, "", ""]).encode())
    head = b""
    while _END not in head and len(head) < MAX_HEAD:
        piece = await loop.sock_recv(made, MAX_HEAD)
        if not piece:
            raise ConnectionError("the proxy closed the connection")
        head += piece
    status = _STATUS.match(head)
    if status is None or _END not in head:
        raise ConnectionError("the proxy sent no valid response")
    code = int(status[1])
    if code == _AUTHENTICATE:
        raise ConnectionError("the proxy wants another user or password (status 407)")
    if code // 100 != 2:  # noqa: PLR2004 - 2xx, RFC 9110 section 9.3.6
        raise ConnectionError(f"the proxy opens no tunnel (status {code})")
    if not head.endswith(_END) or head.count(_END) > 1:
        raise ConnectionError("the proxy sent more than its response")
