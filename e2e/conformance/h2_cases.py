"""The cases of h2spec (https://github.com/summerwind/h2spec), by its numbers, over HTTP/2 without TLS."""

import struct

from wire import *  # noqa: F403

CASES = []


def case(number, title):
    def add(function):
        CASES.append((number, title, function))
        return function

    return add


def simple(number, title, data, expectation, settings=b""):
    """A case that sends bytes on a fresh connection and expects one thing."""

    def run(connection):
        connection.send(data(connection) if callable(data) else data)
        expectation(connection)

    run.settings = settings
    CASES.append((number, title, run))


def away(*codes):
    return lambda connection: connection.goes_away(*codes)


def reset(*codes, stream=1):
    return lambda connection: connection.is_reset(stream, *codes)


def answer(status="200", stream=1):
    return lambda connection: connection.answers(stream, status)


def lives(connection):
    connection.lives()


def get(connection, path="/n", method="GET", extra=()):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop.example.com"), *extra]
    return connection.block(fields)


def head(flags=END_STREAM | END_HEADERS, stream=1, before=b"", after=b"", **options):
    return lambda connection: frame(HEADERS, flags, stream, before + get(connection, **options) + after)


def both(*parts):
    return lambda connection: b"".join(part(connection) if callable(part) else part for part in parts)


def fields(*pairs, stream=1, flags=END_STREAM | END_HEADERS):
    return lambda connection: frame(HEADERS, flags, stream, connection.block(list(pairs)))


OPEN = END_HEADERS
METHOD, SCHEME, PATH, HOST = (":method", "GET"), (":scheme", "http"), (":path", "/n"), (":authority", "shop.example.com")
WINDOW = struct.pack(">I", 1)
# A request that is not answered yet, so that its stream is half-closed by us and open on the other side.
WAITING = dict(path="/gate")

# -- generic/1 Starting HTTP/2
simple("generic/1/1", "a connection preface", b"", lives)

# -- generic/2 Streams and multiplexing
simple("generic/2/1", "PRIORITY on an idle stream", both(frame(PRIORITY, 0, 1, b"\0\0\0\0\x0f"), head()), answer())
simple("generic/2/2", "WINDOW_UPDATE on a half-closed stream", both(head(**WAITING), frame(WINDOW_UPDATE, 0, 1, WINDOW)), lives)
simple("generic/2/3", "PRIORITY on a half-closed stream", both(head(**WAITING), frame(PRIORITY, 0, 1, b"\0\0\0\0\x0f")), lives)
simple("generic/2/4", "RST_STREAM on a half-closed stream", both(head(**WAITING), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))), lives)


@case("generic/2/5", "PRIORITY on a closed stream")
def _(connection):
    connection.request()
    connection.answers()
    connection.send(frame(PRIORITY, 0, 1, b"\0\0\0\0\x0f"))
    connection.lives()


# -- generic/3 Frames
def post(length, *data):
    extra = () if length is None else (("content-length", str(length)),)
    return both(head(flags=OPEN, method="POST", extra=extra), *data)


simple("generic/3.1/1", "a DATA frame", post(4, frame(DATA, END_STREAM, 1, b"test")), answer())
simple("generic/3.1/2", "several DATA frames", post(8, frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")), answer())
simple("generic/3.1/3", "a DATA frame with padding", post(4, frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6))), answer())
simple("generic/3.2/1", "a HEADERS frame", head(), answer())
simple("generic/3.2/2", "a HEADERS frame with padding", head(flags=END_STREAM | END_HEADERS | PADDED, before=b"\x06", after=bytes(6)), answer())
simple("generic/3.2/3", "a HEADERS frame with priority", head(flags=END_STREAM | END_HEADERS | PRIORITIZED, before=b"\0\0\0\0\xff"), answer())
for number, title, payload in [
    (1, "a PRIORITY frame with weight 1", b"\0\0\0\0\0"),
    (2, "a PRIORITY frame with weight 256", b"\0\0\0\0\xff"),
    (3, "a PRIORITY frame with a dependency", b"\0\0\0\x03\xff"),
    (4, "a PRIORITY frame with an exclusive dependency", b"\x80\0\0\x03\xff"),
]:
    simple(f"generic/3.3/{number}", title, both(frame(PRIORITY, 0, 1, payload), head()), answer())
