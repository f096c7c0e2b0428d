# https://github.com/protocolbuffers/upb/issues/1243
# kind: native-leak
# python: 3.10
from google.protobuf.type_pb2 import Type
from pace import ticks

message = Type()


def size():
    return message.source_context.ByteSize()  # LEAK


for tick in ticks():
    for _ in range(500):
        size()
