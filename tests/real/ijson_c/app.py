# https://github.com/ICRAR/ijson/issues/34
# kind: reference-leak
# python: 3.8
import io

import ijson.backends.yajl2_c as ijson
from pace import ticks

DOCUMENT = b'{"rows": [%s]}' % b",".join(b'{"id": %d, "name": "n%d"}' % (n, n) for n in range(100))


def rows():
    return list(ijson.items(io.BytesIO(DOCUMENT), "rows.item"))  # LEAK


for tick in ticks():
    for _ in range(3):
        assert len(rows()) == 100