simple("generic/3.3/5", "a PRIORITY frame on an idle stream, then a lower stream", both(frame(PRIORITY, 0, 5, b"\0\0\0\0\x0f"), head(stream=3)), answer(stream=3))
simple("generic/3.4/1", "a RST_STREAM frame", both(head(flags=OPEN, method="POST"), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))), lives)
simple("generic/3.5/1", "a SETTINGS frame", frame(SETTINGS, 0, 0, setting(3, 100)), lambda connection: connection.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK))
simple("generic/3.7/1", "a PING frame", b"", lives)


@case("generic/3.8/1", "a GOAWAY frame")
def _(connection):
    connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR)))
    connection.send(frame(PING, 0, 0, b"conforms"))
    while (found := connection.next()) is not None and not (found[0] == PING and found[1] & ACK):
        pass


@case("generic/3.9/1", "WINDOW_UPDATE on the connection")
def _(connection):
    connection.send(frame(WINDOW_UPDATE, 0, 0, WINDOW))
    connection.request()
    connection.answers()


def window_of_one(update_stream):
    def run(connection):
        connection.request(path="/n")
        first = connection.until(lambda kind, *_: kind == DATA)
        if len(first[3]) != 1:
            raise Failed(f"{len(first[3])} bytes in a window of 1")
        connection.send(frame(WINDOW_UPDATE, 0, update_stream, WINDOW))
        second = connection.until(lambda kind, *_: kind == DATA)
        if len(second[3]) != 1:
            raise Failed(f"{len(second[3])} bytes in a window of 1")

    run.settings = setting(4, 1)
    return run


CASES.append(("generic/3.9/2", "WINDOW_UPDATE on a stream", window_of_one(1)))


def split(*sizes, flags=END_STREAM):
    """A head in a HEADERS frame and CONTINUATION frames of these sizes."""

    def make(connection):
        block, out, at, kind = get(connection), b"", 0, HEADERS
        for size in [*sizes, None]:
            end = len(block) if size is None else at + size
            out += frame(kind, (flags if kind == HEADERS else 0) | (END_HEADERS if size is None else 0), 1, block[at:end])
            at, kind = end, CONTINUATION
        return out

    return make


simple("generic/3.10/1", "a CONTINUATION frame", split(5), answer())
simple("generic/3.10/2", "several CONTINUATION frames", split(3, 4, 5), answer())

# -- generic/4 HTTP message exchanges
simple("generic/4/1", "GET", head(), answer())


@case("generic/4/2", "HEAD")
def _(connection):
    connection.request(method="HEAD")
    if connection.answers() != b"":
        raise Failed("a HEAD with a body")


simple("generic/4/3", "POST", post(4, frame(DATA, END_STREAM, 1, b"test")), answer())
simple("generic/4/4", "POST with trailers", post(4, frame(DATA, 0, 1, b"test"), fields(("x-test", "ok"))), answer())

# -- generic/5 HPACK
RAW = b"\x82\x86\x04\x02/n\x41\x10shop.example.com"


def raw(block):
    return frame(HEADERS, END_STREAM | END_HEADERS, 1, block)


def huffman(text):
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    return bytes([0x80 | len(coded)]) + coded


def literal(text):
    return bytes([len(text)]) + text


simple("generic/5/1", "an indexed field", raw(RAW), answer())
for number, (title, prefix_indexed, prefix_new) in enumerate(
    [("with indexing", b"\x7a", b"\x40"), ("without indexing", b"\x0f\x2b", b"\x00"), ("never indexed", b"\x1f\x2b", b"\x10")]
):
    at = 2 + number * 4
    simple(f"generic/5/{at}", f"a literal {title}, name by index", raw(RAW + prefix_indexed + literal(b"test")), answer())
    simple(f"generic/5/{at + 1}", f"a literal {title}, name by index, Huffman", raw(RAW + prefix_indexed + huffman(b"test")), answer())
    simple(f"generic/5/{at + 2}", f"a literal {title}, new name", raw(RAW + prefix_new + literal(b"x-test") + literal(b"test")), answer())
    simple(f"generic/5/{at + 3}", f"a literal {title}, new name, Huffman", raw(RAW + prefix_new + huffman(b"x-test") + huffman(b"test")), answer())
