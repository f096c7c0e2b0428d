"""json.dumps and json.loads of nested data, both in C."""

import json
import sys


def document(rows):
    return {
        "version": 3,
        "rows": [
            {
                "id": i,
                "name": "row-%d" % i,
                "ratio": i / 7,
                "flags": [True, False, None],
                "place": {"street": "Main Street %d" % i, "at": [i * 0.5, i * 0.25]},
            }
            for i in range(rows)
        ],
    }


def main(times):
    data = document(200)
    for _ in range(times):
        data = json.loads(json.dumps(data))


main(int(sys.argv[1]))
