"""A websocket for market data: the protocol of ``websockets``, on a socket that one thread reads in large pieces.

Its own client hands every message from thread to thread, which costs more than decoding it does. A frame that is a
message by itself, as nearly all of them are, is cut out here, in a tenth of the time that the protocol takes for it:
handshake, pings, pieces, good-byes and everything that is wrong are the protocol's.
"""

from __future__ import annotations

import socket
import ssl
import time

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

_PIECE = 1 << 16
_TEXT, _BINARY, _CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
"""Looking a member up in its class takes longer than the question, and it is asked at every message."""
LARGEST_MESSAGE = 1 << 20
_WHOLE = (0x81, 0x82)
"""How a text or binary message begins that is one frame, by no extension."""
_END_OF_HEAD = b"\r\n\r\n"


class SocketLost(OSError):
    """The connection is gone or was never there; the text says why."""


class FeedSocket:
    """One connection. Not for several threads, but for ``abort``."""

    def __init__(self, url: str, open_seconds: float, headers: dict[str, str] | None = None) -> None:
        """Connect and shake hands. Raises SocketLost."""
        try:
            uri = parse_uri(url)
        except InvalidURI as error:
            raise SocketLost(str(error)) from error
        self._protocol = ClientProtocol(uri, max_size=LARGEST_MESSAGE)
        self._parts: list[bytes] = []
        self._messages: list[bytes] = []
        self._rest = b""
        self._timeout = -1.0
        deadline = time.monotonic() + open_seconds
        try:
            raw = socket.create_connection((uri.host, uri.port), timeout=open_seconds)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                context = ssl.create_default_context() if uri.secure else None
                self._socket = context.wrap_socket(raw, server_hostname=uri.host) if context else raw
                self._shake_hands(headers or {}, deadline)
            except BaseException:
                raw.close()
                raise
        except SocketLost:
            raise
        except (OSError, WebSocketException, ValueError) as error:
            raise SocketLost(f"{uri.host}:{uri.port}: {error or type(error).__name__}") from error

    def _shake_hands(self, headers: dict[str, str], deadline: float) -> None:
        protocol = self._protocol
        request = protocol.connect()
        for name, value in headers.items():
            request.headers[name] = value
        protocol.send_request(request)
        self._flush()
        tail = b""
        while protocol.state is State.CONNECTING:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SocketLost("no answer to the handshake")
            self._socket.settimeout(left)
            if tail == _END_OF_HEAD:
                data = self._socket.recv(_PIECE)
            else:  # byte by byte: after the head begin frames, which the protocol must not see
                data = self._socket.recv(1)
                tail = tail[-3:] + data
            if data:
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
            if protocol.handshake_exc is not None:
                raise SocketLost(f"refused: {protocol.handshake_exc}")
            if not data:
                raise SocketLost("closed during the handshake")

    def send(self, message: str | bytes) -> None:
        """As text, or as bytes. Raises SocketLost."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    def receive(self, seconds: float) -> list[bytes]:
        """The messages that have come, whole; none after so long. Raises SocketLost."""
        if self._messages:
            found, self._messages = self._messages, []
            return found
        if self._protocol.state is not State.OPEN:
            raise SocketLost(self._closing_words())
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds
        try:
            data = self._socket.recv(_PIECE)
        except (TimeoutError, ssl.SSLWantReadError):
            return []
        except (OSError, ValueError) as error:  # ValueError: TLS, ended by ``abort`` meanwhile
            raise SocketLost(str(error)) from error
        if not data:
            self._protocol.receive_eof()
            raise SocketLost(self._closing_words())
        self._cut(data)
        if self._protocol.state is not State.OPEN and not self._messages:
            raise SocketLost(self._closing_words())
        found, self._messages = self._messages, []
        return found

    def _cut(self, data: bytes) -> None:
        """Take whole frames; what is left of ``data`` waits for more. What has no sense is handed on as it is."""
        if self._rest:
            data = self._rest + data
        messages, at, end = self._messages, 0, len(data)
        while at + 2 <= end:
            size, body = data[at + 1], at + 2
            if size == 126 or size == 127:
                body = at + (4 if size == 126 else 10)
                if body > end:
                    break
                size = int.from_bytes(data[at + 2 : body], "big")
            elif size > 127:  # masked, which a server's frame must not be
                size = LARGEST_MESSAGE + 1
            after = body + size if size <= LARGEST_MESSAGE else end
            if after > end:
                break
            if size <= LARGEST_MESSAGE and data[at] in _WHOLE and not self._parts:
                messages.append(data[body:after])
            elif not self._understood(data[at:after]):
                after = end
            at = after
        self._rest = data[at:]

    def _understood(self, frame: bytes) -> bool:
        """Let the protocol take one frame, and answer; whether the connection is open after it."""
        self._protocol.receive_data(frame)
        self._collect()
        self._flush()
        return self._protocol.state is State.OPEN

    def _collect(self) -> None:
        messages, parts = self._messages, self._parts
        for event in self._protocol.events_received():
            if type(event) is not Frame:
                continue
            opcode, whole = event.opcode, event.fin
            if whole and (opcode is _TEXT or opcode is _BINARY):
                messages.append(bytes(event.data))
            elif opcode is _CONT or opcode is _TEXT or opcode is _BINARY:
                parts.append(bytes(event.data))
                if whole:
                    messages.append(b"".join(parts))
                    parts.clear()

    def _flush(self) -> None:
        """Send what the protocol has to say: our messages, and the answers to pings."""
        try:
            for piece in self._protocol.data_to_send():
                if piece:
                    self._socket.sendall(piece)
                else:
                    self._socket.shutdown(socket.SHUT_WR)
        except (OSError, ValueError) as error:
            raise SocketLost(str(error)) from error

    def _closing_words(self) -> str:
        received = self._protocol.close_rcvd
        if received is not None:
            return f"closed by the server: {received.code} {received.reason}".rstrip()
        error = self._protocol.parser_exc
        torn = error is not None and not isinstance(error, EOFError)
        return f"broken frame: {error}" if torn else "closed without a word"

    def abort(self) -> None:
        """From any thread: whoever reads is woken by the end of the connection."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Say good-bye without waiting for an answer."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close()
                self._socket.settimeout(0.2)
                self._flush()
        except (OSError, WebSocketException):
            self.abort()
        finally:
            self._socket.close()
