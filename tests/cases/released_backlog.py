# Jobs come faster than they are done; at the end the rest is dropped.
# kind: python-held
# evidence: was let go
import concurrent.futures
import time

from pace import ticks


def job(text):
    time.sleep(0.02)
    return len(text)


def main():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = []
        for tick in ticks():
            for _ in range(4):
                waiting.append(pool.submit(job, b"%08d" % tick * 500))  # LEAK
        for one in waiting:
            one.cancel()


main()
