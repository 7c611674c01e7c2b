import pytest

from trainables.errors import BudgetError, ConfigError
from trainables.models import shape_files
from trainables.models.shapes import AttentionBlocks, Blocks

GOOD = "width: 48, depth: 1, heads: 3, feed_forward: 310"


def test_entries_know_their_place(tmp_path):
    path = tmp_path / "50k.yaml"
    path.write_text(f"# mine\npatchtst: {{{GOOD}}}\nmlp:\n  width: 32\n  depth: 1\n  feed_forward: 176\n")
    entries = shape_files.load(path)
    shape = AttentionBlocks(width=48, depth=1, heads=3, feed_forward=310)
    assert entries["patchtst"] == shape_files.Entry(place=f"{path}:2: patchtst", shape=shape)
    assert entries["mlp"].shape == Blocks(width=32, depth=1, feed_forward=176)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 1, "is not a mapping"),
        ("- 1\n- 2", 1, "is not a mapping"),
        ("patchtst: 12", 1, "patchtst: is not a mapping"),
        ("\npatchTST: {width: 8}", 2, "patchTST: unknown key\n    fix: did you mean 'patchtst'?"),
        ("forest: {width: 8}", 1, "forest: unknown key\n    fix: known: itransformer, lstm, mlp, patchtst, "),
        (f"patchtst: {{{GOOD}, dept: 2}}", 1, "patchtst.dept: unknown key\n    fix: did you mean 'depth'?"),
        (f"patchtst: {{{GOOD}, depth: 2}}", 1, "patchtst.depth: is given twice"),
        ("patchtst:\n  width: 48\n  heads: 3\n", 2, "patchtst: depth, feed_forward missing"),
        (
            "patchtst:\n  width: 48\n  depth: 1.5\n  heads: 3\n  feed_forward: 9\n",
            3,
            "patchtst.depth: Input should be a valid integer (got '1.5')",
        ),
        (
            "patchtst:\n  width: '48'\n  depth: 1\n  heads: 3\n  feed_forward: 9\n",
            2,
            "patchtst.width: Input should be a valid integer (got '48')",
        ),
        (
            "patchtst:\n  width: 48\n  depth: yes\n  heads: 3\n  feed_forward: 9\n",
            3,
            "patchtst.depth: Input should be a valid integer (got 'yes')",
        ),
        (
            "patchtst:\n  width: 48\n  depth: 0\n  heads: 3\n  feed_forward: 9\n",
            3,
            "patchtst.depth: Input should be greater than or equal to 1 (got '0')",
        ),
        (
            "patchtst:\n  width: [48]\n  depth: 1\n  heads: 3\n  feed_forward: 9\n",
            2,
            "patchtst.width: Input should be a valid integer (got a list or a mapping)",
        ),
        (
            "patchtst:\n  width: 48\n  depth: 1\n  heads: 5\n  feed_forward: 9\n",
            2,
            "5 heads do not divide the width 48",
        ),
        ("mlp: {width: 8, depth: 1, heads: 2, feed_forward: 9}", 1, "mlp.heads: unknown key"),
        ("patchtst: {width: 48", 1, "is not YAML"),
        ("patchtst:\n\twidth: 48", 2, "is not YAML"),
        ("a: b: c", 1, "is not YAML"),
    ],
)
def test_a_broken_file_is_refused_with_line_key_and_mend(tmp_path, text, line, expected):
    path = tmp_path / "50k.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        shape_files.load(path)
    assert str(caught.value).startswith(f"{path}:{line}")
    assert expected in str(caught.value)
    assert all(problem.fix for problem in caught.value.problems)


def test_all_problems_of_a_file_are_reported_together(tmp_path):
    path = tmp_path / "50k.yaml"
    path.write_text("patchtst: {width: 0, dept: 1, heads: 3}\nforest: {}\n")
    with pytest.raises(ConfigError) as caught:
        shape_files.load(path)
    assert len(caught.value.problems) == 4  # forest, dept, width, what is missing


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "50k.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        shape_files.load(path)


def test_a_yaml_file_cannot_make_objects(tmp_path):
    path = tmp_path / "50k.yaml"
    path.write_text("patchtst: {width: !!python/object/apply:os.getpid [], depth: 1, heads: 1, feed_forward: 1}")
    with pytest.raises(ConfigError, match=r"patchtst.width: Input should be a valid integer"):
        shape_files.load(path)


def test_files_are_found_by_number(tmp_path):
    path = tmp_path / "2b.yaml"
    path.touch()
    assert shape_files.find(tmp_path, 2 * 10**9) == path
    assert shape_files.find(tmp_path, 2 * 10**6) is None
    assert shape_files.find(tmp_path / "missing", 2 * 10**9) is None


def test_two_files_of_one_budget_are_refused(tmp_path):
    (tmp_path / "2b.yaml").touch()
    (tmp_path / "2000m.yaml").touch()
    with pytest.raises(BudgetError, match=r"2000m.yaml, 2b.yaml are of one budget"):
        shape_files.find(tmp_path, 2 * 10**9)


def test_a_file_whose_name_is_no_budget_is_refused_not_skipped(tmp_path):
    (tmp_path / "2bb.yaml").touch()
    with pytest.raises(BudgetError, match=r"2bb\.yaml: '2bb' is not a budget"):
        shape_files.find(tmp_path, 50_000)
