# kind: python-held
# holder: module __main__ → LOG
# tick: 48000
import io

from pace import ticks

LOG = io.StringIO()

for tick in ticks():
    LOG.write("line %06d\n" % tick * 4000)  # LEAK
