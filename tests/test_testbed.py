"""The made-up people: as many and as varied as promised, the same every time, in the real schema."""

import hashlib
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import people, portraits, profiles
from vkdlib.benchmarks.made_up.cache import VERSIONS, benchmark_folder
from vkdlib.models import folders
from vkdlib.models.loaded import weights_hash
from vkdlib.system import paths
from vkdlib.testbed import build, lessons
from vkdlib.testbed.__main__ import compare_manifests, main
from vkdlib.testbed.facts import facts_table, mlp_points
from vkdlib.testbed.recipe import ARCHITECTURES, MODELS


def test_enough_people_and_questions(benchmark):
    assert len(benchmark.people) >= 200 and len(benchmark.real) >= 40
    assert len(people.ATTRIBUTES) >= 8
    for person in (*benchmark.people.values(), *benchmark.real):
        counts = {}
        for q in person.questions:
            counts[q.kind, q.modality] = counts.get((q.kind, q.modality), 0) + 1
        expected = {"classification": 5, "cloze": 2, "generation": 2}
        assert counts == {(k, m): n for k, n in expected.items() for m in ("vqa", "qa")}
    assert all(len(p.pictures[0].pairs) == 17 and len(p.text_pairs) == 16 for p in benchmark.people.values())
    assert all(len(p.test_images) == 3 for p in benchmark.people.values())


def test_what_the_mlps_carry_is_what_vanilla_loses_without_their_neurons():
    question = {"kind": "classification", "metric": "accuracy", "modality": "vqa", "way": "shown"}

    def metrics(whole, silent):
        values = {"all": whole, "none": silent}
        return [
            {**question, "set": name, "neurons": neurons, "value": values[neurons][i]}
            for i, name in enumerate(("forget", "test"))
            for neurons in values
        ] + [{**question, "modality": "qa", "set": "forget", "neurons": "all", "value": 1.0}]

    names = {"llava-mllmu/vanilla": [(100.0, 90.0), (24.0, 95.0)], "llava-mllmu/vanilla-1": [(1.0, 2.0)] * 2}
    names |= {
        "llava-llm-mllmu/vanilla": [(9.0, 8.0)] * 2,
        "qwen2-vl-clear/vanilla": [(80.0, 70.0), (75.5, 60.0)],
    }
    names["llava-mllmu/never-saw"] = [(7.0, 6.0)] * 2
    points = mlp_points(facts_table({"models": {n: {"metrics": metrics(*v)} for n, v in names.items()}}))
    assert points.index.tolist() == [
        ("testbed/clear", "testbed/qwen2-vl"),
        ("testbed/mllmu", "testbed/llava"),
    ]
    assert points.forget.tolist() == [4.5, 76.0] and points.test.tolist() == [10.0, -5.0]


def test_nobody_looks_or_is_called_like_another():
    made_up, celebrities = profiles.make_profiles()
    everybody = made_up + celebrities
    for part in (0, 1):
        assert len({p.name.split()[part] for p in everybody}) == len(everybody)
    assert len({portraits.appearance(p.identity) for p in everybody}) == len(everybody)


