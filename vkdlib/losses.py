"""Loss functions, one per equation of the VKD paper and the VGID paper. Tensors in, a scalar out.

In the VKD paper's notation a superscript f or r is the forget or retain set. A subscript vqa or qa says
whether a question comes with the person's picture or with the name in text.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdlib.system.checks import one_of

IGNORE = -100  # label of a token that is not part of an answer
REDUCTIONS = ("mean", "sum")


def answer_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """L in Eq. 1, 2 and 5: mean negative log-likelihood of the answer tokens of a batch.

    Args:
        logits: (B, K, V), of the K positions that `packs.batch.collate` keeps.
        targets: (B, K), the answer tokens they are to predict; IGNORE where there is none.
    Returns:
        scalar, in nats per answer token.
    """
    check_answers(logits, targets)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)


def answer_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each answer token: (B, K), 0 where there is none. Arguments as `answer_nll`."""
    check_answers(logits, targets)
    nll = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )  # (B * K,)
    return -nll.view_as(targets)


def answer_kl(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """KL(teacher || student) of the next-token distributions, mean over answer tokens, in nats.

    Args:
        student: (B, K, V) logits with gradient, of the K positions that `packs.batch.collate` keeps.
        teacher: (B, K, V) logits of the model to agree with.
        targets: (B, K), IGNORE where there is no answer token.
    """
    check_pair(student=student, teacher=teacher)
    check_answers(student, targets)
    answer = targets != IGNORE  # (B, K)
    return distillation_loss(student[answer], teacher[answer])


def distillation_loss(student: Tensor, teacher: Tensor, top_k: int | None = None) -> Tensor:
    """Eq. 3 and 4 of the VGID paper: KL(teacher || student), mean over tokens, in nats.

    Args:
        student: (N, V) logits of N tokens, with gradient.
        teacher: (N, V) logits of the model to agree with.
        top_k: the teacher's so many likeliest words are told apart, all others count as one; None: every
            word. (Ours: the paper has no top-k. DUET compares logits of the likeliest words alone, so that
            nothing would push down a secret that the teacher thinks unlikely.)
    """
    check_pair(student=student, teacher=teacher)
    log_q = F.log_softmax(student.float(), -1)  # (N, V)
    log_p = F.log_softmax(teacher.float(), -1)
    if top_k is not None and top_k < log_p.shape[-1]:
        order = log_p.argsort(-1, descending=True)  # (N, V)
        log_p, log_q = (join_others(logs.gather(-1, order), top_k) for logs in (log_p, log_q))
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def join_others(logs: Tensor, count: int) -> Tensor:
    """Log-probabilities in which all columns after the first `count` are one: (N, V) -> (N, count + 1)."""
    others = logs[:, count:].logsumexp(-1, keepdim=True)  # (N, 1)
    return torch.cat([logs[:, :count], others], -1)


def overall_loss(forget: Tensor | float, retain: Tensor | float, alpha: float, beta: float) -> Tensor:
    """Eq. 5 of the VGID paper: alpha L_forget + beta L_retain."""
    return alpha * forget + beta * retain


def npo_loss(model: Tensor, reference: Tensor, beta: float) -> Tensor:
    """NPO: mean over questions of -(2/beta) log sigmoid(-beta (model - reference)).

    It is Eq. 10 of the VGID paper times 2/beta, as NPO was published.

    Args:
        model, reference: (Q,), the log-probability of each question's whole answer under either.
    """
    check_pair(model=model, reference=reference)
    return -2 / beta * F.logsigmoid(-beta * (model - reference)).mean()


def po_loss(
    model_refusal: Tensor, refusal: Tensor, model_answer: Tensor, answer: Tensor, beta: float
) -> Tensor:
    """Eq. 9 of the VGID paper, DPO in which a refusal is preferred to the answer; mean over questions.

    Args:
        model_refusal, model_answer: (Q,), the log-probability of each question's whole refusal and answer
            under the model.
        refusal, answer: (Q,), the same under the reference.
    """
    check_pair(model_refusal=model_refusal, refusal=refusal, model_answer=model_answer, answer=answer)
    margin = (model_refusal - refusal) - (model_answer - answer)  # (Q,)
    return -F.logsigmoid(beta * margin).mean()


def vkd_loss(student: Tensor, teacher: Tensor, reduction: str = "mean") -> Tensor:
    """Eq. 4: L_VKD = ||f_vqa^r - t_vqa^r||², squared distance of visual features on retain images.

    The paper does not say how the norm is reduced. "mean" (default) averages over tokens and channels.
    "sum" adds the channels up and averages over tokens, which puts beta on another scale.

    Args:
        student: (N, C), projector outputs of N image tokens, with gradient.
        teacher: (N, C), the same of the frozen vanilla model.
    """
    one_of("reduction", reduction, REDUCTIONS)
    check_pair(student=student, teacher=teacher)
    squares = (student.float() - teacher.float()).square()  # (N, C)
    return squares.mean() if reduction == "mean" else squares.sum(-1).mean()


def total_loss(output: Tensor, vkd: Tensor, beta: float) -> Tensor:
    """Eq. 3: L_output + beta * L_VKD."""
    return output + beta * vkd


def output_loss(
    forget_vqa: Tensor,
    retain_vqa: Tensor,
    alpha: float,
    forget_qa: Tensor | float = 0.0,
    retain_qa: Tensor | float = 0.0,
) -> Tensor:
    """Eq. 5 (Eq. 2 with alpha = 1): -alpha L_vqa^f + L_qa^f + L_vqa^r + L_qa^r.

    The mask m of Eq. 5 multiplies the gradient of the first term (see `unlearning.combine`). The QA terms are
    0 by default: with the LLM frozen no trained weight enters them, so their gradient is exactly 0.
    """
    return -alpha * forget_vqa + forget_qa + retain_vqa + retain_qa


def check_answers(logits: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless there are logits for each target."""
    if logits.dim() != 3 or logits.shape[:2] != targets.shape:
        shapes = f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}"
        raise ValueError(f"{shapes}; they must be (B, K, V) and (B, K)")


def check_finite(name: str, tensors: dict) -> None:
    """Raise FloatingPointError for NaN or infinity in a tensor; a comparison would pass over it."""
    for key, t in tensors.items():
        if not t.isfinite().all():
            raise FloatingPointError(f"{name} of {key} is not finite: look for NaN in the model's weights")


def check_pair(**tensors: Tensor) -> None:
    """Raise ValueError unless tensors have one shape: broadcasting would give a wrong number in silence."""
    if len({t.shape for t in tensors.values()}) > 1:
        shapes = " and ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise ValueError(f"shapes of {shapes} differ; they must be the same")
