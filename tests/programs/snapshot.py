"""Runs code that nobody here wrote and writes down what tracemalloc says of it.

    snapshot.py WORKLOAD objects|blocks

`objects`: as tracemalloc is. An object that the interpreter takes from one of
its free lists then counts at the line that took it. `blocks`: without that, each
block counts at the line that asked the allocator for it.

Leaves two files: `before`, the dump as it stood when tracemalloc began, and
`traced`, with `bytes count line file` for each line of tracemalloc's snapshot.
Then it is killed, so that the dump stays as it stood at that moment.
"""
import _tracemalloc
import gc
import os
import signal
import sys
import time
import warnings

KEPT = []


def standard_library(*names):
    """Sources of the standard library, as text to work on."""
    folder = os.path.dirname(os.__file__)
    texts = []
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            texts.append(file.read())
    return texts


SOURCES = ("argparse.py", "ast.py", "datetime.py", "decimal.py", "inspect.py", "locale.py",
           "pickle.py", "tarfile.py", "threading.py", "typing.py", "zipfile.py", "subprocess.py")


def sources():
    folder = os.path.dirname(os.__file__)
    return standard_library(*(name for name in SOURCES if os.path.exists(os.path.join(folder, name))))


def workload_json():
    import json
    import json.decoder
    import json.scanner

    document = json.dumps([
        {"id": n, "name": "item %d" % n, "tags": ["a%d" % n, "b%d" % n], "value": n / 7, "none": None}
        for n in range(8000)
    ])

    def run():
        # The decoder in Python, beside the one in C.
        slow = json.JSONDecoder()
        slow.parse_object = json.decoder.JSONObject
        slow.parse_array = json.decoder.JSONArray
        slow.scan_once = json.scanner.py_make_scanner(slow)
        KEPT.append(json.loads(document))
        KEPT.append(slow.decode(document))
        KEPT.append(json.dumps(KEPT[0], indent=2))
        KEPT.append(list(json.JSONEncoder(indent=1).iterencode(KEPT[0])))

    return run


def workload_ast():
    import ast
    import dis
    import symtable
    import tokenize
    import io

    texts = sources()[:6]

    def run():
        for text in texts:
            tree = ast.parse(text)
            KEPT.append(tree)
            KEPT.append(ast.dump(tree))
            KEPT.append([list(ast.iter_fields(node)) for node in ast.walk(tree)])
            KEPT.append(compile(text, "compiled", "exec"))
        KEPT.append(list(tokenize.generate_tokens(io.StringIO(texts[0]).readline)))
        KEPT.append(list(dis.get_instructions(KEPT[3])))
        KEPT.append(symtable.symtable(texts[0], "table", "exec"))

    return run


def workload_xml():
    import xml.dom.minidom
    import xml.etree.ElementTree as ElementTree
    import xml.sax.saxutils

    items = "".join(
        '<item id="%d"><name>%s</name><price unit="x">%d</price></item>'
        % (n, xml.sax.saxutils.escape("<name & %d>" % n), n * 7)
        for n in range(3000)
    )
    text = "<items>" + items + "</items>"

    def run():
        KEPT.append(ElementTree.fromstring(text))
        KEPT.append(xml.dom.minidom.parseString(text))
        KEPT.append(ElementTree.tostring(KEPT[0]))
        KEPT.append(KEPT[1].toprettyxml())
        KEPT.append(list(KEPT[0].iter()))

    return run


def workload_email():
    import email
    import email.message
    import email.mime.multipart
    import email.mime.text
    import email.policy

    def run():
        texts = []
        for number in range(150):
            message = email.mime.multipart.MIMEMultipart()
            message["Subject"] = "Größe %d" % number
            message["From"] = "someone <someone%d@example.org>" % number
            message["To"] = ", ".join("a%d@example.org" % one for one in range(number % 5))
            for part in range(3):
                message.attach(email.mime.text.MIMEText("line %d\n" % part * 40))
            KEPT.append(message)
            texts.append(message.as_string())
        KEPT.append(texts)
        KEPT.append([email.message_from_string(text) for text in texts])
        parsed = [email.message_from_string(text, policy=email.policy.default) for text in texts[:60]]
        KEPT.append([(one["subject"], one["from"], one["to"]) for one in parsed])
        KEPT.append(parsed)

    return run


def workload_database():
    import csv
    import decimal
    import fractions
    import io

    try:
        import sqlite3
    except ImportError:
        sqlite3 = None

    def run():
        if sqlite3:
            base = sqlite3.connect(":memory:")
            base.row_factory = sqlite3.Row
            base.execute("create table t (a integer, b text, c real, d blob)")
            rows = [(n, "text %d" % n, n / 3, b"x" * (n % 100)) for n in range(10000)]
            base.executemany("insert into t values (?, ?, ?, ?)", rows)
            KEPT.append((base, rows, base.execute("select * from t order by b").fetchall()))
            KEPT.append([dict(row) for row in base.execute("select * from t limit 3000")])
        out = io.StringIO()
        writer = csv.DictWriter(out, ["a", "b", "c"])
        writer.writeheader()
        writer.writerows({"a": n, "b": "text, %d" % n, "c": n / 9} for n in range(5000))
        KEPT.append(out)
        KEPT.append(list(csv.DictReader(io.StringIO(out.getvalue()))))
        KEPT.append([fractions.Fraction(n, 7) + fractions.Fraction(1, 3) for n in range(5000)])
        with decimal.localcontext() as context:
            context.prec = 60
            KEPT.append([decimal.Decimal(n).sqrt() for n in range(1, 5000)])

    return run


