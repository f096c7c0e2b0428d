"""Threads, and what is like them."""
import ctypes
import threading

from kinds import keep, shape, size


@shape
def threads():
    def work():
        keep("thread", bytes(size()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    class Worker(threading.Thread):
        def run(self):
            keep("run of a thread", bytes(size()))

    worker = Worker()
    worker.start()
    worker.join()

    local = threading.local()

    def with_local():
        local.value = keep("thread with locals", bytes(size()))

    thread = threading.Thread(target=with_local, daemon=True)
    thread.start()
    thread.join()

    done = threading.Event()

    def on_time():
        keep("timer", bytes(size()))
        done.set()

    threading.Timer(0, on_time).start()
    done.wait()


@shape
def thread_of_c():
    """A thread that Python did not start calls into it."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "pthread_create"):
        libc = ctypes.CDLL("libpthread.so.0")

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def start(argument):
        keep("thread that C started", bytes(size()))

    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, start, None) == 0
    assert libc.pthread_join(thread, None) == 0


@shape
def greenlets():
    try:
        import greenlet
    except ImportError:
        return

    def other():
        keep("greenlet", bytes(size()))
        main.switch()
        keep("greenlet, switched back", bytes(size()))

    main = greenlet.getcurrent()
    child = greenlet.greenlet(other)
    child.switch()
    keep("between switches", bytes(size()))
    child.switch()
    keep("after a greenlet", bytes(size()))


@shape
def of_gevent():
    try:
        import gevent
        import gevent.pool
    except ImportError:
        return

    def work(number):
        keep("gevent", bytes(size()))
        gevent.sleep(0)
        keep("gevent, after a sleep", bytes(size()))

    gevent.pool.Pool(3).map(work, range(1))
    keep("after gevent", bytes(size()))
