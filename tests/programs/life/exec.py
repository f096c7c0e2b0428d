"""Becomes another program, or fails to."""
import os
import sys
def keep(): return bytes(1000)
def keep_after(): return bytes(2000)

kept = [keep() for _ in range(3000)]
what = sys.argv[1]
sys.stdout.flush()
if what == "python":
    os.execv(sys.executable, [sys.executable, __file__, "no"])
elif what == "true":
    os.execv("/bin/true", ["true"])
elif what == "path":
    os.execvpe("sh", ["sh", "-c", "exit $STATUS"], dict(os.environ, STATUS="4"))
elif what == "fails":
    for _ in range(3):
        try:
            os.execv("/does/not/exist", ["x"])
        except FileNotFoundError:
            print("goes on")
    after = [keep_after() for _ in range(2000)]
print(what, len(kept))
