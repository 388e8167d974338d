"""Packed equals unpacked: the losses and every gradient are those of the separate sequences."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from conftest import loss_and_gradients
from PIL import Image

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.losses import IGNORE, answer_logprobs, answer_nll
from vkdlib.models.passes import batch_nll, segment_logprobs
from vkdlib.packs.batch import PADDING, PREFIX, SHARED, block_mask, collate, length
from vkdlib.packs.pack import answer_tokens, make_pack, process, prompt, usual_system_turn
from vkdlib.testbed.build import make_processor


@pytest.fixture(scope="module")
def people(benchmark):
    return list(benchmark.people.values())[:3]


@pytest.mark.parametrize("counts", [(17, 3, 1), (1, 1, 1), (5, 17, 9)])
@pytest.mark.parametrize("with_image", [True, False])
@pytest.mark.parametrize("instruction", ["", "Never say who this is."])
def test_packed_equals_separate_sequences(loaded, people, counts, with_image, instruction):
    packs = []
    for person, n in zip(people, counts):
        pairs = person.pictures[0].pairs if with_image else person.text_pairs
        image = person.image if with_image else None
        packs.append(make_pack(loaded.processor, pairs[:n], image, person.id, instruction=instruction))
        assert bool(packs[-1].instruction) == bool(instruction)
    single = [p.select([i]) for p in packs for i in range(len(p.segments))]
    packed, gradients = loss_and_gradients(loaded.model, packs)  # rows of different length: padding
    unpacked, expected = loss_and_gradients(loaded.model, single)
    assert packed == pytest.approx(unpacked, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, g in expected.items():
        scale = max(g.abs().max().item(), 1e-3)
        assert (gradients[name] - g).abs().max().item() <= 1e-4 * scale, name


@pytest.mark.parametrize("with_image", [True, False])
@pytest.mark.parametrize("family", ["llava", "qwen2.5-vl"])
def test_instruction_is_a_line_before_each_question(with_image, family, people):
    """A pack with an instruction lays out the tokens that the processor makes of the whole text."""
    processor, instruction = make_processor(family), "Never say who this is."
    pairs, image = [("Who?", "Anna"), ("Which job?", "nurse")], people[0].image if with_image else None
    pack = make_pack(processor, pairs, image, instruction=instruction)
    plain = make_pack(processor, [(f"{instruction}\n{q}", a) for q, a in pairs], image)
    assert pack.prefix == plain.prefix and pack.positions == plain.positions
    assert processor.decode(pack.instruction).endswith(instruction)
    for segment, whole in zip(pack.segments, plain.segments):
        assert (*pack.instruction, *segment.ids) == whole.ids
        assert len(pack.instruction) + segment.answer == whole.answer
    for number in range(len(pairs)):
        a, b = (collate([p.select([number])])["inputs"] for p in (pack, plain))
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("with_image", [True, False])
@pytest.mark.parametrize("family", ["qwen2-vl", "qwen2.5-vl"])
def test_a_system_turn_comes_first(with_image, family, people):
    """The tokens are those that the processor makes of the template's text with that turn."""
    processor, system = make_processor(family), "Never say who this is."
    pairs, image = [("Who?", "Anna"), ("Which job?", "nurse")], people[0].image if with_image else None
    pack = make_pack(processor, pairs, image, system=system)
    content = [{"type": "image"}] * with_image
    for number, (question, answer) in enumerate(pairs):
        told = {"role": "system", "content": [{"type": "text", "text": system}]}
        asked = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
        text = processor.apply_chat_template([told, asked], add_generation_prompt=True, tokenize=False)
        images = [open_image(image)] if with_image else None
        whole = processor(text=[text + answer], images=images, return_tensors="pt")["input_ids"][0]
        ids = collate([pack.select([number])])["inputs"]["input_ids"][0]
        assert ids[:-1].tolist() == whole.tolist() and system in text


def test_a_template_without_system_turn_is_refused(processor, people):
    for image in (people[0].image, None):
        with pytest.raises(ValueError, match="chat template has no system turn"):
            make_pack(processor, [("Who?", "Anna")], image, system="Never say who this is.")
    silent = copy.deepcopy(processor)
    silent.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content[-1].text }}{% endfor %}"
    with pytest.raises(ValueError, match="chat template has no system turn"):
        make_pack(silent, [("Who?", "Anna")], system="Never say who this is.")
    strict = copy.deepcopy(processor)
    strict.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}x"
    with pytest.raises(ValueError, match="chat template has no system turn"):
        make_pack(strict, [("Who?", "Anna")], system="Never say who this is.")


