# kind: none
import packer
from pace import ticks

packer.start_thread_freed()
done = 0
for tick in ticks():
    done = packer.submit(12)
