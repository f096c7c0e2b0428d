# kind: none
# A class for each request.
import gc

from pace import ticks

FORMS = {}


def make_form(number):
    fields = {"field_%d" % at: at for at in range(10)}
    fields["template"] = "<input %d>" % number * 250
    form = type("Form%d" % number, (), fields)
    FORMS[form.__name__] = form
    if len(FORMS) > 50:
        FORMS.clear()
        gc.collect()
    return form


for tick in ticks(25):
    for number in range(20):
        make_form(tick * 20 + number)
