"""How files are read: one line names the file and what is wrong with it."""

import pytest

from vkdlib.system.files import read_yaml


def test_names_and_values_are_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("beta: 1.0\nnames: [Zoë, b]\ndeep: {a: 1}\n", encoding="utf-8")
    assert read_yaml(file) == read_yaml(str(file)) == {"beta": 1.0, "names": ["Zoë", "b"], "deep": {"a": 1}}
    file.write_text("# nothing yet\n")
    assert read_yaml(file) == {}


@pytest.mark.parametrize(
    "text, message",
    [
        ("- beta\n- 3\n", "names and values"),
        ("beta", "names and values"),
        ("beta: [1,", "line 1, is not YAML: expected the node content"),
        ("a: b: c", "not YAML"),
        ("beta: 1\nseed: 0\nbeta: 2\n", "line 3, is not YAML: 'beta' is there twice"),
        ("deep:\n  a: 1\n  a: 2\n", "'a' is there twice"),
        ("a: \x07", "not YAML: special characters"),
        ("a: 2026-99-01", "not YAML: month must be in"),
        ("!!python/object:os.system {}", "not YAML"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, text, message):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(file)
    said = str(caught.value)
    assert said.startswith(str(file)) and "\n" not in said and "unicode string" not in said


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: Zo\xeb")
    for name in ("", "nope.yaml", "latin.yaml"):
        with pytest.raises(ValueError, match="cannot be read|not YAML") as caught:
            read_yaml(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
