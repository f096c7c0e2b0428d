# Growth that ended long ago: for the first third of the time only.
# kind: none
from pace import elapsed, ticks

ROWS = []
for tick in ticks():
    if elapsed() < 0.33:
        ROWS.extend([b"%06d" % number * 500 for number in range(16)])
    else:
        ROWS[tick % len(ROWS)] = b"%06d" % tick * 500
