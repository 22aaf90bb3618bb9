"""Fixtures of all tests."""

import importlib.util

import numpy as np
import pytest

# These import what only `cmake/run integrations` installs.
collect_ignore_glob = [] if importlib.util.find_spec("transformers") else ["test_transformers*.py"]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def generator():
    return np.random.default_rng(20240607)
