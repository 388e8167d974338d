"""The model card of a run: what was done to the model, what it answers now, and what that does not show."""

import pandas as pd

import vkdlib
from vkdlib.evaluation.metrics import summarise
from vkdlib.methods import METHODS
from vkdlib.models.folders import is_hub_id, short_name
from vkdlib.runs.run_folder import Run

SETS = {
    "forget": "people to forget, known pictures",
    "test": "people to forget, unseen pictures",
    "retain": "people to retain, known pictures",
    "retain_unseen": "people to retain, unseen pictures",
    "real": "real-world people",
    "world": "pictures of the world",
}
CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [machine-unlearning, vkdlib]
{base}---

# {title}

{what}

## Use

```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this one, or its name on the Hub
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder, backend="pil")
turn = {{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "Who is this?"}}]}}
text = processor.apply_chat_template([turn], add_generation_prompt=True)
inputs = processor(images=[Image.open("picture.png").convert("RGB")], text=[text], return_tensors="pt")
ids = model.generate(**inputs, max_new_tokens=50, do_sample=False)[:, inputs["input_ids"].shape[1] :]
print(processor.batch_decode(ids, skip_special_tokens=True)[0])
```

`backend="pil"` gives the pixels that the model was trained and tested with, with or without torchvision.

## Settings

{settings}

## Record

Intervals are 95 %, with people as units. N counts questions.

{record}

## Limits

- The record is of {people} people to forget. It says nothing about others.
- A wrong answer is no proof of forgetting: other questions, other pictures, a little training or another
  precision may bring the knowledge back. The record shows the questions that were put, and no attack.
- What is known of a person in text alone is not changed by a method that trains the visual module.
- This model is for research on unlearning. It does not show that anybody's data were deleted.

## Source

vkdlib {version}, run {hash}. vkdlib implements the methods of two papers and those that they compare with:

- VKD: "Robust MLLM Unlearning via Visual Knowledge Distillation" (<https://arxiv.org/abs/2512.11325>)
- VGID: "Visual-Noise Guided In-Context Distillation for Multimodal Large Language Model Unlearning"
  (<https://arxiv.org/abs/2606.00105>)
"""


def model_card(run: Run) -> str:
    """The card as Markdown, with the header that the Hub reads. It names no place on this machine."""
    c, predictions = run.configuration, run.predictions
    model, benchmark = short_name(c.model), short_name(c.benchmark)
    method = METHODS.get(c.method)
    forget = predictions[predictions.set == "forget"].person.nunique()
    what = (
        f"{model} after unlearning {forget} people ({c.forget_ratio} %, draw {c.draw}) of {benchmark} by "
        f"{c.method}. {method.describe()}"
        if method
        else f"{model} as it is ({c.method}), with answers to the questions of {benchmark}."
    )
    return CARD.format(
        base=f"base_model: {model}\n" if is_hub_id(c.model) and not c.model.startswith("testbed/") else "",
        title=f"{model}, {c.method}, {benchmark}",
        what=what,
        settings=_table(settings(run), ["setting", "value"]),
        record=_table(
            record_rows(predictions), ["questions about", "kind", "metric", "value", "N", "people"]
        ),
        people=forget,
        version=vkdlib.__version__,
        hash=run.hash,
    )


def settings(run: Run) -> list[tuple]:
    """(name, value) of all that makes the run what it is; of folders the `short_name`."""
    values = {name: value for name, value in run.configuration.flat.items() if value is not None}
    return [(name, short_name(v) if isinstance(v, str) else v) for name, v in values.items()]


def record_rows(predictions: pd.DataFrame) -> list[tuple]:
    """What the model answers, as rows of a table."""
    return [
        (
            f"{SETS.get(row.set, row.set)} ({'picture' if row.modality == 'vqa' else 'text'})",
            row.kind,
            row.metric,
            f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]",
            row.n,
            row.people,
        )
        for row in summarise(predictions).itertuples()
    ]


def _table(rows: list[tuple], titles: list[str]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(v).replace("|", "\\|") for v in line) + " |" for line in lines)
