"""A thousand functions, each from a file of its own, that die before the next is made:
their code objects lie at the same addresses. Each keeps one block of its own size."""
import gc

KEPT = [None] * 1000
# Its first call makes what later ones find.
bytes(1)


def make(number):
    # Of many lengths, so that code objects come to lie over parts of dead ones too.
    filler = "    x = 1\n" * (number * 7 % 23)
    source = f"def made_{number}():\n{filler}    KEPT[{number}] = bytes({20000 + 16 * number})\n"
    space = {"KEPT": KEPT}
    exec(compile(source, f"/no/such/made_{number}.py", "exec"), space)
    function = space.pop(f"made_{number}")
    # Several times: from 3.11 on, code changes as it runs.
    for _ in range(number % 20 + 1):
        function()
    return id(function.__code__)


addresses = {make(number) for number in range(1000)}
gc.collect()
print(len(addresses))
