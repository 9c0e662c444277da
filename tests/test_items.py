"""Items as JSON lines: every broken line is named by its number, in one line of text."""

import json
import re
from collections import Counter

import pytest

from eai import paths, settings
from eai.errors import UserError

CHOICE = {"question": "The sky is", "choices": ["blue", "wooden"], "answer": 0}
OPEN = {"question": "2 + 2 =", "answer": "4"}


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_file_is_read_in_order_with_its_examples_apart(tmp_path):
    found = settings.read_items(
        write(tmp_path / "a.jsonl", [CHOICE, "", CHOICE | {"id": "two"}, CHOICE | {"example": True, "source": "a book"}])
    )
    assert found.kind == "choice"
    assert [row["id"] for row in found.items] == ["1", "two"] and [row["id"] for row in found.examples] == ["4"]
    assert found.examples[0]["source"] == "a book"


def test_the_digest_tells_one_content_from_another(tmp_path):
    one, same, other = (settings.read_items(write(tmp_path / f"{n}.jsonl", [row])).digest for n, row in enumerate((OPEN, OPEN, CHOICE)))
    assert one == same != other and len(one) == 8


def test_the_lines_of_the_documentation_can_be_used(tmp_path):
    lines = re.findall(r"```json\n(.*?)\n```", (paths.ROOT / "docs" / "tasks.md").read_text(), re.S)
    kinds = [settings.read_items(write(tmp_path / f"{n}.jsonl", [line])).kind for n, line in enumerate(lines)]
    assert kinds == ["choice", "open", "text"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([CHOICE, '{"question": "a"'], "line 2 is not JSON"),
        ([CHOICE, "[1, 2]"], r"line 2 is \[1, 2\]; expected an object"),
        ([CHOICE, CHOICE | {"answer": 2}], "line 2: answer is 2; expected the number of a choice, 0 to 1"),
        ([CHOICE | {"answer": -1}], "line 1: answer is -1"),
        ([CHOICE | {"answer": "blue"}], "line 1: answer is 'blue'"),
        ([CHOICE | {"answer": True}], "line 1: answer is True"),
        ([CHOICE | {"choices": ["blue"]}], "line 1: choices is .*two texts or more"),
        ([CHOICE | {"choices": ["blue", "blue"]}], "line 1: choices names 'blue' twice"),
        ([CHOICE | {"question": " "}], "line 1: question is ' '"),
        ([OPEN, {"question": "3 + 3 ="}], "line 2: answer is missing"),
        ([OPEN | {"answer": 4}], "line 1: answer is 4; expected a text"),
        ([{"text": ""}], "line 1: text is ''"),
        ([OPEN, CHOICE], "line 2: a line of kind choice in a file of kind open"),
        ([OPEN | {"id": "x"}, OPEN | {"id": "x"}], "line 2: id 'x' stands twice"),
        ([], "holds no items: it is empty"),
        (["", "  "], "holds no items: it is empty"),
        ([OPEN | {"example": True}], "holds no items: all of its 1 lines are worked examples"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_line(tmp_path, rows, words):
    with pytest.raises(UserError, match=words) as caught:
        settings.read_items(write(tmp_path / "b.jsonl", rows))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        settings.read_items(tmp_path / "none.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        settings.read_items(tmp_path / "binary.jsonl")


def test_what_editors_do_to_a_file_changes_no_line(tmp_path):
    """A byte-order mark, Windows line ends, an empty line, and a separator inside a text that ends a line for Python but not for JSON."""
    text = json.dumps(OPEN | {"question": "one\u2028two ="}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(("\ufeff" + text + "\r\n\r\n" + json.dumps(OPEN) + "\r\n").encode())
    found = settings.read_items(tmp_path / "a.jsonl")
    assert [row["line"] for row in found.items] == [1, 3] and found.items[0]["question"] == "one\u2028two ="


@pytest.mark.parametrize("name", ["mmlu", "MMLU", "facts", "ARC-Challenge"])
def test_a_file_does_not_pass_as_a_benchmark(tmp_path, name):
    with pytest.raises(UserError, match=r"would be scored as .*; rename it, such as my-"):
        settings.task_card(str(write(tmp_path / f"{name}.jsonl", [CHOICE])))
    assert settings.task_card(str(write(tmp_path / "my-mmlu.jsonl", [CHOICE]))).name == "my-mmlu"


def test_a_relative_path_counts_from_the_sweep_file(tmp_path, monkeypatch):
    (tmp_path / "sweeps").mkdir()
    write(tmp_path / "sweeps" / "mine.jsonl", [CHOICE])
    (tmp_path / "sweeps" / "s.yaml").write_text("tasks: [generate, mine.jsonl]\n")
    monkeypatch.chdir(tmp_path)
    sweep = settings.read_sweep(tmp_path / "sweeps" / "s.yaml")
    assert sweep.task_names() == ["generate", "mine"] and sweep.tasks[1] == str(tmp_path / "sweeps" / "mine.jsonl")
    (tmp_path / "sweeps" / "s.yaml").write_text("tasks: sweeps/mine.jsonl\n")
    assert settings.read_sweep(tmp_path / "sweeps" / "s.yaml").task_names() == ["mine"], "and from here, as before, where it is not there"


@pytest.mark.parametrize(("name", "n"), [("facts", 100), ("continuations", 100), ("perplexity", 20)])
def test_our_sets_hold_what_the_catalog_says(name, n):
    found = settings.read_items(settings.SETS / f"{name}.jsonl")
    assert len(found.items) == n
    assert len({row.get("question", row.get("text")) for row in (*found.items, *found.examples)}) == n + len(found.examples)
    if found.kind == "choice":
        assert Counter(row["answer"] for row in found.items) == dict.fromkeys(range(4), n // 4)
        assert Counter(row["answer"] for row in found.items[:20]) == dict.fromkeys(range(4), 5), "a limit of 20 is balanced too"


def test_every_fact_says_where_its_answer_is_from():
    found = settings.read_items(settings.SETS / "facts.jsonl")
    assert all(len(row["source"].split()) >= 2 for row in (*found.items, *found.examples))


def test_a_set_that_changes_gets_another_version():
    """Scores of one version are compared across years: whoever changes an item raises the version in the catalog, and these digests."""
    digests = {
        name: settings.read_items(settings.SETS / f"{name}.jsonl").digest for name in ("arithmetic", "facts", "continuations", "perplexity")
    }
    assert digests == {"arithmetic": "757264f5", "facts": "7e7aef35", "continuations": "009eb53a", "perplexity": "ecc84274"}
    assert {settings.task_card(name).version for name in digests} == {"1.0"}


def test_the_sums_are_all_there_once_and_right():
    read = settings.read_items(settings.SETS / "arithmetic.jsonl")
    rows = read.items
    asked = [tuple(map(int, row["question"].removesuffix(" =").split(" + "))) for row in rows]
    assert sorted(asked) == [(a, b) for a in range(10) for b in range(10)] and asked != sorted(asked)
    assert all(int(row["answer"]) == a + b for row, (a, b) in zip(rows, asked, strict=True))
    assert not {row["question"] for row in read.examples} & {row["question"] for row in rows}
