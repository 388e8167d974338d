"""What the model card of a run tells of this machine: nothing."""

import re
from types import SimpleNamespace

import pytest
from made_up_runs import made_up_answers

from vkdlib.models.folders import short_name
from vkdlib.public import card
from vkdlib.runs.configuration import Configuration


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The card of a run of a model and a benchmark."""
    monkeypatch.chdir(tmp_path)
    answers = made_up_answers(lambda *_: 1.0)

    def write(model, benchmark, **values):
        configuration = Configuration(model=model, benchmark=benchmark, **values)
        run = SimpleNamespace(configuration=configuration, predictions=answers, hash="0123456789ab")
        return card.model_card(run)

    return write


def test_of_a_folder_it_has_its_name_and_not_its_place(written, tmp_path):
    places = {name: tmp_path / "secret place" / name for name in ("vanilla", "retain", "people", "npo")}
    for folder in places.values():
        folder.mkdir(parents=True)
    text = written(
        str(places["vanilla"]),
        str(places["people"]),
        method="NPO",
        retain_only=str(places["retain"]),
        settings={"reference": str(places["npo"])},
    )
    assert str(tmp_path) not in text and "secret" not in text and "base_model" not in text
    assert "# vanilla, NPO, people\n" in text
    for name, value in {"model": "vanilla", "retain_only": "retain", "reference": "npo"}.items():
        assert f"| {name} | {value} |" in text


def test_a_base_model_is_one_of_the_hub(written, tmp_path):
    """A folder may look like owner/name."""
    assert "base_model: me/vanilla\n" in written("me/vanilla", "testbed/mllmu")
    (tmp_path / "me" / "vanilla").mkdir(parents=True)
    text = written("me/vanilla", "testbed/mllmu")
    assert "base_model" not in text and "# vanilla, VKD, testbed/mllmu\n" in text
    assert "base_model" not in written("testbed/llava", "testbed/mllmu")
    assert short_name("testbed/llava") == "testbed/llava"


def test_both_papers_are_its_source(written):
    source = written("testbed/llava", "testbed/mllmu", method="VGID").partition("## Source")[2]
    assert re.findall(r"arxiv.org/abs/([\d.]+)>", source) == ["2512.11325", "2606.00105"]
