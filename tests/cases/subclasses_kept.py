# A class for each request.
# kind: python-held
# holder: module __main__ → FORMS
# tick: 96000
import gc

from pace import ticks

FORMS = {}


def make_form(number):
    fields = {"field_%d" % at: at for at in range(10)}
    fields["template"] = "<input %d>" % number * 250  # LEAK
    form = type("Form%d" % number, (), fields)  # LEAK
    FORMS[form.__name__] = form
    return form


for tick in ticks(25):
    for number in range(20):
        make_form(tick * 20 + number)
