# A warning whose text differs each time is remembered for ever by its module.
# kind: python-held
# holder: __warningregistry__
# tick: 36000
import warnings

from pace import ticks

warnings.simplefilter("ignore", DeprecationWarning)
warnings.filterwarnings("default", category=UserWarning)
warnings.showwarning = lambda *arguments, **names: None


def convert(number):
    detail = "value %d " % number * 200
    warnings.warn(detail + "is out of range", UserWarning)  # LEAK


for tick in ticks():
    for number in range(16):
        convert(tick * 16 + number)
