"""Keeps small and large blocks; the argument may name something to do around it."""
import sys
def small(): return bytes(64)
def large(): return bytes(1000)
def grown(block): return block.extend(bytes(700))

what = sys.argv[1] if len(getattr(sys, "argv", [])) > 1 else ""
if what.startswith("trace"):
    import tracemalloc
    tracemalloc.start(3)
early = [small() for _ in range(1000)]
if what == "trace-stop":
    tracemalloc.stop()
kept = [large() for _ in range(5000)]
if what == "trace-restart":
    tracemalloc.stop()
    tracemalloc.start()
    tracemalloc.stop()
late = [small() for _ in range(4000)]
gone = [large() for _ in range(3000)]
del gone
array = [bytearray(100) for _ in range(2000)]
for block in array:
    grown(block)
if what == "trace":
    print(sum(trace.size for trace in tracemalloc.take_snapshot().traces if trace.size == 1033) // 1033)
print(len(early), len(kept), len(late), sys.getsizeof(kept[0]), sys.getsizeof(late[0]))
print({sys.getsizeof(block) for block in array} == {sys.getsizeof(array[0])})
