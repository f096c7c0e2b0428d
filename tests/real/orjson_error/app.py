# https://github.com/ijl/orjson/issues/89
# The texts are in a pool of the extension that is to release them, and never is.
# kind: native-held
# holder: orjson
# python: 3.8
import orjson
from pace import ticks


def parse(text):
    try:
        return orjson.loads(text)  # LEAK
    except orjson.JSONDecodeError:
        return None


for tick in ticks():
    for number in range(200):
        assert parse("Whatever %d" % number + "." * 400) is None