simple("generic/5/14", "a dynamic table size update", raw(b"\x20" + RAW), answer())
simple("generic/5/15", "two dynamic table size updates", raw(b"\x20\x3f\xe1\x1f" + RAW), answer())


# -- http2/3.5 Connection preface
@case("http2/3.5/1", "the preface is answered by SETTINGS")
def _(connection):
    connection.send(PREFACE + frame(SETTINGS, 0, 0))
    if connection.next()[0] != SETTINGS:
        raise Failed("the first frame is not SETTINGS")


@case("http2/3.5/2", "an invalid preface ends the connection")
def _(connection):
    connection.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    connection.socket.settimeout(LIMIT)
    while connection.socket.recv(65536):
        pass


for number in (1, 2):
    CASES[-3 + number][2].begins = False

# -- http2/4.1 Frame format
simple("http2/4.1/1", "a frame of an unknown type is ignored", frame(0xFF, 0, 0, b"unknown!"), lives)


def pong(connection):
    found = connection.until(lambda kind, flags, *_: kind == PING and flags & ACK)
    if found[3] != bytes(8):
        raise Failed(f"PING came back as {found[3]!r}")


simple("http2/4.1/2", "an undefined flag is ignored", frame(PING, 0xFE, 0, bytes(8)), pong)
simple("http2/4.1/3", "the reserved bit is ignored", frame(PING, 0, 0x80000000, bytes(8)), pong)

# -- http2/4.2 Frame size
simple("http2/4.2/1", "a DATA frame of 2^14 bytes", post(None, frame(DATA, END_STREAM, 1, bytes(16384))), answer())
simple("http2/4.2/2", "a DATA frame that is too large", post(None, frame(DATA, END_STREAM, 1, bytes(16385))), reset(FRAME_SIZE_ERROR))
simple("http2/4.2/3", "a HEADERS frame that is too large", frame(HEADERS, END_STREAM | END_HEADERS, 1, bytes(16385)), away(FRAME_SIZE_ERROR))