def workload_text():
    import argparse
    import difflib
    import html.parser
    import string
    import textwrap

    texts = sources()

    class Parser(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.seen = []

        def handle_starttag(self, tag, attributes):
            self.seen.append((tag, attributes))

        def handle_data(self, data):
            self.seen.append(data)

    def run():
        parser = Parser()
        parser.feed("".join(
            '<p class="c%d"><a href="/%d">text &amp; %d</a></p>' % (n, n, n) for n in range(3000)))
        KEPT.append(parser)
        KEPT.append([textwrap.wrap(text, 60) for text in texts[:4]])
        left = texts[0].splitlines()[:400]
        right = [line.replace("self", "this") for line in left[::-1]]
        KEPT.append(list(difflib.unified_diff(left, right)))
        matcher = difflib.SequenceMatcher(None, left, right)
        matcher.get_opcodes()
        KEPT.append(matcher)
        arguments = argparse.ArgumentParser(prog="made")
        verbs = arguments.add_subparsers()
        for number in range(150):
            verb = verbs.add_parser("verb%d" % number, help="help " * 10)
            for option in range(6):
                verb.add_argument("--option%d" % option, type=int, default=option, help="help %(default)s")
        KEPT.append(arguments)
        KEPT.append(arguments.format_help())
        KEPT.append([arguments.parse_args(["verb%d" % n, "--option1", "7"]) for n in range(150)])
        KEPT.append([string.Template(text).template for text in texts])

    return run


def workload_objects():
    import collections
    import copy
    import dataclasses
    import datetime
    import enum
    import logging
    import logging.handlers
    import pickle
    import pprint
    import queue
    import re
    import unittest

    def run():
        made = [
            dataclasses.make_dataclass("Data%d" % n, [("a", int), ("b", str), ("c", list)])
            for n in range(60)
        ]
        KEPT.append(made)
        KEPT.append([one(n, "b", [n]) for n in range(200) for one in made])
        KEPT.append([collections.namedtuple("Named%d" % n, "a b c d") for n in range(60)])
        KEPT.append([enum.Enum("Enum%d" % n, "A B C D E F") for n in range(60)])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        dates = [start + datetime.timedelta(hours=n) for n in range(5000)]
        KEPT.append((dates, [date.isoformat() for date in dates]))
        KEPT.append(copy.deepcopy([{"a": [n, (n, str(n))], "b": {n: "x" * (n % 50)}} for n in range(3000)]))
        KEPT.append(pickle.loads(pickle.dumps(KEPT[-1])))
        KEPT.append(pickle._loads(pickle._dumps(KEPT[-1])))
        KEPT.append(pprint.pformat(KEPT[-1][:500]))
        handler = logging.handlers.MemoryHandler(100000)
        log = logging.getLogger("made")
        log.propagate = False
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        for n in range(3000):
            log.info("message %d of %s", n, "many")
        KEPT.append(handler)
        KEPT.append([re.compile("(a%d|b+|[c-f]{2,%d})*x?$" % (n, n + 3)) for n in range(100)])
        waiting = queue.PriorityQueue()
        for n in range(5000):
            waiting.put((n * 7919 % 5000, "job %d" % n))
        KEPT.append(waiting)
        case = type("Case", (unittest.TestCase,), {"test_%d" % n: lambda self: None for n in range(300)})
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
        KEPT.append((suite, suite.run(unittest.TestResult())))

    return run


class Tracer:
    """tracemalloc with one frame."""

    def __init__(self, blocks):
        self.config = None
        self.api = None
        if blocks:
            import ctypes

            self.api = ctypes.pythonapi
            self.int = ctypes.c_int

    def start(self):
        if self.api is None:
            _tracemalloc.start(1)
        elif sys.version_info >= (3, 14):
            _tracemalloc.start(1)
            self.api.PyRefTracer_SetTracer(None, None)
        else:
            # New objects look at its switch, the allocators do not.
            _tracemalloc.start(1)
            self.config = self.find()
            self.config[1] = 0

    def find(self):
        """`initialized`, `tracing` and `max_nframe` in the interpreter's memory."""
        if sys.version_info < (3, 12):
            config = (self.int * 3).in_dll(self.api, "_Py_tracemalloc_config")
        else:
            # Among much else, so it is known by an odd number of frames.
            _tracemalloc.stop()
            _tracemalloc.start(31337)
            words = (self.int * 400000).in_dll(self.api, "_PyRuntime")
            at = 1
            while words[at + 1] != 31337 or words[at] != 1:
                at += 1
            words[at + 1] = 1
            config = (self.int * 3).from_buffer(words, (at - 1) * 4)
        assert list(config) == [1, 1, 1], list(config)
        return config

    def traces(self):
        if self.config is not None:
            self.config[1] = 1
        return _tracemalloc._get_traces()


def main():
    tracer = Tracer(sys.argv[2] == "blocks")
    run = globals()["workload_" + sys.argv[1]]()
    gc.collect()
    # Sites reach the log within a tenth of a second.
    time.sleep(0.2)
    with open("pyshim.%d.dump" % os.getpid(), "rb", 0) as dump, open("before", "wb", 0) as copy:
        while True:
            piece = dump.read(1 << 20)
            if not piece:
                break
            copy.write(piece)
    tracer.start()
    run()
    gc.collect()
    gc.disable()
    # Names that it holds would go as the lines below use others.
    warnings.simplefilter("ignore")
    getattr(sys, "_clear_type_cache", int)()
    traces = tracer.traces()
    lines = {}
    for trace in traces:
        size, (file, line) = trace[1], trace[2][0]
        bytes_, count = lines.get((file, line), (0, 0))
        lines[file, line] = bytes_ + size, count + 1
    with open("traced", "w", encoding="utf-8") as out:
        for (file, line), (bytes_, count) in lines.items():
            out.write("%d %d %d %s\n" % (bytes_, count, line, file))
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


main()
