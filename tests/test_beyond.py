"""VKD's settings beyond the paper: keep="features", unlabelled pictures, altered views."""

import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vkdlib.benchmarks.made_up.authors import make_authors, make_strangers
from vkdlib.benchmarks.made_up.portraits import appearance
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import alter, open_image, picture_size, to_png
from vkdlib.benchmarks.strangers import check_strangers, read_strangers, strangers_hash
from vkdlib.experiments.pipeline import check_run, normalise, run
from vkdlib.methods import make_method
from vkdlib.methods.vkd import teacher_features
from vkdlib.models.parts import visual_parameters
from vkdlib.models.passes import visual_features
from vkdlib.packs.pack import picture_pack
from vkdlib.plan.run import plan_run
from vkdlib.pruning import image_inputs
from vkdlib.runs.configuration import Configuration
from vkdlib.tasks import Steps, make_tasks, window
from vkdlib.unlearning import combine, unlearn

PLAIN = {"prune": False, "mask": False}
TRAINING = {"epochs": 2 / 3, "lr": 1e-3, "batch_size": 2}


@pytest.fixture(scope="module")
def few(benchmark):
    split = benchmark.split(5)
    return replace(split, forget=split.forget[:3], retain=split.retain[:5])


@pytest.fixture(scope="module")
def strangers(untrained, few):
    return make_tasks(untrained, few, unlabelled=make_strangers()[:4])


def disturb(loaded):
    """Move the trained weights, so that the student is not its own teacher."""
    with torch.no_grad():
        for p in visual_parameters(loaded).values():
            p.mul_(1.05)


def step(loaded, tasks, method, batch, micro_batch=None):
    """Gradients of the trained weights after one step from disturbed weights, and the named losses."""
    parameters = method.scope(loaded)
    prepared = method.prepare(loaded, tasks, Steps(3))
    disturb(loaded)
    for p in loaded.model.parameters():
        p.requires_grad_(p in set(parameters.values()))
    losses = combine(loaded, method, prepared, parameters, batch, micro_batch)
    return {name: p.grad for name, p in parameters.items()}, losses


def distances(loaded, packs, before):
    """Eq. 4 by two passes through the visual module."""
    features = visual_features(loaded, image_inputs(loaded, packs))  # (N, C)
    return (features - torch.cat([before[p.key] for p in packs])).square().mean()


def test_features_alone_is_beta_times_eq_4(loaded, tasks):
    """L = -alpha L_vqa^f + beta L_VKD, by autograd on its own."""
    method = make_method("VKD", keep="features", alpha=1.0, beta=2.0, **PLAIN)
    before = teacher_features(loaded, tasks.retain_vqa)
    batch = tasks.batch(0, 2, 0)
    gradients, losses = step(loaded, tasks, method, replace(batch, forget_vqa=()))
    assert losses["retain_vqa"] == 0 and losses["vkd"] > 0
    loss = distances(loaded, batch.retain_vqa, before)
    assert losses["vkd"] == pytest.approx(loss.item(), rel=1e-4)
    expected = torch.autograd.grad(2.0 * loss, list(method.scope(loaded).values()), allow_unused=True)
    for got, e in zip(gradients.values(), expected):
        assert torch.allclose(got, e, atol=1e-5 * e.abs().max().item() + 1e-12)


def test_features_alone_asks_the_language_model_about_forget_people_only(loaded, tasks):
    asked = []
    loaded.family.language(loaded.model).register_forward_pre_hook(
        lambda _, args, kwargs: asked.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    counts = {}
    for keep in ("answers", "features"):
        asked.clear()
        method = make_method("VKD", keep=keep, **PLAIN)
        prepared = method.prepare(loaded, tasks, Steps(3))
        combine(loaded, method, prepared, method.scope(loaded), tasks.batch(0, 2, 0, 5))
        counts[keep] = sum(asked)
    assert counts == {"answers": 2 + 5, "features": 2}


def test_strangers_add_gamma_times_eq_4(loaded, strangers):
    before = teacher_features(loaded, strangers.unlabelled)
    batch = replace(strangers.batch(0, 2, 0, 3), forget_vqa=(), retain_vqa=())
    assert len(batch.unlabelled) == 3
    method = make_method("VKD", unlabelled=3.0, **PLAIN)
    gradients, losses = step(loaded, strangers, method, batch)
    loss = distances(loaded, batch.unlabelled, before)
    assert losses["unlabelled"] == pytest.approx(loss.item(), rel=1e-4)
    expected = torch.autograd.grad(3.0 * loss, list(method.scope(loaded).values()), allow_unused=True)
    for got, e in zip(gradients.values(), expected):
        assert torch.allclose(got, e, atol=1e-5 * e.abs().max().item() + 1e-12)


@pytest.mark.parametrize("settings", [{"keep": "features"}, {"unlabelled": 2.0, "target": "both"}])
def test_micro_batches_add_up(loaded, strangers, settings):
    start = {n: t.clone() for n, t in loaded.model.state_dict().items()}
    found = []
    for size in (None, 1):
        loaded.model.load_state_dict(start)
        method = make_method("VKD", **settings, **PLAIN)
        gradients, losses = step(loaded, strangers, method, strangers.batch(0, 2, 0, 3), size)
        found.append(({n: g.clone() for n, g in gradients.items()}, losses))
        loaded.model.zero_grad()
    (whole, losses), (parts, others) = found
    assert losses == pytest.approx(others, rel=1e-4)
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=1e-4 * whole[name].abs().max().item())


