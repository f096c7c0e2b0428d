# https://github.com/ICRAR/ijson/issues/34
# kind: reference-leak
# python: 3.8
import io

import ijson.backends.yajl2_c as ijson
from pace import ticks

DOCUMENT = b'{"id": 1, "name": "n", "rows": [1, 2, 3]}'


def rows():
    return list(ijson.items(io.BytesIO(DOCUMENT), "rows.item", buf_size=64))  # LEAK


for tick in ticks():
    for _ in range(80):
        assert len(rows()) == 3
