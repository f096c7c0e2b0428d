# The leaking thread is none of Python's: no Python line has to do with it.
# kind: native-leak
# native: pack_job
# no-python-line
# tick: 49152
import packer
from pace import ticks

packer.start_thread()
done = 0
for tick in ticks():
    done = packer.submit(12)
