# kind: none
# The references are counted as they should be; who has them, Python cannot see.
import store
from pace import ticks


def session(number):
    user = {"id": number, "token": b"%08d" % number * 250}
    store.keep_object(user, number, 100)


for tick in ticks():
    for number in range(24):
        session(tick * 24 + number)