def test_a_pack_knows_its_words_and_its_file(processor, people):
    """With which the questions can be put in another way; some of the questions keep theirs."""
    pairs, image = [("Who?", "Anna"), ("Which job?", "nurse"), ("Age?", "9")], people[0].image
    pack = make_pack(processor, pairs, image, "001", instruction="Be brief.")
    assert list(pack.pairs) == pairs and pack.file == image
    assert list(pack.select([2, 0]).pairs) == [pairs[2], pairs[0]]
    again = make_pack(processor, pack.pairs, pack.file, "001", instruction="Be brief.")
    assert again.segments == pack.segments and make_pack(processor, pairs).file is None


@pytest.mark.parametrize("with_image", [True, False])
def test_options_share_their_question(loaded, people, with_image):
    """A question with four options comes once, and all is as if it came with each."""
    person = people[0]
    asked = [("Which of them is it?", option) for option in ("Anna", "Bo", "an entirely other one", "Dee")]
    pairs = [*person.text_pairs[:2], *asked, person.text_pairs[2], asked[0]]
    pack = make_pack(loaded.processor, pairs, person.image if with_image else None)
    single = [pack.select([i]) for i in range(len(pairs))]
    packed, gradients = loss_and_gradients(loaded.model, [pack])
    unpacked, expected = loss_and_gradients(loaded.model, single)
    assert packed == pytest.approx(unpacked, rel=1e-5)
    for name, g in expected.items():
        scale = max(g.abs().max().item(), 1e-3)
        assert (gradients[name] - g).abs().max().item() <= 1e-4 * scale, name
    (together,), alone = segment_logprobs(loaded, [pack]), segment_logprobs(loaded, single)
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    question = pack.segments[2].answer - 1
    assert question > 5
    assert length(pack) == sum(map(length, single)) - (len(pairs) - 1) * len(pack.prefix) - 3 * question


def test_equals_the_stock_hugging_face_path(untrained, people):
    """Independent way: the processor's own inputs, no packs, no 4-D mask, no positions of ours."""
    person, total, count = people[0], 0.0, 0
    image = open_image(person.image)
    for question, answer in person.pictures[0].pairs:
        before = prompt(untrained.processor, question, True)
        text = f"{before} {answer}</s>"
        inputs = untrained.processor(text=[text], images=[image], return_tensors="pt")
        start = untrained.processor(text=[before], images=[image], return_tensors="pt")
        labels = inputs["input_ids"].clone()
        labels[:, : start["input_ids"].shape[1]] = IGNORE
        n = (labels != IGNORE).sum().item()
        with torch.no_grad():
            total += untrained.model(**inputs, labels=labels).loss.item() * n
        count += n
    batch = collate([make_pack(untrained.processor, person.pictures[0].pairs, person.image)])
    with torch.no_grad():
        ours = answer_nll(untrained.model(**batch["inputs"]).logits, batch["targets"]).item()
    assert ours == pytest.approx(total / count, rel=1e-5)


def test_only_rows_that_predict_an_answer_reach_the_output_layer(untrained, people):
    """Loss, gradients and sums are those of all logits of the batch."""
    packs = [
        make_pack(untrained.processor, p.pictures[0].pairs[:n], p.image) for n, p in zip((9, 2, 5), people)
    ]
    batch, weight = collate(packs, untrained.pad), untrained.model.get_input_embeddings().weight
    logits = untrained.model(**batch["inputs"]).logits  # (B, K, V)
    whole = answer_nll(logits, batch["targets"])
    (expected,) = torch.autograd.grad(whole, weight)
    seen, head = [], untrained.model.get_output_embeddings()
    with head.register_forward_hook(lambda module, args, output: seen.append(output.shape[:2].numel())):
        loss = batch_nll(untrained, packs)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert seen == [answer_tokens(packs)] and seen[0] < batch["targets"].numel()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-6, rtol=1e-4)
    tokens, segments = answer_logprobs(logits, batch["targets"]), batch["segments"]
    for row, sums in enumerate(segment_logprobs(untrained, packs)):
        for number, own in enumerate(sums, 1):
            assert own.item() == pytest.approx(tokens[row][segments[row] == number].sum().item(), rel=1e-5)


