"""Work for other processes, which import this module and no other of the tests."""

import os


def cry(item, shared):
    """Print something, as libraries do that are short of memory."""
    for descriptor in (1, 2):
        os.write(descriptor, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    return item
