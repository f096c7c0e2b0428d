# https://github.com/rushter/selectolax/issues/107
# kind: native-leak
# python: 3.11
from pace import ticks
from selectolax.lexbor import LexborHTMLParser

page = LexborHTMLParser("<div></div><div></div><div></div>")


def matches(selector):
    return page.css_matches(selector)  # LEAK


for tick in ticks():
    for _ in range(2):
        assert matches("div")
