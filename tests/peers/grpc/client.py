"""A proxyless gRPC client (grpcio). Usage: client.py TARGET. Each line of input is {"calls": N, "metadata": {...}}; each line
of output counts who answered and what failed: {"answered": {"v1": 90}, "failed": {"UNAVAILABLE: ...": 1}}."""

import collections
import json
import sys

import grpc

AT_ONCE = 16
DEADLINE_SECONDS = 20


def run(method, calls, metadata):
    answered, failed = collections.Counter(), collections.Counter()
    waiting = collections.deque()
    for started in range(calls + AT_ONCE):
        if started < calls:
            waiting.append(method.future(b"", timeout=DEADLINE_SECONDS, metadata=metadata))
        if started >= AT_ONCE - 1 and waiting:
            try:
                answered[waiting.popleft().result().decode()] += 1
            except grpc.RpcError as error:
                failed[f"{error.code().name}: {error.details()}"] += 1
    return {"answered": answered, "failed": failed}


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        method = channel.unary_unary("/weft.test.Echo/Call")
        for line in sys.stdin:
            asked = json.loads(line)
            metadata = tuple(asked["metadata"].items())
            print(json.dumps(run(method, asked["calls"], metadata)), flush=True)


main()
