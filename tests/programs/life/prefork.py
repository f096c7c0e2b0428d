"""A server as gunicorn is one: the master binds, three workers accept."""
import os
import signal
import socket
import sys
import threading
CACHE = []
def remember(): return bytes(5000)

def serve(listener):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    served = 0
    while True:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(100)
            CACHE.append(remember())
            served += 1
            connection.sendall(b"worker %d answers %s" % (os.getpid(), request))

def ask(address, workers):
    for number in range(150):
        with socket.create_connection(address) as connection:
            connection.sendall(b"%d" % number)
            answer = connection.makefile("rb").read().split()
            assert answer[3] == b"%d" % number, answer
            workers.append(int(answer[1]))

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
pids = []
# A worker that is slow to start must not be ended before it has its handler.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        serve(listener)
    pids.append(pid)
workers = []
client = threading.Thread(target=ask, args=(listener.getsockname(), workers))
client.start()
client.join()
for pid in pids:
    os.kill(pid, signal.SIGTERM)
print("answers", len(workers), set(workers) <= set(pids))
print("ended", [os.waitpid(pid, 0)[1] for pid in pids])
