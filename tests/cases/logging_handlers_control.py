# kind: none
import logging

from pace import ticks


class Buffer(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.buffer = bytearray(b"-" * 12000)

    def emit(self, record):
        self.buffer += record.getMessage().encode()


def request(number):
    handler = Buffer()
    logging.getLogger().addHandler(handler)
    logging.info("request %d", number)
    logging.getLogger().removeHandler(handler)


for tick in ticks(25):
    for number in range(10):
        request(number)
