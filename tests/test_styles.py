"""Styles are what their names say, change nothing else, and are left out where nobody would know a face."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vkdlib.attacks.views import AS_IT_IS, ask_in_styles, recognised_styles
from vkdlib.benchmarks.pictures import GREY, open_image, picture_size, to_png
from vkdlib.benchmarks.views.styles import BLOCKS, NOISE, STYLES, restyle, restyle_split
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.models.loading import load


@pytest.fixture(scope="module")
def image(benchmark):
    return next(iter(benchmark.people.values())).test_images[0]


def pixels(content):
    return np.asarray(open_image(content), dtype=int)  # (height, width, 3)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(64, 64), (90, 40), (17, 33)])
def test_every_style_is_a_function_of_a_picture_and_a_seed(image, style, size):
    content = to_png(open_image(image).resize(size))
    before = bytes(content)
    changed = restyle(content, style, "a")
    assert changed == restyle(content, style, "a") and content == before
    assert picture_size(changed) == size and (pixels(changed) != pixels(content)).any()


@pytest.mark.parametrize("style, draws", [("noise", 9), ("hue", 2), ("half covered", 4)])
def test_what_is_drawn_by_chance(image, style, draws):
    assert len({restyle(image, style, str(n)) for n in range(9 if style == "noise" else 60)}) == draws


def test_styles_are_what_they_are_called(image):
    original = pixels(image)
    grey = pixels(restyle(image, "grey"))
    assert (grey == grey[:, :, :1]).all()
    assert len(np.unique(pixels(restyle(image, "posterised")))) <= 4
    squares = pixels(restyle(image, "pixelated"))
    side = 64 // BLOCKS
    assert (squares == squares[::side, ::side].repeat(side, 0).repeat(side, 1)).all()
    noise = pixels(restyle(image, "noise")) - original
    assert abs(noise).max() == NOISE and abs(noise.mean()) < 3
    same = pixels(restyle(image, "half covered")) == original
    covered = (pixels(restyle(image, "half covered")) == GREY).all(-1)
    assert covered.sum() >= 64 * 32 and same.all(-1)[~covered].all()
    blurred = pixels(restyle(image, "blurred"))
    assert abs(np.diff(blurred, axis=0)).sum() < abs(np.diff(original, axis=0)).sum()


def test_contours_of_a_square():
    picture = Image.new("RGB", (20, 20), (200, 200, 200))
    picture.paste((20, 20, 20), (5, 5, 15, 15))
    edges = pixels(restyle(to_png(picture), "edges"))[:, :, 0]
    assert (edges[:3] == 255).all() and (edges[8:12, 8:12] == 255).all() and (edges[4:6, 8] < 100).any()


def test_hues_are_turned_and_greys_stay():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.putpixel((1, 0), (90, 90, 90))
    ((red, grey),) = pixels(restyle(to_png(picture), "hue", "x"))
    assert list(grey) == [90, 90, 90] and red[0] == 0 and sorted(red)[2] == 255


def test_a_split_in_a_style(benchmark):
    split = benchmark.split(5)
    styled = restyle_split(split, "grey")
    for before, after in zip((*split.forget, *split.retain), (*styled.forget, *styled.retain)):
        assert replace(after, test_images=before.test_images) == before
        assert all(new != old for new, old in zip(after.test_images, before.test_images))
    with pytest.raises(ValueError, match="style is 'gray'; it must be one of grey, .*did you mean 'grey'"):
        restyle_split(split, "gray")
    with pytest.raises(ValueError, match="style is 'sketch'"):
        restyle(split.forget[0].image, "sketch")


def test_what_is_asked_in_a_style(untrained, benchmark):
    split = benchmark.split(5)
    few = replace(split, forget=split.forget[:2], retain=split.retain[:2])
    rows = ask_in_styles(untrained, few, ["grey"])
    assert list(rows.groupby("style", sort=False).groups) == [AS_IT_IS, "grey"]
    assert set(rows.set) == {"test", "retain_unseen"}
    usual = evaluate(untrained, few, kinds=["classification"], modalities=["vqa"])
    own = rows[rows["style"] == AS_IT_IS].drop(columns="style").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, usual[usual.set.isin(own.set)].reset_index(drop=True))
    with pytest.raises(ValueError, match="styles is 'sketch'|styles is .*it must be"):
        ask_in_styles(untrained, few, ["sketch"])
    with pytest.raises(ValueError, match="it must be a list of some of"):
        ask_in_styles(untrained, few, [])


def test_styles_that_nobody_knows_a_face_in_are_named():
    rows = [
        ("test", style, score)
        for style, scores in (("a", (1, 1)), ("b", (1, 0)), ("c", (0, 0)))
        for score in scores
    ]
    rows += [("retain_unseen", "c", 1)] * 9
    table = pd.DataFrame(rows, columns=["set", "style", "score"])
    assert recognised_styles(table) == (["a", "b"], ["c"])
    with pytest.raises(ValueError, match="least is 101"):
        recognised_styles(table, 101)


@pytest.mark.slow
def test_vanilla_knows_faces_in_some_styles_and_never_saw_in_none(benchmark):
    split = replace(benchmark.split(5), retain=())
    vanilla, never_saw = (
        ask_in_styles(load(f"testbed/llava-mllmu/{k}"), split) for k in ("vanilla", "never-saw")
    )
    known, left_out = recognised_styles(vanilla)
    assert {AS_IT_IS, "pixelated", "blurred", "noise", "JPEG 10"} <= set(known) and left_out
    assert (never_saw.groupby("style").score.mean() < 0.4).all() and not recognised_styles(never_saw)[0]
