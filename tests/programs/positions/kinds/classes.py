"""Classes."""
import dataclasses
import gc
import weakref

from kinds import keep, shape, size


@shape
def class_body():
    class Body:
        keep("class body", bytes(size()))

        class Inner:
            keep("body of an inner class", bytes(size()))


@shape
def methods():
    class Parent:
        def __init_subclass__(cls, **options):
            keep("__init_subclass__", bytes(size()))

    class Shape(Parent):
        def __init__(self):
            keep("__init__", bytes(size()))

        def method(self):
            keep("method", bytes(size()))

        @classmethod
        def of_class(cls):
            keep("class method", bytes(size()))

        @staticmethod
        def static():
            keep("static method", bytes(size()))

        @property
        def property(self):
            return keep("property", bytes(size()))

        def __getattr__(self, name):
            return keep("__getattr__", bytes(size()))

        def __getitem__(self, index):
            return keep("__getitem__", bytes(size()))

        def __hash__(self):
            return keep("__hash__", bytes(size()))

        def __eq__(self, other):
            keep("__eq__", bytes(size()))
            return False

        def __lt__(self, other):
            keep("__lt__", bytes(size()))
            return False

        def __add__(self, other):
            return keep("__add__", bytes(size()))

        def __str__(self):
            keep("__str__", bytes(size()))
            return ""

        def __format__(self, spec):
            keep("__format__", bytes(size()))
            return ""

        def __call__(self):
            keep("__call__", bytes(size()))

        def __iter__(self):
            keep("__iter__", bytes(size()))
            return iter(())

        def __bool__(self):
            keep("__bool__", bytes(size()))
            return True

    one = Shape()
    one.method()
    Shape.of_class()
    Shape.static()
    one.property
    one.unknown
    one[0]
    hash(one)
    one in [0]
    sorted([one, one])
    one + 1
    str(one)
    f"{one:x}"
    one()
    list(one)
    not one


@shape
def metaclass():
    class Meta(type):
        def __new__(mcs, name, bases, body):
            keep("metaclass", bytes(size()))
            return super().__new__(mcs, name, bases, body)

        def __call__(cls):
            keep("call of a metaclass", bytes(size()))

    class OfIt(metaclass=Meta):
        pass

    OfIt()


@shape
def descriptor():
    class Descriptor:
        def __get__(self, instance, owner):
            keep("__get__", bytes(size()))

        def __set_name__(self, owner, name):
            keep("__set_name__", bytes(size()))

    class Owner:
        field = Descriptor()

    Owner().field


@shape
def made_by_dataclasses():
    def factory():
        keep("factory of a dataclass field", bytes(size()))

    @dataclasses.dataclass
    class Data:
        field: int = dataclasses.field(default_factory=factory)

    Data()


@shape
def deletion():
    class Deleted:
        def __del__(self):
            keep("__del__", bytes(size()))

    Deleted()


@shape
def collection():
    class Ring:
        def __del__(self):
            keep("__del__ by the collector", bytes(size()))

    ring = Ring()
    ring.ring = ring
    del ring
    gc.collect()


@shape
def weak_callback():
    def gone(reference):
        keep("weak reference's callback", bytes(size()))

    class Target:
        pass

    target = Target()
    reference = weakref.ref(target, gone)
    del target
    assert reference() is None
