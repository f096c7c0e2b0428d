# kind: none
import io

from pace import ticks

LOG = io.StringIO()

for tick in ticks():
    LOG.write("line %06d\n" % tick * 4000)
    if tick % 20 == 19:
        LOG = io.StringIO()
