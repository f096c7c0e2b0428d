# kind: none
import json

from pace import ticks


def request(number):
    body = json.dumps({"id": number, "rows": [{"n": at, "t": "x" * 50} for at in range(50)]})
    return len(json.loads(body)["rows"])


for tick in ticks():
    for number in range(5):
        assert request(number) == 50
