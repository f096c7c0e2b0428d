# The references are counted as they should be; who has them, Python cannot see.
# kind: native-held | python-held
# holder: static variable g_objects in store
# tick: 48000
import store
from pace import ticks


def session(number):
    user = {"id": number, "token": b"%08d" % number * 250}  # LEAK
    store.keep_object(user, number, 0)


for tick in ticks():
    for number in range(24):
        session(tick * 24 + number)
