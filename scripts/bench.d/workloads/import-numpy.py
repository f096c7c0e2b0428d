"""The import of a large package with many C extensions."""

import numpy

assert numpy.__version__