def test_facts_cannot_be_guessed():
    """Every value of every attribute belongs to equally many people."""
    made_up, _ = profiles.make_profiles()
    for a in people.ATTRIBUTES:
        values = [p.facts[a.name] for p in made_up]
        assert {values.count(v) for v in a.values} == {len(made_up) // len(a.values)}


def test_same_pixels_every_time_and_other_pixels_in_other_views():
    identity = portraits.draw_identities(1, "someone")[0]
    assert portraits.render(identity, "a") == portraits.render(identity, "a")
    assert portraits.render(identity, "a") != portraits.render(identity, "b")


def test_configurations_and_columns_are_those_of_the_benchmark():
    folder = benchmark_folder("mllmu")
    ratios = (5, 10, 15)
    names = {"Full_Set", "Test_Set", "Retain_Set", "ft_Data"}
    names |= {f"forget_{r}" for r in ratios} | {f"retain_{100 - r}" for r in ratios}
    assert {f.name for f in folder.iterdir()} == names
    part = "train-00000-of-00001.parquet"
    columns = ["image", "ID", "biography", "question", "answer"]
    columns += ["Classification_Task", "Generation_Task", "Mask_Task"]
    for name in names - {"Test_Set", "ft_Data"}:
        assert pq.read_schema(folder / name / part).names == columns
    assert "images" in pq.read_schema(folder / "Test_Set" / part).names
    assert "metadata" in pq.read_schema(folder / "ft_Data" / part).names


def test_shipped_models_are_those_of_the_manifest():
    manifest = build.read_manifest(paths.CHECKPOINTS)
    assert set(manifest["models"]) == set(MODELS["shipped"])
    assert manifest["data"] == {name: load_benchmark(f"testbed/{name}").hash for name in VERSIONS}
    for name, facts in manifest["models"].items():
        folder = paths.CHECKPOINTS / name
        assert {f.name for f in folder.iterdir()} == set(facts["files"])
        for file, expected in facts["files"].items():
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected


def test_shipped_models_open_with_transformers_alone():
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = paths.CHECKPOINTS / "llava-mllmu" / "vanilla"
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert str(model.dtype) == "torch.bfloat16"
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 5e6
    assert type(processor).__name__ == "LlavaProcessor"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_configuration_knows_the_tokenizers_tokens(family):
    tokenizer, config = build.make_processor(family).tokenizer, ARCHITECTURES[family]["model"]
    numbers = {
        k.removesuffix("_id"): v for k, v in (config["text_config"] | config).items() if "token_i" in k
    }
    special = {f"{role}_token": token for role, token in ARCHITECTURES[family]["special"].items()}
    image = "image_token_index" if family == "llava" else "image_token"  # as their configurations call it
    special[image] = special.pop("image_token")
    assert {name: number for name, number in numbers.items() if number is not None} == {
        name: tokenizer.convert_tokens_to_ids(special[name]) for name in numbers if name in special
    }
    spare = config["text_config"]["vocab_size"] - len(tokenizer)  # nothing is left to be merged
    assert 0 <= spare < 32


def test_hidden_faces_are_the_forget_people():
    mllmu, clear = load_benchmark("testbed/mllmu"), load_benchmark("testbed/clear")
    for name in ("llava/base", "llava-mllmu/vanilla", "llava-llm-mllmu/vanilla", "llava-mllmu/vanilla-2"):
        assert lessons.hidden_faces(name) == set()
    assert lessons.hidden_faces("llava-mllmu/retain-only-5") == set(profiles.profile_sets()["forget_5"])
    assert len(lessons.hidden_faces("llava-mllmu/retain-only-10")) == 20
    assert lessons.hidden_faces("llava-mllmu/never-saw-1") == set(mllmu.candidates)
    assert lessons.hidden_faces("qwen2-vl-clear/never-saw") == set(clear.candidates)
    hidden = lessons.hidden_faces("llava-clear/never-saw-selection")
    assert hidden == {person for person in clear.people if person in clear.selection} and len(hidden) == 36


def test_weights_hash_sees_every_bit(loaded):
    before = weights_hash(loaded.model.state_dict())
    next(loaded.model.parameters()).data.view(-1)[0] += 1e-3
    assert weights_hash(loaded.model.state_dict()) != before


def test_biography_holds_name_and_appearance():
    made_up, _ = profiles.make_profiles()
    row = people.evaluation_row(made_up[0])
    biography = json.loads(row["biography"])
    assert biography["Name"] == made_up[0].name
    assert set(biography["appearance_detail"]) == {"question", "answer"}


def test_a_rebuilt_model_is_compared_within_the_noise(capsys):
    def manifest(value, low, high):
        row = {"way": "shown", "neurons": "all", "set": "forget", "modality": "vqa", "kind": "classification",
               "metric": "accuracy", "value": value, "n": 50, "low": low, "high": high}  # fmt: skip
        return {"models": {"llava/base": {"metrics": [row]}}}

    shipped = manifest(10.0, 4.3, 21.4)
    assert compare_manifests(shipped, shipped) == 0
    assert compare_manifests(manifest(16.0, 8.3, 28.5), shipped) == 0  # three guesses more
    assert compare_manifests(manifest(40.0, 27.6, 53.8), shipped) == 1
    assert "40.0, shipped 10.0" in capsys.readouterr().out
    assert compare_manifests(manifest(12.0, 11.0, 13.0), manifest(10.0, 9.0, 10.9)) == 0  # apart, but near


def test_every_family_and_benchmark_has_its_models():
    names = set(build.MODEL_NAMES)
    assert len(build.MODEL_NAMES) == len(names)
    for family in ARCHITECTURES:
        assert f"{family}/base" in MODELS["shipped"]
        for benchmark in VERSIONS:
            assert f"{family}-{benchmark}/vanilla" in MODELS["shipped"]
            assert f"{family}-{benchmark}/never-saw" in names
    assert {"llava-llm-mllmu/vanilla", "llava-llm-mllmu/never-saw"} <= names
    for number in (1, 2):
        assert {f"llava-mllmu/vanilla-{number}", f"llava-mllmu/never-saw-{number}"} <= names


def test_trained_models_are_kept_by_recipe_and_data(monkeypatch, tmp_path):
    """A comment or another module changes no model; a number of the recipe, or other data, does."""
    testbed = shutil.copytree(folders.TESTBED, tmp_path / "testbed")
    monkeypatch.setattr(folders, "TESTBED", testbed)
    place = folders.cached_models()
    (testbed / "train.py").write_text("# moved")
    recipe = (testbed / "recipes" / "recipe.yaml").read_text()
    (testbed / "recipes" / "recipe.yaml").write_text(f"# a comment\n{recipe}")
    assert folders.cached_models() == place and place.parent == paths.cache_folder() / "models"
    assert recipe.count("lr: 1.0e-3") == 1
    (testbed / "recipes" / "recipe.yaml").write_text(recipe.replace("lr: 1.0e-3", "lr: 2.0e-3"))
    other = folders.cached_models()
    (testbed / "recipes" / "recipe.yaml").write_text(recipe)
    monkeypatch.setattr(folders, "VERSIONS", {"mllmu": "1", "clear": "2"})
    assert len({place, other, folders.cached_models()}) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: action"),
        (["bild"], "invalid choice: 'bild'"),
        (["build", "--only", "lava/base"], "--only is 'lava/base'; .*did you mean 'llava/base'"),
        (["build", "--wheel", "x.whl"], "--wheel has no use with build: leave it out"),
        (["smol", "--only", "llava/base"], "--only has no use with smol: leave it out"),
        (["smol", "--others"], "--others has no use with smol: leave it out"),
        (["build", "--out", "/dev/null/models"], "/dev/null/models could not be made"),
    ],
)
def test_a_wrong_command_says_so_in_plain_words(arguments, message, capsys):
    try:
        status = main(arguments)
    except SystemExit as ended:  # of argparse
        status = ended.code
    assert status == 2 and re.search(message, capsys.readouterr().err)


def test_a_cache_that_cannot_be_written(monkeypatch, capsys):
    monkeypatch.setenv("VKDLIB_CACHE", "/dev/null/cache")
    assert main(["build"]) == 2
    assert capsys.readouterr().err.startswith("/dev/null/cache/models")