def test_an_altered_view_is_the_same_face_elsewhere(few):
    image = few.forget[0].image
    views = {alter(image, f"view {n}") for n in range(6)}
    assert len(views) == 6 and image not in views and alter(image, "a") == alter(image, "a")
    assert all(picture_size(view) == picture_size(image) for view in views)
    half = to_png(open_image(image).resize((40, 90)))
    assert picture_size(alter(half, "x")) == (40, 90)
    flat = to_png(Image.new("RGB", (64, 64), (10, 200, 30)))  # nothing comes in from outside but the colour
    assert open_image(alter(flat, "y")).getcolors() == [(64 * 64, (10, 200, 30))]


def test_a_picture_in_the_middle_stays_in_it():
    """A white square on black: however it is altered, its middle moves by no more than a tenth, and it keeps
    its size within a few per cent more than the range of scales."""
    image = Image.new("RGB", (100, 60))
    image.paste((255, 255, 255), (40, 20, 60, 40))
    for n in range(20):
        mask = open_image(alter(to_png(image), str(n))).convert("L").point(lambda v: 255 * (v > 127))
        left, top, right, bottom = mask.getbbox()
        assert abs((left + right) / 2 - 50) < 11 and abs((top + bottom) / 2 - 30) < 7
        area = mask.histogram()[255] / 400
        assert 0.9**2 * 0.93 < area < 1.15**2 * 1.07


def test_each_round_shows_another_view(untrained, few):
    tasks = make_tasks(untrained, few, views=3)
    pixels = [p.image["pixel_values"] for p in tasks.forget_vqa]
    rounds = [window(tasks.forget_vqa, turn, 3, "0") for turn in range(4)]
    for turn, packs in enumerate(rounds):
        by_key = {p.key: p.image["pixel_values"] for p in packs}
        same = [torch.equal(by_key[p.key], x) for p, x in zip(tasks.forget_vqa, pixels)]
        assert set(same) == {turn % 3 == 0}
        assert {p.key: p.segments for p in packs} == {p.key: p.segments for p in tasks.forget_vqa}
    assert all(not p.views for p in tasks.retain_vqa)


def test_training_with_all_three_resumes_with_the_same_bits(loaded, few, tmp_path, monkeypatch):
    tasks = make_tasks(loaded, few, views=2, unlabelled=make_strangers()[:4])
    method = make_method("VKD", keep="features", unlabelled=3.0, views=2)
    start = {n: t.clone() for n, t in loaded.model.state_dict().items()}

    def end(**options):
        loaded.model.load_state_dict(start)
        history, _ = unlearn(loaded, tasks, method, **TRAINING | {"epochs": 4} | options)
        return history, {n: t.clone() for n, t in loaded.model.state_dict().items()}

    first, weights = end()
    with monkeypatch.context() as patch:
        steps = iter([combine] * 3)  # and then a kill
        patch.setattr("vkdlib.unlearning.combine", lambda *arguments: next(steps)(*arguments))
        with pytest.raises(StopIteration):
            end(folder=tmp_path, checkpoint_every=2)
    second, others = end(folder=tmp_path)
    assert first == second and len(first) == 6
    assert all(torch.equal(weights[n], others[n]) for n in weights)
    moved = {n for n in weights if not torch.equal(weights[n], start[n])}
    assert moved and not any("language_model" in n for n in moved)


def everybody(benchmark):
    return (*benchmark.people.values(), *benchmark.real, *benchmark.world)


def test_strangers_look_like_nobody(benchmark):
    read = read_strangers("testbed/strangers")
    assert len(set(read.values())) == 200
    check_strangers(read, everybody(benchmark))
    assert strangers_hash(read) != strangers_hash(dict(list(read.items())[1:]))
    assert len({appearance(a.identity) for a in make_authors()}) == 200


