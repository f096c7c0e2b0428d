# kind: none
from pace import ticks


class Session:
    def __init__(self, user):
        self.user = user
        self.state = b"%05d" % user * 400


class App:
    def __init__(self):
        self.sessions = {}

    def session(self, user):
        self.sessions[user] = Session(user)
        self.sessions.pop(user - 100, None)
        return self.sessions[user]


APP = App()
for tick in ticks():
    for number in range(24):
        APP.session(tick * 24 + number)
