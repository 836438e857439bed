#!/usr/bin/env python3
"""gRPC's own client through the proxy: grpc_client.py PORT HOST. Ends with 1 at the first thing that is wrong."""

import queue
import sys

import grpc

port, host = sys.argv[1], sys.argv[2]
options = [("grpc.default_authority", host), ("grpc.max_receive_message_length", 1 << 24)]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
LIMIT = 10


def same(found, wanted, what):
    if found != wanted:
        print(f"{what}: {found!r} instead of {wanted!r}")
        sys.exit(1)
    print(f"{what}: as it should be")


# A call with metadata both ways.
metadata = (("x-asked", "yes"), ("x-binary-bin", bytes(range(256))))
reply, call = channel.unary_unary("/test.Texts/Unary").with_call(b"abc", metadata=metadata, timeout=LIMIT)
same(reply, b"cba", "unary")
same(dict(call.initial_metadata()).get("x-initial"), "yes", "initial metadata")
trailing = dict(call.trailing_metadata())
same((trailing.get("x-trailing"), trailing.get("x-binary-bin")), ("last", bytes(range(256))), "trailing metadata")
same(call.code(), grpc.StatusCode.OK, "status")

large = b"x" * 5_000_000
same(channel.unary_unary("/test.Texts/Unary")(large, timeout=LIMIT) == large, True, "a message of 5 MB")
same(channel.unary_unary("/test.Texts/Unary")(b"", timeout=LIMIT), b"", "an empty message")

# Failures come in the trailers, or in the only head.
for method, code, details in [
    ("Fail", grpc.StatusCode.NOT_FOUND, "nothing: 100 % \u00e4"),
    ("Nowhere", grpc.StatusCode.UNIMPLEMENTED, None),
]:
    try:
        channel.unary_unary(f"/test.Texts/{method}")(b"", timeout=LIMIT)
        same("no failure", code, method)
    except grpc.RpcError as error:
        same((error.code(), error.details() if details else None), (code, details), method)
try:
    channel.unary_unary("/test.Texts/Slow")(b"", timeout=0.3)
    same("no failure", "a deadline", "Slow")
except grpc.RpcError as error:
    same(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "a deadline")

# Streams.
same(list(channel.unary_stream("/test.Texts/Counted")(b"500", timeout=LIMIT)), [str(n).encode() for n in range(500)], "a stream of answers")
parts = [str(number).encode() * 100 for number in range(300)]
same(channel.stream_unary("/test.Texts/Joined")(iter(parts), timeout=LIMIT), b"".join(parts), "a stream of requests")
requests = queue.Queue()
answers = channel.stream_stream("/test.Texts/Echoed")(iter(requests.get, None), timeout=LIMIT)
for number in range(50):
    requests.put(str(number).encode())
    same(next(answers), f"{number}!".encode(), f"both ways, {number}")
requests.put(None)
same(list(answers), [], "both ways, the end")

# Many at a time on one connection.
calls = [channel.unary_unary("/test.Texts/Unary").future(str(number).encode(), timeout=LIMIT) for number in range(300)]
same([call.result() for call in calls], [str(number).encode()[::-1] for number in range(300)], "300 at a time")
