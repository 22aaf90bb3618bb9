"""The GIL is free while headwise computes, and Python threads may share everything."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import headwise


def long_call():
    """Arrays whose attention takes a tenth of a second or more with one thread."""
    query = np.ones((1, 8, 2048, 64), np.float32)
    return query, query, query


def test_python_runs_during_a_call():
    query, key, value = long_call()
    finished = threading.Event()

    def compute():
        headwise.attention(query, key, value, num_threads=1)
        finished.set()

    ticks = 0
    thread = threading.Thread(target=compute)
    thread.start()
    while not finished.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks > 3


def test_many_python_threads_give_the_same_bits(generator):
    query, key, value = (generator.normal(size=(2, 4, 50, 16)).astype(np.float32) for _ in range(3))
    plan = headwise.AttentionPlan(batch=2, num_heads=4, query_length=50, key_length=50, head_dim=16)
    weight = generator.normal(size=(48, 16)).astype(np.float32)
    layer = headwise.MultiHeadAttention(16, 4, in_proj_weight=weight)
    calls = [
        lambda: headwise.attention(query, key, value),
        lambda: plan.run(query, key, value),
        lambda: layer(query[:, 0]),
    ]
    expected = [call() for call in calls]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            futures = [(i, pool.submit(calls[i])) for i in list(range(3)) * 16]
            for i, future in futures:
                np.testing.assert_array_equal(future.result(timeout=60), expected[i])


def test_a_cache_is_not_changed_while_it_is_read():
    query, key, value = long_call()
    cache = headwise.KvCache(batch=1, num_kv_heads=8, capacity=2048, head_dim=64)
    cache.append(key, value)
    started, refusals = threading.Event(), []

    def read():
        started.set()
        cache.attention(query, num_threads=1)

    thread = threading.Thread(target=read)
    thread.start()
    started.wait()
    while thread.is_alive():
        try:
            cache.truncate([2048])
        except ValueError as error:
            refusals.append(str(error))
        time.sleep(0.001)
    thread.join()
    assert refusals and "being read by another thread" in refusals[0]
    cache.truncate([0])


def test_arguments_that_nobody_else_holds(generator):
    arrays = [generator.normal(size=(1, 8, 512, 64)).astype(np.float32) for _ in range(3)]
    expected = headwise.attention(*arrays)
    with ThreadPoolExecutor(4) as pool:
        # The copies belong to the call alone.
        futures = [pool.submit(lambda: headwise.attention(*(array.copy() for array in arrays))) for _ in range(8)]
    for future in futures:
        np.testing.assert_array_equal(future.result(), expected)
