"""Import libraries without those of their parts that the gateway does not use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def empty_modules(*names: str) -> Iterator[None]:
    """Give empty modules to those who import *names* meanwhile; imported modules stay."""
    made = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