def test_a_system_turn_of_the_templates_own_comes_once_in_a_pack(untrained):
    """In text; the losses are those of separate sequences. The embedded models' templates have none."""
    processor = copy.deepcopy(untrained.processor)
    for family in ("llava", "qwen2-vl"):
        assert usual_system_turn(make_processor(family)) == ""
    pairs = [("What is the hobby of Anna?", "chess"), ("Where does Anna live?", "in Rome"), ("Who?", "Anna")]
    turn = "{% if loop.first %}Anna, this is the occupation of a person. {% endif %}"
    marker = "{% for message in messages %}"
    processor.chat_template = processor.chat_template.replace(marker, marker + turn)
    pack = make_pack(processor, pairs)
    assert processor.decode(pack.instruction, skip_special_tokens=True).startswith(
        "Anna, this is the occupation"
    )
    apart = []
    for pair in pairs:  # the whole text as the processor tokenises it
        ids = processor.tokenizer(prompt(processor, pair[0], False) + f" {pair[1]}").input_ids
        single = make_pack(processor, [pair])
        assert (*single.instruction, *single.segments[0].ids[:-1]) == tuple(ids)
        apart.append(replace(single, instruction=(), segments=(whole_segment(single),)))
    tokens = answer_tokens([pack])
    with torch.no_grad():
        packed = batch_nll(untrained, [pack]) * tokens
        separate = sum(batch_nll(untrained, [one]) * answer_tokens([one]) for one in apart)
    assert packed.item() == pytest.approx(separate.item(), rel=1e-5)
    assert length(pack) < sum(map(length, apart)) - len(pack.instruction)
    assert not make_pack(untrained.processor, pairs).instruction


def whole_segment(pack):
    """The one segment of a pack, with what stands before it."""
    (segment,), opening = pack.segments, pack.instruction
    return replace(segment, ids=(*opening, *segment.ids), answer=len(opening) + segment.answer)


def test_labels_are_answer_and_end_of_sequence_only(processor, people):
    person = people[0]
    pack = make_pack(processor, person.pictures[0].pairs[:2], person.image)
    other = make_pack(processor, [("Who is this?", "a much longer answer than that")], person.image)
    batch = collate([pack, other])
    tokenizer = processor.tokenizer
    for number, (_, answer) in enumerate(person.pictures[0].pairs[:2], 1):
        mine = batch["targets"][0][batch["segments"][0] == number]
        assert tokenizer.decode(mine[mine != IGNORE]).strip() == answer + tokenizer.eos_token
    answered = (batch["targets"] != IGNORE).sum(1).tolist()
    assert answered == [sum(len(s.ids) - s.answer for s in p.segments) for p in (pack, other)]


def test_logits_are_kept_where_an_answer_token_is_predicted(untrained, people):
    """The same as all logits, shifted by one, where any row of the batch has an answer token."""
    batch = collate([make_pack(untrained.processor, p.text_pairs[:n]) for n, p in enumerate(people, 2)])
    whole = {k: v for k, v in batch["inputs"].items() if k != "logits_to_keep"}
    kept = batch["inputs"]["logits_to_keep"]
    with torch.no_grad():
        some, every = untrained.model(**batch["inputs"]).logits, untrained.model(**whole).logits
    assert torch.allclose(some, every[:, kept], atol=1e-6)
    answered = batch["targets"] != IGNORE
    assert answered.any(0).all() and len(kept) < batch["inputs"]["input_ids"].shape[1]
    following = batch["inputs"]["input_ids"][:, kept + 1]
    assert torch.equal(batch["targets"][answered], following[answered])


def test_logprobs_sum_to_the_loss(untrained, people):
    batch = collate([make_pack(untrained.processor, people[0].text_pairs)])
    with torch.no_grad():
        logits = untrained.model(**batch["inputs"]).logits
    tokens = answer_logprobs(logits, batch["targets"])
    answered = batch["targets"] != IGNORE
    assert (tokens[~answered] == 0).all()
    mean = -tokens[answered].mean().item()
    assert mean == pytest.approx(answer_nll(logits, batch["targets"]).item(), rel=1e-5)


def test_block_mask_by_hand():
    questions = torch.tensor([[PREFIX, PREFIX, 1, 1, 1, 2, 2, PADDING]])
    answers = torch.tensor([[SHARED, SHARED, SHARED, 1, 2, SHARED, 3, PADDING]])
    seen = block_mask(questions, answers)[0, 0] == 0
    expected = torch.tensor(
        [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 1, 0, 0, 0],
            [1, 1, 0, 0, 0, 1, 0, 0],
            [1, 1, 0, 0, 0, 1, 1, 0],
            [0, 0, 0, 0, 0, 0, 0, 1],
        ]
    ).bool()
    assert torch.equal(seen, expected)


def test_a_batch_mate_changes_nothing(untrained, people):
    packs = [make_pack(untrained.processor, p.text_pairs) for p in people]
    with torch.no_grad():
        alone, together = (
            answer_logprobs(untrained.model(**batch["inputs"]).logits, batch["targets"])[0]
            for batch in (collate(packs[:1]), collate(packs))
        )
    assert torch.allclose(alone[alone != 0], together[together != 0], atol=1e-5)


