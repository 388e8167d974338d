"""Closed forms of the loss functions."""

import math

import pytest
import torch

from vkdlib.losses import (
    IGNORE,
    answer_kl,
    answer_logprobs,
    answer_nll,
    distillation_loss,
    npo_loss,
    output_loss,
    overall_loss,
    po_loss,
    total_loss,
    vkd_loss,
)


def test_answer_nll_by_hand():
    # Two classes; the one answer token is predicted with odds 3 to 1.
    logits = torch.tensor([[[9.0, -9.0], [math.log(3.0), 0.0], [5.0, 5.0]]])
    targets = torch.tensor([[IGNORE, 0, IGNORE]])
    assert answer_nll(logits, targets).item() == pytest.approx(-math.log(3 / 4))
    expected = torch.tensor([[0.0, math.log(3 / 4), 0.0]])
    assert torch.allclose(answer_logprobs(logits, targets), expected)


def test_vkd_is_zero_at_the_teacher_and_counts_channels():
    teacher = torch.randn(7, 5)
    assert vkd_loss(teacher, teacher).item() == 0
    assert vkd_loss(teacher + 2, teacher).item() == pytest.approx(4)
    assert vkd_loss(teacher + 2, teacher, "sum").item() == pytest.approx(4 * 5)
    with pytest.raises(ValueError, match="reduction is 'max'"):
        vkd_loss(teacher, teacher, "max")


def test_vkd_gradient_points_from_the_teacher():
    student = torch.tensor([[1.0, 0.0]], requires_grad=True)
    vkd_loss(student, torch.zeros(1, 2)).backward()
    assert torch.equal(student.grad, torch.tensor([[1.0, 0.0]]))


def test_equations_3_and_5_add_up():
    f, r, fq, rq = (torch.tensor(v) for v in (2.0, 3.0, 5.0, 7.0))
    assert output_loss(f, r, 1.25, fq, rq).item() == pytest.approx(-2.5 + 3 + 5 + 7)
    assert output_loss(f, r, 1.0).item() == pytest.approx(1.0)  # Eq. 1
    assert total_loss(torch.tensor(4.0), torch.tensor(10.0), 0.3).item() == pytest.approx(7.0)


