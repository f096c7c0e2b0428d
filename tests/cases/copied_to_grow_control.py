# kind: none
from pace import ticks

STATE = {"all": b""}

for tick in ticks():
    STATE["all"] = b"".join([STATE["all"][-200_000:], b"%06d" % tick * 8000])
