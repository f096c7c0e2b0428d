# kind: none
# A cache of compiled patterns that nobody bounds, unlike the one in re.
import re

from pace import ticks

PATTERNS = {}


def matches(word, text):
    source = r"\b%s[0-9]{1,3}\b" % word
    if source not in PATTERNS:
        PATTERNS[source] = re.compile(source)
    if len(PATTERNS) > 50:
        re.purge()
        PATTERNS.clear()
        PATTERNS[source] = re.compile(source)
    return PATTERNS[source].search(text)


WORD = "abcdefgh" * 75
for tick in ticks(25):
    for number in range(10):
        matches("x%d%s" % (tick * 10 + number, WORD), "nothing here")
