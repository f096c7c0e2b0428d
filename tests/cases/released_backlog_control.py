# Jobs are done as fast as they come.
# kind: none
import concurrent.futures

from pace import ticks


def main():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for tick in ticks():
            assert pool.submit(len, b"%08d" % tick * 500).result() == 4000


main()
