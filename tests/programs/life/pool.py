"""A pool of processes, with the start method that is the argument."""
import multiprocessing
import sys
def work(number): return sum(len(bytes(number)) for _ in range(200))

if __name__ == "__main__":
    pool = multiprocessing.get_context(sys.argv[1]).Pool(3)
    print(pool.map(work, range(40), chunksize=1))
    pool.close()
    pool.join()
