from math import comb

import pytest

from mgdm_audio.evaluation.score_table import mean_over_tracks, median_interval, median_over_tracks


def test_medians_over_tracks_by_hand() -> None:
    tracks = [
        {"bass": 1.0, "drums": 4.0, "all": 2.5},
        {"bass": 9.0, "all": 9.0},  # drums had no score
        {"bass": 2.0, "drums": 7.0, "all": 4.5},
    ]
    assert median_over_tracks(tracks) == {
        "value": {"bass": 2.0, "drums": 5.5, "all": 3.75},
        "n": 3,
        "interval_95": {"bass": None, "drums": None, "all": None},
    }


def test_means_over_tracks_by_hand() -> None:
    tracks = [{"bass": 1.0, "drums": 4.0, "all": 2.5}, {"bass": 3.0, "all": 3.0}]
    result = mean_over_tracks(tracks)
    assert result["value"] == {"bass": 2.0, "drums": 4.0, "all": 3.0}
    # stdev(1, 3) / sqrt(2) = 1
    assert result["interval_95"]["bass"] == pytest.approx([0.04, 3.96], abs=1e-12)
    assert result["interval_95"]["drums"] is None


@pytest.mark.parametrize("n", [1, 5, 6, 7, 20, 50, 151])
def test_the_interval_of_a_median_is_the_shortest_that_covers(n: int) -> None:
    def coverage(k: int) -> float:
        """P(at least k and at most n - k of n values lie below the median)."""
        return sum(comb(n, i) for i in range(k, n - k + 1)) / 2**n

    # In any order; the k-th smallest of 1 ... n is k.
    interval = median_interval([float((7 * i) % n + 1) if n % 7 else i + 1.0 for i in range(n)])
    if interval is None:
        assert coverage(1) < 0.95
    else:
        k = int(interval[0])
        assert interval == [k, n + 1 - k]
        assert coverage(k) >= 0.95 > coverage(k + 1)
