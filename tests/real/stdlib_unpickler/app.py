# https://github.com/python/cpython/issues/85594
# kind: cycles | reference-leak
# python: 3.10
# fixed-python: 3.12
import io
import pickle

from pace import ticks


class Loader(pickle.Unpickler):
    def persistent_load(self, key):
        return self if key == "me" else None


class Saver(pickle.Pickler):
    def persistent_id(self, value):
        return "me" if value is Saver else None


buffer = io.BytesIO()
Saver(buffer).dump([Saver, list(range(300, 500))])
PICKLED = buffer.getvalue()


def load():
    loader = Loader(io.BytesIO(PICKLED))  # LEAK
    return loader.load()  # LEAK


for tick in ticks():
    for _ in range(15):
        load()