def test_bad_pictures_of_strangers(benchmark, tmp_path):
    with pytest.raises(DataError, match="strangers is .*nowhere'; there is no such folder"):
        read_strangers(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"holds no picture \(\.png, \.jpg, \.jpeg\)"):
        read_strangers(str(tmp_path))
    (tmp_path / "a.png").write_bytes(make_strangers()[0])
    check_strangers(read_strangers(str(tmp_path)), everybody(benchmark))
    person = list(benchmark.people.values())[7]
    open_image(person.test_images[1]).save(tmp_path / "b.png", compress_level=1)  # other bytes, same picture
    with pytest.raises(DataError, match=rf"b\.png is a picture of person {person.id}:"):
        check_strangers(read_strangers(str(tmp_path)), everybody(benchmark))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png is no picture that can be read"):
        check_strangers(read_strangers(str(tmp_path)), everybody(benchmark))


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def test_a_picture_that_was_saved_again_is_no_stranger(benchmark, untrained):
    split = benchmark.split(5)
    person = split.forget[-1]
    picture = open_image(person.test_images[0])
    for again in (
        *(jpeg(picture, quality) for quality in (95, 50)),
        to_png(picture.resize((48, 48))),
        to_png(picture.resize((224, 224))),
        to_png(picture.convert("L").convert("RGB")),
    ):
        with pytest.raises(DataError, match=f"x is a picture of person {person.id}: unlabelled pictures"):
            check_strangers({"x": again}, everybody(benchmark))
    with pytest.raises(DataError, match=f"unlabelled picture 1 is a picture of person {person.id}"):
        make_tasks(untrained, split, unlabelled=[make_strangers()[0], jpeg(picture, 95)])


def test_a_run_refuses_strangers_of_the_benchmark_before_it_trains(home, benchmark, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "x.png").write_bytes(next(iter(benchmark.people.values())).image)
    c = Configuration(settings={"unlabelled": 3}, training={"epochs": 1, "lr": 1e-3}, strangers=folder)
    with pytest.raises(DataError, match="must show nobody of the benchmark"):
        run("x", c)
    assert not list((home / "runs").glob("x/*"))


def test_settings_that_leave_something_open():
    training = {"epochs": 1, "lr": 1e-3}
    with pytest.raises(ValueError, match="unlabelled is 3, and strangers is not given: name a folder"):
        check_run("x", Configuration(settings={"unlabelled": 3}, training=training), True)
    with pytest.raises(ValueError, match="views is 0; it must be a whole number 1 or more"):
        make_method("VKD", views=0)
    with pytest.raises(ValueError, match="unlabelled is -1; it must be a number 0 or more"):
        make_method("VKD", unlabelled=-1)
    with pytest.raises(ValueError, match="keep is 'feature'; .*did you mean 'features'"):
        make_method("VKD", keep="feature")
    with pytest.raises(ValueError, match='keep="features" keeps the visual module alone, and trained is'):
        make_method("VKD", keep="features", trained="all")
    with pytest.raises(ValueError, match="leave no term that keeps retain people"):
        make_method("VKD", keep="features", beta=0)


def test_tasks_must_fit_the_method(loaded, tasks, strangers):
    with pytest.raises(ValueError, match="views is 4, and the forget pictures have 1"):
        unlearn(loaded, tasks, make_method("VKD", views=4), **TRAINING)
    with pytest.raises(ValueError, match="unlabelled is 3.0, and there are no unlabelled pictures"):
        unlearn(loaded, tasks, make_method("VKD", unlabelled=3.0), **TRAINING)
    with pytest.raises(ValueError, match="views is 0"):
        make_tasks(loaded, None, views=0)


def test_strangers_without_use_make_no_other_run():
    training = {"epochs": 1, "lr": 1e-3}
    plain = Configuration(training=training)
    assert normalise(replace(plain, strangers="testbed/strangers")) == normalise(plain)
    used = replace(plain, settings={"unlabelled": 3}, strangers="testbed/strangers")
    assert normalise(used).strangers == "testbed/strangers"
    longer = replace(plain, settings={"keep": "answers", "unlabelled": 0, "views": 1})
    assert normalise(longer).identity == normalise(plain).identity


def test_unlabelled_packs_have_no_questions(untrained):
    pack = picture_pack(untrained.processor, make_strangers()[0], "unlabelled 0")
    assert pack.segments == () and pack.image_tokens > 0


def test_the_plan_of_strangers():
    """190 retain pictures and 200 strangers are asked about; what the language model reads stays."""
    training = {"epochs": 50, "lr": 1e-3, "batch_size": 5, "retain_batch": 15}
    plain = Configuration(training=training)
    more = replace(plain, settings={"unlabelled": 3}, strangers="testbed/strangers")
    asked, kept = (plan_run(c).set_index(["part", "item"]).value for c in (plain, more))
    pictures = ("preparation", "the teacher's features, Eq. 4: pictures")
    assert asked[pictures] == 190 and kept[pictures] == 190 + 200
    features = ("memory", "teacher's features, beside the device")
    assert kept[features] > asked[features]
