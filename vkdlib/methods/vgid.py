"""VGID, the method of the VGID paper: distil what vanilla says of a perturbed picture under an instruction.

The teacher is the vanilla model itself, asked before the first step: about each forget picture as every step
will show it, and about each retain picture once. What is kept of an answer token is the output layer's input,
from which this layer makes the whole distribution again. So no second model is in memory, whatever is
trained. Only the output layer is copied, where it is trained itself. In a series of requests the teacher may
be the first vanilla model, which is kept for all methods then.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vkdlib.benchmarks.views.perturb import PERTURBATIONS, check_perturbation, perturb
from vkdlib.benchmarks.wording import PROMPTS
from vkdlib.losses import distillation_loss, overall_loss
from vkdlib.methods.base import (
    TRAINED,
    Cost,
    Method,
    Pass,
    Prepared,
    TaskSize,
    Terms,
    both_sets,
    forget_set,
    no_terms,
)
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import answer_logits, answer_states
from vkdlib.packs.pack import Pack, answer_tokens, picture_pack, put_questions
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks, label_of

NONE = "none"
POSITIONS = ("gold", "first", "teacher")
TURNS = ("user", "system")


@dataclass(frozen=True)
class VGID(Method):
    """L = alpha KL(teacher || model) on forget people + beta KL(vanilla || model) on retain people (Eq. 2-5).

    The paper does not say at which tokens the KL is taken, nor alpha, beta, what is trained, the law of the
    noise, or whether it is drawn anew. Here every KL is the mean over answer tokens; the noise follows from
    seed, picture and round, so it is another in every step. Two of the paper's rows are settings of VGID:
    ICU-T has no perturbation, Noise-T no prompt.

    Attributes:
        alpha, beta: strength of forgetting and of keeping, Eq. 5.
        perturbation: of the teacher's picture: one of PERTURBATIONS (paper: "noise"), or "none".
        sigma: of "gaussian" (paper: 0.2 to 0.8), see `perturb`.
        prompt: the teacher's instruction: one of PROMPTS (paper: "strict"), or "none".
        turn: where it stands: "user", between the picture and each question; or "system", in a turn of its
            own before, which the embedded LLaVA does not have.
        positions: where the forget term compares. "gold": at the tokens of the true answer. "first": at the
            first of them alone, as DUET does. "teacher": at those of the teacher's own answer, which it
            writes once, in the picture's first round: Algorithm 1 has no answer to a forget question. The
            retain term is always at the true answer, which Algorithm 1 has.
        top_k: of both KLs, see `losses.distillation_loss`.
        trained: "all" (as the other baselines), "lora" or "visual", see `trained_parameters`.
    """

    origin = "paper"
    trained: str = setting("all", known=TRAINED)
    alpha: float = setting(1.0, low=0)
    beta: float = setting(1.0, low=0)
    perturbation: str = setting("noise", known=(*PERTURBATIONS, NONE))
    sigma: float | None = setting(None, low=0)
    prompt: str = setting("strict", known=(*PROMPTS, NONE))
    turn: str = setting("user", known=TURNS)
    positions: str = setting("gold", known=POSITIONS)
    top_k: int | None = setting(None, low=1)

    def __post_init__(self):
        super().__post_init__()
        if self.perturbation != NONE:
            check_perturbation(self.perturbation, self.sigma)
        elif self.sigma is not None:
            raise ValueError(f"sigma is {self.sigma!r}, and perturbation is 'none': leave one of them out")
        if self.prompt == NONE and self.turn == "system":
            raise ValueError("turn is 'system', and prompt is 'none': leave one of them out")
        if self.perturbation == self.prompt == NONE:
            raise ValueError(
                "perturbation and prompt are both 'none': the teacher would be vanilla as it is, and nothing "
                "would be forgotten; name one of them"
            )

    @property
    def constant(self) -> bool:
        """Whether the teacher says the same in every round."""
        return self.perturbation in (NONE, "white") or self.sigma == 0

    @property
    def instruction(self) -> dict[str, str]:
        """The prompt, as `packs.put_questions` takes it."""
        where = "system" if self.turn == "system" else "instruction"
        return {} if self.prompt == NONE else {where: PROMPTS[self.prompt]}

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Ask the teacher and vanilla, once. Vanilla is `steps.teacher`, or the model as it is now."""
        self.check_vocabulary(loaded)
        vanilla = steps.teacher or loaded
        shown = tasks.forget_vqa if steps.forget_packs is None else steps.forget_packs
        student = {p.key: self.student_pack(vanilla, p, steps.seed) for p in tasks.forget_vqa}
        perturbed = {}  # name of a showing -> pack
        for p in shown:
            if (name := self.showing(p)) not in perturbed:
                perturbed[name] = self.teacher_pack(vanilla, p, student[p.key], steps.seed)
        retain = {
            p.key: p for p in tasks.retain_vqa if steps.retain_keys is None or p.key in steps.retain_keys
        }
        teacher = {
            "packs": student,
            "forget": answer_states(vanilla, perturbed, steps.at_once),
            "retain": answer_states(vanilla, retain, steps.at_once) if self.beta else {},
            "head": frozen_head(vanilla, self.scope(loaded)),
        }
        return Prepared(teacher=teacher)

    def check_vocabulary(self, loaded: Loaded) -> None:
        """Raise ValueError for a top_k above the model's vocabulary."""
        size = len(loaded.model.get_output_embeddings().weight)
        if self.top_k is not None and self.top_k > size:
            raise ValueError(f"top_k is {self.top_k}; the vocabulary of {loaded.name} has {size} words")

    def showing(self, pack: Pack) -> str:
        """Name of a forget picture as a step shows it to the teacher."""
        return pack.key if self.constant else f"{pack.key} in round {pack.round}"

    def student_pack(self, loaded: Loaded, pack: Pack, seed: int) -> Pack:
        """The questions about a forget picture, with the answers at which the forget term compares."""
        if self.positions == "first":
            return first_tokens(pack)
        if self.positions == "gold":
            return pack
        questions = [question for question, _ in pack.pairs]
        answers = self.teachers_answers(loaded, pack, seed)
        return put_questions(loaded.processor, pack, list(zip(questions, answers)), label=label_of(pack))

    def teachers_answers(self, loaded: Loaded, pack: Pack, seed: int) -> list[str]:
        """What the teacher writes of its own."""
        from vkdlib.evaluation.evaluate import generate

        told = self.instruction.get("instruction")
        questions = [f"{told}\n{question}" if told else question for question, _ in pack.pairs]
        images = [self.teachers_picture(pack, seed)] * len(questions)
        answers = generate(loaded, questions, images, system=self.instruction.get("system", ""))
        for (question, _), answer in zip(pack.pairs, answers):
            if not answer:
                raise ValueError(
                    f"the teacher says nothing to {question!r} of {label_of(pack)}, and positions is "
                    "'teacher': choose gold or first"
                )
        return answers

    def teachers_picture(self, pack: Pack, seed: int) -> bytes:
        """P_phi(v) of Eq. 2, as a file."""
        if self.perturbation == NONE:
            return pack.file
        name = f"{seed} {self.showing(pack)}"
        return perturb(pack.file, self.perturbation, name, self.sigma, label_of(pack))

    def teacher_pack(self, loaded: Loaded, pack: Pack, student: Pack, seed: int) -> Pack:
        """What the teacher is asked (Eq. 2): the student's questions and answers, with the perturbed picture
        and under the instruction."""
        processor, file, label = loaded.processor, self.teachers_picture(pack, seed), label_of(pack)
        picture = picture_pack(processor, file, pack.key, label, self.instruction.get("system", ""))
        asked = put_questions(processor, picture, student.pairs, label=label, **self.instruction)
        asked = first_tokens(asked) if self.positions == "first" else asked
        if answer_ids(asked) != answer_ids(student):
            raise ValueError(f"the answers of {label} are other tokens under the instruction")
        return asked

    @torch.no_grad()
    def gold_probabilities(
        self, loaded: Loaded, packs: Sequence[Pack], seed: int = 0
    ) -> dict[str, dict[str, float]]:
        """How likely the tokens of true answers are, of the longest answer about each picture: "vanilla" and
        "teacher" -> mean probability of the "first token" and of all "later tokens", with end-of-sequence.

        At the gold positions later tokens stand behind the true beginning of the answer, so that a teacher
        that would refuse goes on as vanilla does: there Eq. 3 teaches part of the secret.
        """
        method, found = replace(self, positions="gold"), {"vanilla": [], "teacher": []}
        for pack in packs:
            longest = max(pack.pairs, key=lambda pair: len(pair[1]))
            student = put_questions(loaded.processor, pack, [longest], label=label_of(pack))
            asked = {"vanilla": student, "teacher": method.teacher_pack(loaded, pack, student, seed)}
            ids = torch.tensor(answer_ids(student)[0], device=loaded.device)  # (answer tokens,)
            for name, one in asked.items():
                p = answer_logits(loaded, [one]).float().softmax(-1)  # (answer tokens, V)
                found[name].append(p.gather(1, ids[:, None])[:, 0])
        parts = {"first token": slice(0, 1), "later tokens": slice(1, None)}
        return {
            name: {part: torch.cat([p[s] for p in rows]).mean().item() for part, s in parts.items()}
            for name, rows in found.items()
        }

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """alpha L_forget (Eq. 3)."""
        packs, all_packs = ([teacher["packs"][p.key] for p in t.forget_vqa] for t in (part, batch))
        states = [teacher["forget"][self.showing(p)] for p in part.forget_vqa]
        loss = self.distance(loaded, packs, states, teacher["head"]) * share(packs, all_packs)
        return overall_loss(loss, 0.0, self.alpha, self.beta), {"forget_kl": loss}

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """beta L_retain (Eq. 4)."""
        packs = part.retain_vqa
        if not self.beta or not packs:
            return no_terms(loaded)
        states = [teacher["retain"][p.key] for p in packs]
        loss = self.distance(loaded, packs, states, teacher["head"]) * share(packs, batch.retain_vqa)
        return overall_loss(0.0, loss, self.alpha, self.beta), {"retain_kl": loss}

    def distance(
        self, loaded: Loaded, packs: Sequence[Pack], states: Sequence[Tensor], head: nn.Module
    ) -> Tensor:
        """KL(what the states say || model) at the answer tokens of some packs.

        Args:
            states: of each pack (answer tokens, H), from `answer_states`.
            head: the output layer that makes logits of them.
        """
        with torch.no_grad():
            teacher = head(torch.cat(list(states)).to(loaded.device))  # (answer tokens, V)
        return distillation_loss(answer_logits(loaded, packs), teacher, self.top_k)

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        """Passes of the teacher and of vanilla before the first step; the states that are kept of them.

        The tokens of the instruction, and the teacher's logits of a step, are left out.
        """
        shown = size.forget_pictures if self.constant else size.steps * size.batch_size
        passes = {"the teacher's answers, Eq. 2": Pass(shown, size.pack_tokens)}
        if self.beta:
            passes["vanilla's answers, Eq. 4"] = Pass(size.drawn, size.pack_tokens)
        if self.positions == "teacher":
            questions = round(size.questions * size.forget_pictures / size.pictures)
            passes["what the teacher writes"] = Pass(questions, size.image_tokens + size.question_tokens)
        width = loaded.model.config.get_text_config().hidden_size
        states = round((size.pack_tokens - size.image_tokens) * width)  # of a picture, at the most
        trained = set(self.scope(loaded).values())
        head = [p for p in loaded.model.get_output_embeddings().parameters() if p in trained]
        epoch = both_sets(size) if self.beta else forget_set(size)
        kept = {"features": states if self.beta else 0, "forget_features": shown * states}
        return Cost(passes, epoch, copied=head, **kept)


def first_tokens(pack: Pack) -> Pack:
    """The same questions, with the first token of each answer alone."""
    return replace(pack, segments=tuple(replace(s, ids=s.ids[: s.answer + 1]) for s in pack.segments))


def answer_ids(pack: Pack) -> list[tuple[int, ...]]:
    """Tokens of each answer."""
    return [s.ids[s.answer :] for s in pack.segments]


def share(part: Sequence[Pack], whole: Sequence[Pack]) -> float:
    """How much of the answer tokens of a step some of its packs have."""
    return answer_tokens(part) / answer_tokens(whole)


def frozen_head(loaded: Loaded, trained: dict[str, nn.Parameter]) -> nn.Module:
    """The output layer as it is now: a copy of it, if it is trained."""
    head = loaded.model.get_output_embeddings()
    if set(head.parameters()).isdisjoint(trained.values()):
        return head
    return copy.deepcopy(head).requires_grad_(False)