# -- http2/4.3 Header compression
simple("http2/4.3/1", "an invalid header block", frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x40"), away(COMPRESSION_ERROR))
simple("http2/4.3/2", "PRIORITY within a header block", both(head(flags=END_STREAM), frame(PRIORITY, 0, 1, b"\0\0\0\0\xff")), away(PROTOCOL_ERROR))
simple("http2/4.3/3", "HEADERS of another stream within a header block", both(head(flags=END_STREAM), head(stream=3)), away(PROTOCOL_ERROR))

# -- http2/5.1 Stream states
RESET_1 = frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))
simple("http2/5.1/1", "idle: DATA", frame(DATA, END_STREAM, 1, b"test"), away(PROTOCOL_ERROR))
simple("http2/5.1/2", "idle: RST_STREAM", RESET_1, away(PROTOCOL_ERROR))
simple("http2/5.1/3", "idle: WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, WINDOW), away(PROTOCOL_ERROR))
simple("http2/5.1/4", "idle: CONTINUATION", lambda c: frame(CONTINUATION, END_HEADERS, 1, get(c)), away(PROTOCOL_ERROR))
simple("http2/5.1/5", "half-closed: DATA", both(head(**WAITING), frame(DATA, END_STREAM, 1, b"test")), reset(STREAM_CLOSED))
simple("http2/5.1/6", "half-closed: HEADERS", both(head(**WAITING), head()), reset(STREAM_CLOSED))
simple("http2/5.1/7", "half-closed: CONTINUATION", both(head(**WAITING), lambda c: frame(CONTINUATION, END_HEADERS, 1, get(c))), away(STREAM_CLOSED, PROTOCOL_ERROR))
simple("http2/5.1/8", "reset: DATA", both(head(flags=OPEN, method="POST"), RESET_1, frame(DATA, END_STREAM, 1, b"test")), reset(STREAM_CLOSED))
simple("http2/5.1/9", "reset: HEADERS", both(head(flags=OPEN, method="POST"), RESET_1, head()), reset(STREAM_CLOSED))
simple("http2/5.1/10", "reset: CONTINUATION", both(head(flags=OPEN, method="POST"), RESET_1, lambda c: frame(CONTINUATION, END_HEADERS, 1, get(c))), away(STREAM_CLOSED, PROTOCOL_ERROR))


def after_the_end(data):
    def run(connection):
        connection.request()
        connection.answers()
        connection.send(data(connection) if callable(data) else data)
        connection.is_reset(1, STREAM_CLOSED, PROTOCOL_ERROR) if data is CONTINUED else connection.is_reset(1, STREAM_CLOSED)

    return run


def CONTINUED(connection):
    return frame(CONTINUATION, END_HEADERS, 1, get(connection))


CASES.append(("http2/5.1/11", "closed: DATA", after_the_end(frame(DATA, END_STREAM, 1, b"test"))))
CASES.append(("http2/5.1/12", "closed: HEADERS", after_the_end(head())))
CASES.append(("http2/5.1/13", "closed: CONTINUATION", after_the_end(CONTINUED)))

# -- http2/5.1.1 Stream identifiers
simple("http2/5.1.1/1", "an even stream", head(stream=2), away(PROTOCOL_ERROR))
simple("http2/5.1.1/2", "a stream below one that was used", both(head(stream=5), head(stream=3)), away(PROTOCOL_ERROR))


@case("http2/5.1.2/1", "more streams than agreed on")
def _(connection):
    most = connection.settings.get(3)
    if most is None:
        raise Failed("no limit of streams is told")
    for number in range(most + 1):
        connection.request(stream=number * 2 + 1, path="/gate")
    connection.is_reset(most * 2 + 1, PROTOCOL_ERROR, REFUSED_STREAM)


# -- http2/5.3.1 Stream dependencies
simple("http2/5.3.1/1", "HEADERS that depends on itself", head(flags=END_STREAM | END_HEADERS | PRIORITIZED, before=b"\0\0\0\x01\xff"), reset(PROTOCOL_ERROR))
simple("http2/5.3.1/2", "PRIORITY that depends on itself", frame(PRIORITY, 0, 2, b"\0\0\0\x02\xff"), reset(PROTOCOL_ERROR, stream=2))

# -- http2/5.4.1, 5.5
simple("http2/5.4.1/1", "an error of the connection ends it", frame(DATA, 0, 0, b"test"), away(PROTOCOL_ERROR))


@case("http2/5.4.1/2", "an error of the connection tells the last stream")
def _(connection):
    connection.request()
    connection.answers()
    connection.send(frame(DATA, 0, 0, b"test"))
    last = connection.until(lambda kind, *_: kind == GOAWAY)
    if struct.unpack(">I", last[3][:4])[0] != 1:
        raise Failed(f"the last stream is {last[3][:4].hex()}")


simple("http2/5.5/1", "an unknown extension frame is ignored", frame(0x16, 0, 0, bytes(8)), lives)
simple("http2/5.5/2", "an unknown extension frame within a header block", both(head(flags=END_STREAM), frame(0x16, 0, 1, bytes(8))), away(PROTOCOL_ERROR))

# -- http2/6.1 DATA
simple("http2/6.1/1", "DATA on stream 0", frame(DATA, END_STREAM, 0, b"test"), away(PROTOCOL_ERROR))
simple("http2/6.1/2", "DATA on a stream that is not open", both(head(**WAITING), frame(DATA, END_STREAM, 1, b"test")), reset(STREAM_CLOSED))
simple("http2/6.1/3", "DATA with too much padding", post(None, frame(DATA, END_STREAM | PADDED, 1, b"\x06test")), away(PROTOCOL_ERROR))

# -- http2/6.2 HEADERS
simple("http2/6.2/1", "PRIORITY behind HEADERS without END_HEADERS", both(head(flags=END_STREAM), frame(PRIORITY, 0, 1, b"\0\0\0\0\xff")), away(PROTOCOL_ERROR))
simple("http2/6.2/2", "HEADERS of another stream behind one without END_HEADERS", both(head(flags=END_STREAM), head(stream=3)), away(PROTOCOL_ERROR))
simple("http2/6.2/3", "HEADERS on stream 0", head(stream=0), away(PROTOCOL_ERROR))
simple("http2/6.2/4", "HEADERS with too much padding", frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\x7f" + RAW), away(PROTOCOL_ERROR))

# -- http2/6.3 PRIORITY, 6.4 RST_STREAM
simple("http2/6.3/1", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, b"\0\0\0\0\xff"), away(PROTOCOL_ERROR))
simple("http2/6.3/2", "PRIORITY of another length than 5", both(head(**WAITING), frame(PRIORITY, 0, 1, b"\x80\0\0\0")), reset(FRAME_SIZE_ERROR))
simple("http2/6.4/1", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, struct.pack(">I", CANCEL)), away(PROTOCOL_ERROR))
simple("http2/6.4/2", "RST_STREAM on an idle stream", RESET_1, away(PROTOCOL_ERROR))
simple("http2/6.4/3", "RST_STREAM of another length than 4", both(head(flags=OPEN, method="POST"), frame(RST_STREAM, 0, 1, b"\0\0\0")), away(FRAME_SIZE_ERROR))

