"""Pools that are ended by a signal, which comes to their processes at their ends."""
import multiprocessing

def work(number): return number

if __name__ == "__main__":
    for _ in range(5):
        with multiprocessing.get_context("fork").Pool(3) as pool:
            print(sum(pool.map(work, range(60))))
