"""Two parsers in C: CPython's own, and libxml2 by way of lxml."""

import ast
import sys

from lxml import etree

SOURCE = "\n".join(
    f"def f{i}(a, b=({i}, 'x{i}')):\n    if a > {i}:\n        return [k * b[0] for k in range(a)]\n"
    f"    return {{'key': a + {i}, **{{}}}}\n"
    for i in range(60)
)
DOCUMENT = "<rows>%s</rows>" % "".join(
    f'<row id="{i}" class="c{i % 7}"><name>row {i}</name><at x="{i / 7}"/>text {i}</row>'
    for i in range(600)
)


def main(rounds):
    for _ in range(rounds):
        ast.parse(SOURCE)
        tree = etree.fromstring(DOCUMENT)
        if len(tree.findall(".//name")) != 600:
            raise SystemExit("the document was not understood")


main(int(sys.argv[1]))