# -- http2/6.5 SETTINGS
simple("http2/6.5/1", "an acknowledgement with a payload", frame(SETTINGS, ACK, 0, b"\0"), away(FRAME_SIZE_ERROR))
simple("http2/6.5/2", "SETTINGS on a stream", frame(SETTINGS, 0, 1, setting(3, 100)), away(PROTOCOL_ERROR))
simple("http2/6.5/3", "SETTINGS of a length that is no multiple of 6", frame(SETTINGS, 0, 0, b"\0\x03\0"), away(FRAME_SIZE_ERROR))
simple("http2/6.5.2/1", "ENABLE_PUSH of 2", frame(SETTINGS, 0, 0, setting(2, 2)), away(PROTOCOL_ERROR))
simple("http2/6.5.2/2", "INITIAL_WINDOW_SIZE above the maximum", frame(SETTINGS, 0, 0, setting(4, 0x80000000)), away(FLOW_CONTROL_ERROR))
simple("http2/6.5.2/3", "MAX_FRAME_SIZE below the minimum", frame(SETTINGS, 0, 0, setting(5, 16383)), away(PROTOCOL_ERROR))
simple("http2/6.5.2/4", "MAX_FRAME_SIZE above the maximum", frame(SETTINGS, 0, 0, setting(5, 16777216)), away(PROTOCOL_ERROR))
simple("http2/6.5.2/5", "an unknown setting is ignored", frame(SETTINGS, 0, 0, setting(0xFF, 1)), lives)


@case("http2/6.5.3/1", "values of a setting are taken in order")
def _(connection):
    connection.send(frame(SETTINGS, 0, 0, setting(4, 100) + setting(4, 1)))
    connection.request()
    first = connection.until(lambda kind, *_: kind == DATA)
    if len(first[3]) != 1:
        raise Failed(f"{len(first[3])} bytes in a window of 1")


simple("http2/6.5.3/2", "SETTINGS are acknowledged", frame(SETTINGS, 0, 0), lambda c: c.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK))

# -- http2/6.7 PING, 6.8 GOAWAY
simple("http2/6.7/1", "PING comes back", b"", lives)


@case("http2/6.7/2", "an acknowledgement of PING is not answered")
def _(connection):
    connection.send(frame(PING, ACK, 0, b"invalid!"))
    connection.lives()


simple("http2/6.7/3", "PING on a stream", frame(PING, 0, 1, bytes(8)), away(PROTOCOL_ERROR))
simple("http2/6.7/4", "PING of another length than 8", frame(PING, 0, 0, bytes(6)), away(FRAME_SIZE_ERROR))
simple("http2/6.8/1", "GOAWAY on a stream", frame(GOAWAY, 0, 1, struct.pack(">II", 0, 0)), away(PROTOCOL_ERROR))

