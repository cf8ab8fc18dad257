"""A gRPC server that takes its listener from the control plane (grpcio). Usage: server.py ADDRESS NAME. It answers every call
with its name, and writes "serving" once it is told to serve."""

import sys
from concurrent import futures

import grpc


class Named(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name.encode()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.name)


def main():
    address, name = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(4), xds=True)
    server.add_generic_rpc_handlers((Named(name),))
    server.add_secure_port(address, grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    server.start()
    server.wait_for_termination()


main()
