#!/usr/bin/env python3
"""A gRPC server of texts, with gRPC's own health check. It prints its port and serves until its input ends."""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", metadata.get("x-asked", "none")),))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-binary-bin", metadata.get("x-binary-bin", b""))))
    return request[::-1]


def fail(_request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing: 100 % \u00e4")


def slow(_request, context):
    # Ends when the client gives up.
    while context.is_active():
        context.time_remaining()
        futures.wait([], timeout=0.01)
    return b"late"


def counted(request, _context):
    for number in range(int(request)):
        yield str(number).encode()


def joined(requests, _context):
    return b"".join(requests)


def echoed(requests, _context):
    for request in requests:
        yield request + b"!"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Counted": grpc.unary_stream_rpc_method_handler(counted),
    "Joined": grpc.stream_unary_rpc_method_handler(joined),
    "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
}

server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 24)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Texts", METHODS),))
servicer = health.HealthServicer()
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
for line in sys.stdin:
    # What a test says of the health: SERVING or NOT_SERVING.
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(line.strip()))
    print("set", flush=True)
server.stop(0)