# -- http2/6.9 WINDOW_UPDATE
ZERO, GREATEST = bytes(4), struct.pack(">I", 0x7FFFFFFF)
simple("http2/6.9/1", "an increment of 0 on the connection", frame(WINDOW_UPDATE, 0, 0, ZERO), away(PROTOCOL_ERROR))
simple("http2/6.9/2", "an increment of 0 on a stream", both(head(**WAITING), frame(WINDOW_UPDATE, 0, 1, ZERO)), reset(PROTOCOL_ERROR))
simple("http2/6.9/3", "WINDOW_UPDATE of another length than 4", frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01"), away(FRAME_SIZE_ERROR))
CASES.append(("http2/6.9.1/1", "a window of 1 lets 1 byte through", window_of_one(1)))
simple("http2/6.9.1/2", "a window of the connection above the maximum", frame(WINDOW_UPDATE, 0, 0, GREATEST) * 2, away(FLOW_CONTROL_ERROR))
simple("http2/6.9.1/3", "a window of a stream above the maximum", both(head(**WAITING), frame(WINDOW_UPDATE, 0, 1, GREATEST) * 2), reset(FLOW_CONTROL_ERROR))


def changed(first, second, length):
    def run(connection):
        connection.request()
        got = b""
        if first:
            got = connection.until(lambda kind, *_: kind == DATA)[3]
            # Of a window of 3, 3 bytes are used; then it shrinks below what is used.
            connection.send(frame(SETTINGS, 0, 0, setting(4, second)))
            connection.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK)
            connection.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2)))
        else:
            connection.until(lambda kind, *_: kind == HEADERS)
            connection.send(frame(SETTINGS, 0, 0, setting(4, second)))
        data = connection.until(lambda kind, *_: kind == DATA)[3]
        if len(data) != length:
            raise Failed(f"{len(data)} bytes instead of {length}, after {len(got)}")

    run.settings = setting(4, first)
    return run


CASES.append(("http2/6.9.2/1", "a window that grows after HEADERS", changed(0, 1, 1)))
CASES.append(("http2/6.9.2/2", "a window that gets negative", changed(3, 2, 1)))
simple("http2/6.9.2/3", "a setting that makes a window too large", frame(SETTINGS, 0, 0, setting(4, 0x80000000)), away(FLOW_CONTROL_ERROR))

# -- http2/6.10 CONTINUATION
simple("http2/6.10/1", "several CONTINUATION frames", split(3, 4), answer())
simple("http2/6.10/2", "another frame behind CONTINUATION", both(lambda c: frame(HEADERS, END_STREAM, 1, b"\x82"), frame(CONTINUATION, 0, 1, b"\x86"), frame(DATA, 0, 1, b"test")), away(PROTOCOL_ERROR))
simple("http2/6.10/3", "CONTINUATION on stream 0", both(frame(HEADERS, END_STREAM, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 0, b"\x86")), away(PROTOCOL_ERROR))
simple("http2/6.10/4", "CONTINUATION behind the end of a block", both(head(flags=OPEN, method="POST"), frame(CONTINUATION, END_HEADERS, 1, b"\x86")), away(PROTOCOL_ERROR))
simple("http2/6.10/5", "CONTINUATION behind the last CONTINUATION", both(split(5, flags=0), frame(CONTINUATION, END_HEADERS, 1, b"\x86")), away(PROTOCOL_ERROR))
simple("http2/6.10/6", "CONTINUATION behind DATA", both(head(flags=OPEN, method="POST"), frame(DATA, 0, 1, b"test"), frame(CONTINUATION, END_HEADERS, 1, b"\x86")), away(PROTOCOL_ERROR))


# -- http2/7 Error codes
@case("http2/7/1", "GOAWAY with an unknown code")
def _(connection):
    connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0xFF)) + frame(PING, 0, 0, b"conforms"))
    while (found := connection.next()) is not None and not (found[0] == PING and found[1] & ACK):
        pass


simple("http2/7/2", "RST_STREAM with an unknown code", both(head(flags=OPEN, method="POST"), frame(RST_STREAM, 0, 1, struct.pack(">I", 0xFF))), lives)

