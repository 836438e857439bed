"""Raw connections by HTTP/2, and what a case may expect of one."""

import socket
import struct
import time

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 6, 7, 8, 9

LIMIT = 5.0


class Failed(Exception):
    """A case did not get what it expects."""


def frame(kind, flags, stream, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(identifier, value):
    return struct.pack(">HI", identifier, value)


class Connection:
    """A connection on which the preface was sent, unless a case wants to send it by itself."""

    def __init__(self, port, settings=b"", begins=True):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.received, self.seen = b"", []
        if begins:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
            first = self.next()
            if first is None or first[0] != SETTINGS or first[1] & ACK:
                raise Failed(f"the first frame is not SETTINGS: {first}")
            self.settings = dict(struct.unpack(">HI", first[3][at : at + 6]) for at in range(0, len(first[3]), 6))
            self.send(frame(SETTINGS, ACK, 0))
            self.until(lambda kind, flags, _stream, _payload: kind == SETTINGS and flags & ACK)

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # The other side has closed; what it said before is still read.

    def next(self):
        """Returns the next frame: kind, flags, stream, payload; none at the end."""
        while len(self.received) < 9 or len(self.received) < 9 + int.from_bytes(self.received[:3], "big"):
            try:
                block = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                block = b""
            except TimeoutError:
                raise Failed(f"nothing more came within {LIMIT} s, after {self.names()}") from None
            if not block:
                return None
            self.received += block
        length = int.from_bytes(self.received[:3], "big")
        kind, flags = self.received[3], self.received[4]
        stream = struct.unpack(">I", self.received[5:9])[0] & 0x7FFFFFFF
        payload = self.received[9 : 9 + length]
        self.received = self.received[9 + length :]
        self.seen.append((kind, flags, stream, payload))
        return self.seen[-1]

    def names(self):
        words = "DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION".split()
        return [f"{words[kind] if kind < 10 else kind} {flags} {stream} {payload[:16].hex()}" for kind, flags, stream, payload in self.seen[-6:]]

    def until(self, wanted):
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            found = self.next()
            if found is None:
                raise Failed(f"the connection was closed, after {self.names()}")
            if wanted(*found):
                return found
        raise Failed(f"it did not come, after {self.names()}")

    # What a case sends.

    def block(self, fields):
        return self.encoder.encode(fields, huffman=False)

    def request(self, stream=1, path="/n", method="GET", extra=(), ends=True, **changes):
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop.example.com")]
        fields = [(name, changes.get(name[1:], value)) for name, value in fields]
        fields += list(extra)
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, self.block(fields)))

    # What a case expects.

    def goes_away(self, *codes):
        """An error of the connection: a GOAWAY with one of these codes, and then its end."""
        while True:
            found = self.next()
            if found is None:
                raise Failed(f"the connection was closed without a reason, after {self.names()}")
            if found[0] == GOAWAY:
                code = struct.unpack(">I", found[3][4:8])[0]
                if code not in codes:
                    raise Failed(f"GOAWAY {code} instead of {codes}")
                self.ends()
                return

    def ends(self):
        while self.next() is not None:
            pass

    def is_reset(self, stream, *codes):
        """An error of a stream, or of the whole connection, with one of these codes."""
        while True:
            found = self.next()
            if found is None:
                raise Failed(f"the connection was closed without a reason, after {self.names()}")
            kind, _flags, at, payload = found
            if kind == RST_STREAM and at == stream:
                code = struct.unpack(">I", payload)[0]
            elif kind == GOAWAY:
                code = struct.unpack(">I", payload[4:8])[0]
            else:
                continue
            if code not in codes:
                raise Failed(f"{'RST_STREAM' if kind == RST_STREAM else 'GOAWAY'} {code} instead of {codes}")
            return

    def answers(self, stream=1, status="200"):
        """A whole answer; returns its body."""
        body, has_head = b"", False
        while True:
            kind, flags, at, payload = self.until(lambda kind, _flags, at, _payload: at == stream or kind == GOAWAY)
            if kind == GOAWAY or kind == RST_STREAM:
                raise Failed(f"no answer, but {self.names()}")
            if kind == HEADERS:
                fields = dict(self.decoder.decode(payload))
                if not has_head and fields.get(":status") != status:
                    raise Failed(f"status {fields.get(':status')} instead of {status}")
                has_head = True
            if kind == DATA:
                body += payload
            if flags & END_STREAM and kind in (DATA, HEADERS):
                if not has_head:
                    raise Failed("a body without a head")
                return body

    def lives(self):
        """The connection works: a PING comes back."""
        self.send(frame(PING, 0, 0, b"conforms"))
        found = self.until(lambda kind, flags, _stream, _payload: kind == PING and flags & ACK)
        if found[3] != b"conforms":
            raise Failed(f"PING came back as {found[3]!r}")
