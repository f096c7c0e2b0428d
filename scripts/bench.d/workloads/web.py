"""A Flask application that answers JSON, a template and a form, asked in process."""

import sys

from flask import Flask, jsonify, render_template_string, request

PAGE = """<!doctype html><title>{{ title }}</title><ul>
{% for row in rows %}<li class="{{ loop.cycle('odd', 'even') }}">{{ row.name }}: {{ row.price|round(2) }}
{% else %}<li>nothing{% endfor %}</ul>"""

app = Flask(__name__)


def rows(count):
    return [{"name": "part-%d <b>" % i, "price": i * 1.17, "tags": ["a", "b"]} for i in range(count)]


@app.get("/items/<int:count>")
def items(count):
    return jsonify(items=rows(count), count=count)


@app.get("/page/<int:count>")
def page(count):
    return render_template_string(PAGE, title="Parts", rows=rows(count))


@app.post("/order")
def order():
    wanted = {name: int(number) for name, number in request.form.items()}
    return {"total": sum(wanted.values())}, 201


def main(rounds):
    client = app.test_client()
    form = {"part-%d" % i: str(i) for i in range(12)}
    for i in range(rounds):
        answers = client.get(f"/items/{i % 20}"), client.get(f"/page/{i % 10}"), client.post("/order", data=form)
        if [answer.status_code for answer in answers] != [200, 200, 201]:
            raise SystemExit("an answer is wrong")


main(int(sys.argv[1]))