# -- http2/8.1 HTTP request/response exchange
simple("http2/8.1/1", "a second HEADERS without END_STREAM", post(None, frame(DATA, 0, 1, b"test"), fields(("x-test", "ok"), flags=END_HEADERS)), reset(PROTOCOL_ERROR))
simple("http2/8.1.2/1", "a name in upper case", raw(RAW + b"\x00" + literal(b"X-TEST") + literal(b"ok")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.1/1", "an unknown pseudo-header", fields(METHOD, SCHEME, PATH, HOST, (":test", "ok")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.1/2", "a pseudo-header of answers", fields(METHOD, SCHEME, PATH, HOST, (":status", "200")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.1/3", "a pseudo-header in trailers", post(None, frame(DATA, 0, 1, b"test"), fields((":method", "POST"))), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.1/4", "a pseudo-header behind a header", fields(METHOD, SCHEME, ("x-test", "ok"), PATH, HOST), reset(PROTOCOL_ERROR))
for number, name in enumerate(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]):
    simple("http2/8.1.2.2/1" + "abcde"[number], f"`{name}` is about connections", fields(METHOD, SCHEME, PATH, HOST, (name, "x")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.2/2", "TE with more than trailers", fields(METHOD, SCHEME, PATH, HOST, ("te", "trailers, deflate;q=0.5")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/1", "an empty :path", fields(METHOD, SCHEME, (":path", ""), HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/2", "no :method", fields(SCHEME, PATH, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/3", "no :scheme", fields(METHOD, PATH, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/4", "no :path", fields(METHOD, SCHEME, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/5", ":method twice", fields(METHOD, METHOD, SCHEME, PATH, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/6", ":scheme twice", fields(METHOD, SCHEME, SCHEME, PATH, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.3/7", ":path twice", fields(METHOD, SCHEME, PATH, PATH, HOST), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.6/1", "a content-length that differs from the DATA frame", post(1, frame(DATA, END_STREAM, 1, b"test")), reset(PROTOCOL_ERROR))
simple("http2/8.1.2.6/2", "a content-length that differs from the DATA frames", post(1, frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")), reset(PROTOCOL_ERROR))
simple("http2/8.2/1", "PUSH_PROMISE from a client", lambda c: frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + get(c)), away(PROTOCOL_ERROR))

# -- HPACK
simple("hpack/2.3.3/1", "an index beyond the tables", raw(RAW + b"\xff\x00"), away(COMPRESSION_ERROR))
simple("hpack/2.3.3/2", "a literal whose name has an index beyond the tables", raw(RAW + b"\x7f\x10" + literal(b"test")), away(COMPRESSION_ERROR))
simple("hpack/4.2/1", "a table size update at the end of a block", raw(RAW + b"\x21"), away(COMPRESSION_ERROR))
# "test" is 49 50 9f in Huffman's code, padded by 1 bits; here by a byte too many, by zeros, and with EOS in it.
simple("hpack/5.2/1", "padding of more than 7 bits", raw(RAW + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), away(COMPRESSION_ERROR))
simple("hpack/5.2/2", "padding by zeros", raw(RAW + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"), away(COMPRESSION_ERROR))
simple("hpack/5.2/3", "EOS within a text", raw(RAW + b"\x00\x85\xf2\xb2\x4a\x84\xff\x88\x49\x51\xff\xff\xff\xfa\x7f\xff"), away(COMPRESSION_ERROR))
simple("hpack/6.1/1", "index 0", raw(RAW + b"\x80"), away(COMPRESSION_ERROR))
simple("hpack/6.3/1", "a table size above the setting", raw(b"\x3f\xe2\x1f" + RAW), away(COMPRESSION_ERROR))

# -- Beyond h2spec: what a proxy must not pass on.
simple("own/1", "two authorities that differ", fields(METHOD, SCHEME, PATH, HOST, ("host", "other.example.com")), answer("400"))
simple("own/2", "an authority and the same host", fields(METHOD, SCHEME, PATH, HOST, ("host", "shop.example.com")), answer("200"))
simple("own/3", "a path in absolute form", fields(METHOD, SCHEME, (":path", "http://other.example.com/"), HOST), reset(PROTOCOL_ERROR))
simple("own/4", "a line feed in a value", raw(RAW + b"\x00" + literal(b"x-test") + literal(b"a\nb: c")), reset(PROTOCOL_ERROR, COMPRESSION_ERROR))
simple("own/5", "a carriage return in a value", raw(RAW + b"\x00" + literal(b"x-test") + literal(b"a\rb")), reset(PROTOCOL_ERROR, COMPRESSION_ERROR))
simple("own/6", "a NUL in a value", raw(RAW + b"\x00" + literal(b"x-test") + literal(b"a\0b")), reset(PROTOCOL_ERROR, COMPRESSION_ERROR))
simple("own/7", "a colon in a name", raw(RAW + b"\x00" + literal(b"x:test") + literal(b"ab")), reset(PROTOCOL_ERROR, COMPRESSION_ERROR))
simple("own/8", "a space around a value", fields(METHOD, SCHEME, PATH, HOST, ("x-test", " a ")), reset(PROTOCOL_ERROR))
simple("own/9", "a line feed in the path", fields(METHOD, SCHEME, (":path", "/n\nx: y"), HOST), reset(PROTOCOL_ERROR))
simple("own/10", "a space in the path", fields(METHOD, SCHEME, (":path", "/n HTTP/1.1"), HOST), reset(PROTOCOL_ERROR))
simple("own/11", "a space in the method", fields((":method", "GET /x"), SCHEME, PATH, HOST), reset(PROTOCOL_ERROR, COMPRESSION_ERROR))
simple("own/12", "two lengths", fields((":method", "POST"), SCHEME, PATH, HOST, ("content-length", "1"), ("content-length", "2"), flags=END_HEADERS), reset(PROTOCOL_ERROR))
simple("own/13", "a length that is no number", fields((":method", "POST"), SCHEME, PATH, HOST, ("content-length", "+1"), flags=END_HEADERS), reset(PROTOCOL_ERROR))
simple("own/14", "no host at all", fields(METHOD, SCHEME, PATH), answer("400"))
simple("own/15", "CONNECT", fields((":method", "CONNECT"), HOST), answer("502"))
simple("own/16", "CONNECT for another protocol, which was not offered", fields((":method", "CONNECT"), (":protocol", "websocket"), SCHEME, PATH, HOST), reset(PROTOCOL_ERROR))
simple("own/17", "an authority with a user", fields(METHOD, SCHEME, PATH, (":authority", "a@shop.example.com")), answer("400"))
simple("own/18", "a name without a character", raw(RAW + b"\x00\x00" + literal(b"a")), reset(PROTOCOL_ERROR))
simple("own/19", "a fragment in the path", fields(METHOD, SCHEME, (":path", "/n#top"), HOST), answer("400"))
simple("own/20", "a length without a body", fields((":method", "POST"), SCHEME, PATH, HOST, ("content-length", "1")), reset(PROTOCOL_ERROR))
simple("own/21", "a connection's header in trailers", post(None, frame(DATA, 0, 1, b"test"), fields(("connection", "close"))), reset(PROTOCOL_ERROR))
simple("own/22", "a window that is exceeded", post(None, *[frame(DATA, 0, 1, bytes(16384))] * 17), reset(FLOW_CONTROL_ERROR))
simple("own/23", "HEADERS with a priority that is cut", frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, b"\0\0\0"), away(FRAME_SIZE_ERROR))
simple("own/24", "GOAWAY that is cut", frame(GOAWAY, 0, 0, bytes(7)), away(FRAME_SIZE_ERROR))
simple("own/25", "a number that does not end", raw(RAW + b"\xff" + b"\x80" * 10 + b"\x01"), away(COMPRESSION_ERROR))


@case("own/26", "what was on its way to a stream that was refused is not the connection's end")
def _(connection):
    connection.send(fields(METHOD, SCHEME, PATH, HOST, ("te", "gzip"), flags=END_HEADERS)(connection))
    connection.is_reset(1, PROTOCOL_ERROR)
    connection.send(frame(DATA, 0, 1, b"test") + frame(WINDOW_UPDATE, 0, 1, WINDOW) + fields(("x-test", "ok"))(connection))
    connection.lives()


@case("own/27", "no settings first")
def _(connection):
    connection.send(PREFACE + frame(PING, 0, 0, bytes(8)))
    connection.goes_away(PROTOCOL_ERROR)


CASES[-1][2].begins = False
