import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmgen._latency import Latency


def test_nothing():
    latency = Latency()
    assert (latency.count, latency.total_ns, latency.max_ns, latency.percentile_ns(50), latency.buckets()) == (0, 0, 0, None, [])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.floats(0, 100))
def test_percentiles_are_within_a_64th(values, percent):
    latency = Latency()
    for value in values:
        latency.record(value)
    values.sort()
    rank = max(-(-len(values) * percent // 100), 1)
    exact = values[int(rank) - 1]
    assert abs(latency.percentile_ns(percent) - exact) <= exact / 64
    assert latency.count == len(values)
    assert latency.max_ns == values[-1]
    assert latency.total_ns == sum(values) % 2**64
    assert sum(n for _, _, n in latency.buckets()) == len(values)
    for least, width, n in latency.buckets():
        assert sum(least <= value < least + width for value in values) == n


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_no_percentage(percent):
    with pytest.raises(ValueError, match="percent=.* is out of range: 0 to 100"):
        Latency().percentile_ns(percent)


@pytest.mark.parametrize("ns", [-1, 2**64])
def test_no_duration(ns):
    with pytest.raises(OverflowError):
        Latency().record(ns)
