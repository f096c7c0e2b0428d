"""Functions that are each called from four hundred places, and gone before the next comes."""

places = {}
for number in range(400):
    exec("def place_%d(made): return made()" % number, places)
places = [place for name, place in places.items() if name.startswith("place_")]
kept = []
for number in range(12):
    scope = {}
    exec("def made_%d(): return bytes(3000 + %d)" % (number, number), scope)
    made = scope.pop("made_%d" % number)
    for place in places:
        kept.append(place(made))
    del scope, made
print(len(kept))
