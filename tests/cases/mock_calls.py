# kind: python-held
# holder: module __main__ → client
# holder: call
# tick: 48000
from unittest import mock

from pace import ticks

client = mock.Mock()


def send(number):
    body = b"%06d" % number * 750  # LEAK
    client.send(body)


for tick in ticks(50):
    for number in range(11):
        send(number)
