# kind: python-held
# holder: module __main__ → STATE
# tick: 48000
from pace import ticks

STATE = {"all": b""}

for tick in ticks():
    STATE["all"] = b"".join([STATE["all"], b"%06d" % tick * 8000])  # LEAK
