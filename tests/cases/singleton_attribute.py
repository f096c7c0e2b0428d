# kind: python-held
# holder: module __main__ → APP
# holder: sessions
# tick: 48000
from pace import ticks


class Session:
    def __init__(self, user):
        self.user = user
        self.state = b"%05d" % user * 400  # LEAK


class App:
    def __init__(self):
        self.sessions = {}

    def session(self, user):
        self.sessions[user] = Session(user)  # LEAK
        return self.sessions[user]


APP = App()
for tick in ticks():
    for number in range(24):
        APP.session(tick * 24 + number)
