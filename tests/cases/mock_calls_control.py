# kind: none
from unittest import mock

from pace import ticks

client = mock.Mock()


def send(number):
    body = b"%06d" % number * 750
    client.send(body)


for tick in ticks(50):
    for number in range(11):
        send(number)
    client.reset_mock()
