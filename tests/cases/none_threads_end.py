# kind: none
import threading

from pace import ticks


def work(number, out):
    out.append(b"%06d" % number * 5000)


for tick in ticks(50):
    out = []
    threads = [threading.Thread(target=work, args=(number, out)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(out) == 4
