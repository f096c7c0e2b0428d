"""The application that web.py asks: Flask under waitress on a free port, which
is printed. Ends on SIGTERM with status 0."""

import hashlib
import json
import signal
import sys

from flask import Flask, abort, jsonify, render_template_string, request
from waitress.server import create_server

app = Flask(__name__)
NOTES = {}

PAGE = """<!doctype html>
<title>{{ title }}</title>
<ul>{% for row in rows %}<li class="{{ loop.cycle('odd', 'even') }}">{{ row.name|upper }}: {{ row.value }}</li>{% endfor %}</ul>
"""


@app.get("/json/<int:number>")
def as_json(number):
    return jsonify(number=number, squares=[i * i for i in range(number % 50)], name="é" * 20)


@app.get("/page/<int:number>")
def page(number):
    rows = [{"name": "row %d" % i, "value": i * number} for i in range(number % 80)]
    return render_template_string(PAGE, title="Page <%d>" % number, rows=rows)


@app.post("/echo")
def echo():
    body = request.get_data()
    return {"len": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@app.put("/notes/<key>")
def keep(key):
    NOTES[key] = request.get_json()
    return "", 204


@app.get("/notes/<key>")
def note(key):
    return NOTES.get(key) or abort(404)


@app.get("/stream")
def stream():
    return app.response_class(
        (json.dumps({"line": i}) + "\n" for i in range(500)), mimetype="application/x-ndjson"
    )


@app.get("/broken")
def broken():
    raise RuntimeError("on purpose")


def main():
    app.logger.disabled = True
    server = create_server(app, host="127.0.0.1", port=0, threads=4)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(server.effective_port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