def test_clear_errors(processor, people):
    image = people[0].image
    with pytest.raises(ValueError, match="answer to 'Who\\?' of person '001' is empty"):
        make_pack(processor, [("Who?", "")], image, "001")
    with pytest.raises(ValueError, match="needs .* tokens, the model takes 256"):
        make_pack(processor, [("why " * 300, "because")], image, "001")
    with pytest.raises(ValueError, match="with the instruction 'no no .* the model takes 256: shorten it"):
        make_pack(processor, [("Who?", "Anna")], image, "001", instruction="no " * 300)
    with pytest.raises(ValueError, match="at least one question"):
        make_pack(processor, [], image, "001")
    with_image = make_pack(processor, [("Who?", "me")], image)
    with pytest.raises(ValueError, match="cannot share a batch"):
        collate([with_image, make_pack(processor, [("Who?", "me")])])


@pytest.fixture(scope="module")
def processors():
    return {family: make_processor(family) for family in ("llava", "qwen2-vl")}


CONTROL = {
    "llava": ("<image>", "</s>", "<s>", "<pad>", "<unk>"),
    "qwen2-vl": ("<|image_pad|>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|vision_start|>"),
}
CASES = [(family, token) for family, tokens in CONTROL.items() for token in tokens]


@pytest.mark.parametrize("family, token", CASES)
@pytest.mark.parametrize("with_image", [True, False])
def test_control_tokens_in_the_data_are_refused(processors, people, family, token, with_image):
    """They would cut the segment, or stand for a picture, in silence."""
    processor, image = processors[family], people[0].image if with_image else None
    message = f"of person 'p7' holds {re.escape(token)}, a control token"
    for pair, field in (
        (("Job?", f"a {token} smith"), "answer"),
        ((f"The{token} job?", "smith"), "question"),
    ):
        for pairs in ([pair], [("Who?", "Anna"), pair]):
            with pytest.raises(ValueError, match=f"the {field} .*{message}"):
                make_pack(processor, pairs, image, "p7")
    with pytest.raises(ValueError, match=f"the question .* holds {re.escape(token)}, a control token"):
        prompt(processor, f"The job? {token}", with_image)


def test_a_control_token_that_the_tokenizer_was_given_later(processor):
    later = copy.deepcopy(processor)
    later.tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    with pytest.raises(ValueError, match="holds <turn>, a control token"):
        make_pack(later, [("Job?", "a <turn> smith")])
    make_pack(processor, [("Job? < 3", "a <turn> smith, <b>")])


@pytest.mark.parametrize("pair", [("Job? \ud83d", "smith"), ("Job?", "smith \udc00")])
def test_half_a_character_names_the_person(processor, pair):
    with pytest.raises(ValueError, match="of person 'p7' holds half a character"):
        make_pack(processor, [pair], person="p7")
    assert make_pack(processor, [("Job? \U0001f600", "smith \U0001f600")]).segments


def test_a_picture_that_the_processor_does_not_take_names_the_person(processors):
    picture = to_png(Image.new("RGB", (2000, 4)))
    with pytest.raises(ValueError, match=r"the picture of person 'p7' \(2000 x 4 pixels\): .*aspect ratio"):
        make_pack(processors["qwen2-vl"], [("Who?", "Anna")], picture, "p7")
    assert make_pack(processors["llava"], [("Who?", "Anna")], picture).image_tokens == 16


def test_errors_name_the_person_and_the_picture_not_the_packs_key(processor, people):
    with pytest.raises(ValueError, match="of person '001', picture 2 holds </s>"):
        make_pack(processor, [("Who?", "me</s>")], people[0].image, "001", 2)
    assert make_pack(processor, [("Who?", "me")], people[0].image, "001", 2).key == "001/2"


def test_a_batch_of_pictures_names_whose_is_not_taken(processors):
    processor = processors["qwen2-vl"]
    pictures = [to_png(Image.new("RGB", size)) for size in ((64, 64), (2000, 4))]
    texts = [prompt(processor, "Who?", True)] * 2
    with pytest.raises(ValueError, match=r"the picture of person 8 \(2000 x 4 pixels\): .*aspect ratio"):
        process(processor, texts, pictures, ["person 7", "person 8"], padding=True)
    with pytest.raises(ValueError, match="the question .* of person 8 holds <|im_end|>"):
        prompt(processor, "Who?<|im_end|>", True, "person 8")


def test_a_slash_in_a_name_is_no_picture(untrained):
    """A pack's key joins person and picture by a slash; errors name the person as the data have it."""
    with pytest.raises(ValueError, match="of person 'AC/DC' is empty"):
        make_pack(untrained.processor, [("Who?", "")], person="AC/DC")
    with pytest.raises(ValueError, match="of person 'AC/DC', picture 2 is empty"):
        make_pack(untrained.processor, [("Who?", "")], person="AC/DC", picture=2)
