# kind: none
import store
from pace import ticks


class Server:
    def __init__(self):
        self.requests = 0

    def handle(self):
        self.requests += 1
        store.list_row(self.requests, 200)


server = Server()
for tick in ticks():
    for _ in range(16):
        server.handle()
