"""What samples may be given as, and which way round they are."""

from typing import Any

import numpy as np
import pytest
import torch

from mgdm_audio.errors import UserError
from mgdm_audio.separation.source import MAX_CHANNELS, as_samples

X = np.random.default_rng(0).standard_normal((2, 500)).astype(np.float32)


class Array:
    """What is no numpy array but can be made one, as other libraries' arrays."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return X


@pytest.mark.parametrize(
    "source",
    [X, X.T, torch.from_numpy(X), X.astype(np.float64), X.tolist(), Array(), X[:, ::-1][:, ::-1],
     torch.from_numpy(X).requires_grad_()],
)  # fmt: skip
def test_arrays_of_all_kinds_and_either_way_round(source: Any) -> None:
    samples = as_samples(source)
    assert samples.dtype == torch.float32
    assert not samples.requires_grad
    assert torch.equal(samples, torch.from_numpy(X))


def test_one_channel_needs_no_axis() -> None:
    assert torch.equal(as_samples(X[0]), torch.from_numpy(X[:1]))
    assert as_samples([0.5]).shape == (1, 1)
    assert as_samples(np.zeros((1, 3))).shape == (1, 3)
    assert as_samples(np.zeros((2, 1))).shape == (2, 1)  # stereo of one sample
    assert as_samples(np.zeros((MAX_CHANNELS, 500))).shape == (MAX_CHANNELS, 500)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((2, 3, 4)), "shape (2, 3, 4): give [channel, time >= 1] or [time]"),
        (np.zeros((2, 0)), "shape (2, 0): give [channel"),
        (np.zeros((65, 200)), "shape (65, 200): more than 64 channels"),
        (np.zeros((30, 20)), "shape (30, 20): fewer samples than channels; give [channel, time]"),
        (np.zeros((2, 9), np.int16), "samples of torch.int16: give floats of full scale 1.0"),
        (np.zeros((2, 9), np.complex64), "samples of torch.complex64: give floats"),
        (b"noise", "samples given as bytes: not an array of numbers"),
        (np.array([0.0, np.nan]), "not all finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_samples_is_refused(source: Any, says: str) -> None:
    with pytest.raises(UserError) as refused:
        as_samples(source)
    assert says in str(refused.value)
