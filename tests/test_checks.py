"""What a wrong value is answered with."""

import math

import numpy as np
import pytest

from vkdlib.system.checks import check_names, check_type, flag, folder_name, number, one_of, plain


@pytest.mark.parametrize("value", [0, 0.5, 3, 1e300, 10**400])
def test_numbers_in_range_pass(value):
    number("beta", value, 0)


def test_numbers_of_numpy_are_numbers():
    number("seed", np.int64(3), 0, whole=True)
    number("lr", np.float32(0.5), above=0)
    values = plain({"seed": np.int64(3), "lr": np.float32(0.5), "prune": True, "list": [np.int8(1), 2.0]})
    assert values == {"seed": 3, "lr": 0.5, "prune": True, "list": (1, 2.0)}
    assert {type(value) for value in values.values()} == {int, float, bool, tuple}
    for value in (np.float64(3), np.float32(math.nan), np.bool_(True)):
        with pytest.raises(ValueError, match="seed is .*; it must be a whole number"):
            number("seed", value, 0, whole=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, "3", None, True, [1]])
def test_all_else_is_refused_by_name(value):
    finite = ", and finite" if isinstance(value, float) else ""
    with pytest.raises(ValueError, match=rf"^beta is .*; it must be a number 0 or more{finite}$"):
        number("beta", value, 0)


def test_ranges_say_what_is_allowed():
    with pytest.raises(ValueError, match="^share is 2; it must be a number 0 or more and 1 or less$"):
        number("share", 2, 0, 1)
    with pytest.raises(ValueError, match="^lr is 0; it must be a number above 0$"):
        number("lr", 0, above=0)
    with pytest.raises(ValueError, match="^layers is 1.0; it must be a whole number 1 or more$"):
        number("layers", 1.0, 1, whole=True)


def test_a_number_that_yaml_read_as_text():
    with pytest.raises(
        ValueError, match=r"lr is '1e-5'; .* \(YAML reads 1e-5 as text: write a dot, as in 1.0e-5\)"
    ):
        number("lr", "1e-5", above=0)


@pytest.mark.parametrize(
    "kind, right, wrong, message",
    [
        (int, 3, 3.5, "a whole number"), (float, 3, math.inf, "a number, and"), (bool, True, 1, "True"),
        (str, "x", 3, "text"), (list, [], "x", "a list"), (dict, {}, [], "names and values"),
    ],
)  # fmt: skip
def test_types(kind, right, wrong, message):
    check_type("x", right, kind)
    with pytest.raises(ValueError, match=f"^x is .*; it must be {message}"):
        check_type("x", wrong, kind)


@pytest.mark.parametrize("value", ["False", "no", 0, 1, None])
def test_words_are_no_flags(value):
    with pytest.raises(ValueError, match="^prune is .*; it must be True or False$"):
        flag("prune", value)


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(ValueError, match=r"method is 'vkd'; it must be one of GA, VKD"):
        one_of("method", "vkd", ["GA", "VKD"])
    with pytest.raises(
        ValueError, match=r"VKD has no 'betta'; it has: alpha, beta \(did you mean 'beta'\?\)"
    ):
        check_names("VKD", ["betta"], ["alpha", "beta"])


@pytest.mark.parametrize("value", ["../x", "a/b", "a\nb", "", " ", ".hidden", "x" * 101, "x.", 3])
def test_what_is_no_name_of_a_folder(value):
    with pytest.raises(ValueError, match="^experiment is "):
        folder_name("experiment", value)


def test_names_of_folders():
    for value in ("quickstart", "fig2_beta.v2", "Größe 5 %", "x" * 100):
        folder_name("experiment", value)