def test_kl_is_per_answer_token_and_npo_per_question():
    """What codes differ in: the KL of a sequence is that of its tokens added up, and NPO asks for the whole
    answer's probability, which neither a mean over its tokens nor over the batch is."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 6, 11)
    targets = torch.randint(11, (2, 6))
    targets[1, 2:] = IGNORE
    p, q = (logits.double().softmax(-1) for logits in (student, teacher))
    kl = (q * (q / p).log()).sum(-1)
    whole = kl[0].sum() + kl[1, :2].sum()
    assert answer_kl(student, teacher, targets).item() == pytest.approx(whole.item() / 8, rel=1e-5)
    now, then = (answer_logprobs(logits, targets) for logits in (student, teacher))
    by_question = npo_loss(now.sum(1), then.sum(1), 0.4)
    ratios = [(now[i] - then[i]).sum().exp().item() for i in (0, 1)]
    by_hand = sum(2 / 0.4 * math.log(1 + ratio**0.4) for ratio in ratios) / 2
    assert by_question.item() == pytest.approx(by_hand, rel=1e-5)
    lengths = torch.tensor([6.0, 2.0])
    by_token = npo_loss(now.sum(1) / lengths, then.sum(1) / lengths, 0.4)
    by_batch = npo_loss(now.sum()[None] / 8, then.sum()[None] / 8, 0.4)
    assert len({round(loss.item(), 3) for loss in (by_question, by_token, by_batch)}) == 3


def kl_by_hand(teacher, student):
    """Of two distributions as lists."""
    return sum(p * math.log(p / q) for p, q in zip(teacher, student))


def test_distillation_is_the_forward_kl_by_hand():
    """Two tokens of a vocabulary of three; the other direction is another number."""
    teacher, student = [[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]], [[0.25, 0.25, 0.5], [0.1, 0.2, 0.7]]
    logits = [torch.tensor(rows).log() + shift for rows, shift in ((student, 3.0), (teacher, -2.0))]
    expected, reverse = (
        sum(kl_by_hand(p, q) for p, q in zip(*pair)) / 2 for pair in ((teacher, student), (student, teacher))
    )
    assert distillation_loss(*logits).item() == pytest.approx(expected, rel=1e-5)
    assert abs(expected - reverse) > 0.05 and distillation_loss(logits[0], logits[0]).item() == 0


def test_the_gradient_of_distillation_is_the_difference_of_probabilities():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 9)
    student.requires_grad_(True)
    distillation_loss(student, teacher).backward()
    expected = (student.detach().softmax(-1) - teacher.softmax(-1)) / 4
    assert torch.allclose(student.grad, expected, atol=1e-6)


def test_top_k_counts_all_other_words_as_one():
    """By hand; never above the whole KL; and what the teacher thinks unlikely is still pushed down."""
    teacher, student = [0.6, 0.2, 0.15, 0.05], [0.1, 0.1, 0.2, 0.6]
    logits = [torch.tensor([p]).log() for p in (student, teacher)]
    joined = [[0.6, 0.2, 0.2], [0.1, 0.1, 0.8]]
    assert distillation_loss(*logits, top_k=2).item() == pytest.approx(kl_by_hand(*joined), rel=1e-5)
    whole = distillation_loss(*logits).item()
    found = [distillation_loss(*logits, top_k=k).item() for k in (1, 2, 3, 4, 5)]
    assert found == sorted(found) and found[2] == pytest.approx(whole) == pytest.approx(found[4])
    logits[0].requires_grad_(True)
    distillation_loss(*logits, top_k=1).backward()
    assert logits[0].grad[0, 0] < 0 < logits[0].grad[0, 3]


def test_overall_loss_weighs_both_terms():
    assert overall_loss(torch.tensor(2.0), torch.tensor(3.0), 0.5, 2.0).item() == pytest.approx(7)


def test_po_by_hand_and_its_limits():
    """-log sigmoid of beta times how much more the refusal gained than the answer, mean over questions."""
    gains = [(2.0, -1.0), (0.0, 0.0), (-3.0, 4.0)]  # of refusal and answer, over the reference
    refusal, answer = torch.tensor([-9.0, -4.0, -7.0]), torch.tensor([-1.0, -2.0, -0.5])
    won, lost = (torch.tensor(column) for column in zip(*gains))
    found = po_loss(refusal + won, refusal, answer + lost, answer, 0.1)
    by_hand = [math.log(1 + math.exp(-0.1 * (win - loss))) for win, loss in gains]
    assert found.item() == pytest.approx(sum(by_hand) / 3, rel=1e-6)
    assert po_loss(refusal, refusal, answer, answer, 0.1).item() == pytest.approx(math.log(2))
    nothing = torch.zeros(3)  # with refusals as they were, it is NPO's loss without 2 / beta
    npo = npo_loss(answer + lost, answer, 0.4) * 0.4 / 2
    assert po_loss(nothing, nothing, answer + lost, answer, 0.4).item() == pytest.approx(npo.item())


LOGITS, TARGETS = torch.zeros(2, 5, 7), torch.zeros(2, 5, dtype=torch.long)
WRONG_SHAPES = [
    (lambda: answer_nll(LOGITS, TARGETS[:, :4]), r"\(2, 5, 7\), targets \(2, 4\)"),
    (lambda: answer_nll(LOGITS[0], TARGETS[0]), r"\(5, 7\), targets \(5,\)"),
    (lambda: answer_nll(LOGITS, TARGETS.reshape(5, 2)), r"\(2, 5, 7\), targets \(5, 2\)"),
    (lambda: answer_logprobs(LOGITS, TARGETS.reshape(5, 2)), r"\(2, 5, 7\), targets \(5, 2\)"),
    (lambda: answer_kl(LOGITS, LOGITS[:1], TARGETS), r"student \(2, 5, 7\) and teacher \(1, 5, 7\)"),
    (lambda: answer_kl(LOGITS, LOGITS, TARGETS[:1]), r"\(2, 5, 7\), targets \(1, 5\)"),
    (lambda: vkd_loss(torch.ones(4, 3), torch.ones(1, 3)), r"student \(4, 3\) and teacher \(1, 3\)"),
    (lambda: npo_loss(torch.ones(4), torch.ones(4, 1), 0.4), r"model \(4,\) and reference \(4, 1\)"),
    (lambda: distillation_loss(torch.ones(4, 7), torch.ones(1, 7)), r"\(4, 7\) and teacher \(1, 7\)"),
    (lambda: po_loss(*[torch.ones(4)] * 3, torch.ones(1), 0.1), r"model_answer \(4,\) and answer \(1,\)"),
]


@pytest.mark.parametrize("loss, shapes", WRONG_SHAPES, ids=range(len(WRONG_SHAPES)))
def test_other_shapes_are_refused_and_never_broadcast(loss, shapes):
    with pytest.raises(ValueError, match=shapes):
        loss()
