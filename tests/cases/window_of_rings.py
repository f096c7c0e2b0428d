# kind: python-held
# holder: KEPT
# type: str
# Half of what these lines make is rings that the collector takes; half is kept.
from pace import ticks

# With many old objects the collector seldom looks at all of them.
STATIC = [{"id": number, "values": [number]} for number in range(60_000)]
KEPT = []


class Job:
    def __init__(self, number):
        self.me = self
        self.data = "job %d " % number * 120  # LEAK


number = 0
for tick in ticks():
    for _ in range(60):
        job = Job(number)
        if number % 2 == 0:
            KEPT.append(job)
        number += 1
