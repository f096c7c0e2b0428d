"""Keeps 3000 blocks and ends as the argument says."""
import os
import signal
import sys
import time
def keep(): return bytes(1000)

kept = [keep() for _ in range(3000)]
way = sys.argv[1]
print(way, len(kept), flush=True)
if way in ("SIGTERM", "SIGKILL", "SIGSEGV", "SIGINT", "SIGABRT", "abort", "fault"):
    time.sleep(0.4)
if way == "_exit":
    os._exit(7)
elif way == "exit":
    sys.exit(3)
elif way == "message":
    sys.exit("a message")
elif way == "raise":
    raise RuntimeError("nobody catches this")
elif way == "abort":
    os.abort()
elif way == "fault":
    import ctypes
    ctypes.string_at(0)
elif way == "handler":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
elif way.startswith("SIG"):
    if way == "SIGINT":  # ignored from the start in what a shell has in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), getattr(signal, way))
    time.sleep(10)
