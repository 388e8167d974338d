"""Each fault of faults.py once: the same command afterwards ends as if nothing had been."""

import faults
import pytest
import torch


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # what it sets in the environment is taken back
        for name in ("VKDLIB_RUNS", "VKDLIB_ROOT"):
            patch.setenv(name, "")
        threads = torch.get_num_threads()
        yield faults.Place(tmp_path_factory.mktemp("faults"))
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [*faults.FROM_OUTSIDE, *faults.FROM_INSIDE])
def test_what_comes_of_it(place, name):
    expected = (faults.FROM_OUTSIDE | faults.FROM_INSIDE)[name][1]
    row = faults.tried(place, name, 1)
    assert row == {
        "fault": name,
        "times": 1,
        "recovered": 1,
        "clean_errors": int(expected is not None),
        "equal": 1,
    }
