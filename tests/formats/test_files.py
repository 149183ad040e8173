"""What a file holds, its content says; what cannot be read is a reject or one sentence."""

import gzip
import json

import polars as pl
import pytest
import zstandard

from pairwright.errors import InputError
from pairwright.formats.read import read

ROW = {"prompt": "Say hi.", "chosen": "hi", "rejected": "no"}
LINE = json.dumps(ROW) + "\n"


def pairs(path, **settings):
    prefs = read(path, **settings)
    return prefs, prefs.texts().collect()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINE.encode() * 2),
        ("a.txt", LINE.encode() * 2),
        ("a.json", LINE.encode() * 2),
        ("no_suffix", LINE.encode() * 2),
        ("a.jsonl", LINE.encode() * 2 + LINE.encode().strip()[:-1] + b"}"),
        ("crlf.jsonl", LINE.replace("\n", "\r\n").encode() * 2),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINE.encode() * 2),
        ("blank.jsonl", b"\n" + LINE.encode() + b"\n  \n" + LINE.encode()),
        ("a.jsonl.gz", gzip.compress(LINE.encode() * 2, mtime=0)),
        ("gz_without_suffix.jsonl", gzip.compress(LINE.encode() * 2, mtime=0)),
        ("plain_named.jsonl.gz", LINE.encode() * 2),
        ("a.jsonl.zst", zstandard.compress(LINE.encode() * 2)),
        ("two_frames.jsonl.zst", zstandard.compress(LINE.encode()) + zstandard.compress(LINE.encode())),
        ("a.json", json.dumps([ROW, ROW]).encode()),
        ("pretty.json", json.dumps([ROW, ROW], indent=2).encode()),
        ("data.json", json.dumps({"data": [ROW, ROW]}).encode()),
        ("pretty_data.json", json.dumps({"data": [ROW, ROW]}, indent=2).encode()),
        ("a.json.gz", gzip.compress(json.dumps([ROW, ROW]).encode(), mtime=0)),
        ("a.csv", b"prompt,chosen,rejected\nSay hi.,hi,no\nSay hi.,hi,no\n"),
        ("a.tsv", b"prompt\tchosen\trejected\nSay hi.\thi\tno\nSay hi.\thi\tno\n"),
    ],
)
def test_the_same_rows_come_from_every_container(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    prefs, table = pairs(path)
    assert table.height == prefs.lineage[0].rows_in
    assert table.height in (2, 3)
    assert {row["chosen"][0]["content"] for row in table.iter_rows(named=True)} == {"hi"}
    assert prefs.counts().prompts == 1
    assert prefs.counts().responses == 2
    assert prefs.lineage[0].inputs.keys() == {name}


def test_only_a_line_feed_ends_a_line(tmp_path):
    odd = "a\u2028b\u2029c\x85d\x0be\rf"
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**ROW, "chosen": odd}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert pairs(path)[1]["chosen"][0][0]["content"] == odd


def test_a_long_file_is_read_across_blocks_with_right_line_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("pairwright.formats.files.BLOCK", 64)
    monkeypatch.setattr("pairwright.formats.files.ROWS", 3)
    good = [json.dumps({**ROW, "n": n}) for n in range(50)]
    good.insert(20, "{broken")
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(good), encoding="utf-8")
    prefs, table = pairs(path, rejects=tmp_path / "r.jsonl")
    assert table["n"].to_list() == list(range(50))
    rejected = json.loads((tmp_path / "r.jsonl").read_text())
    assert (rejected["line"], rejected["reason"], rejected["raw"]) == (21, "not_json", "{broken")
    assert (prefs.lineage[0].rows_in, prefs.lineage[0].rows_out) == (51, 50)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{broken", "not_json"),
        ('{"prompt": "a"', "not_json"),
        ("[1, 2]", "not_an_object"),
        ('"text"', "not_an_object"),
        ("3", "not_an_object"),
        ('{"prompt": "p", "chosen": "c"}', "missing_column"),
        ('{"prompt": "p", "chosen": "c", "rejected": null}', "null_text"),
        ('{"prompt": "p", "chosen": true, "rejected": "r"}', "not_text"),
        ('{"prompt": "p", "chosen": 3, "rejected": "r"}', "not_text"),
        ('{"prompt": null, "chosen": "c", "rejected": "r"}', "null_text"),
        ('{"prompt": "p", "chosen": [], "rejected": "r"}', "no_answer"),
        ('{"prompt": "p", "chosen": [{"role": "assistant"}], "rejected": "r"}', "missing_column"),
        ('{"prompt": "p", "chosen": [{"role": "assistant", "content": null}], "rejected": "r"}', "null_text"),
        ('{"prompt": "p", "chosen": ["x"], "rejected": "r"}', "not_text"),
        ("{" * 5000, "not_json"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_the_file_goes_on(tmp_path, bad, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(LINE + bad + "\n" + LINE, encoding="utf-8")
    prefs, table = pairs(path, rejects=tmp_path / "r.jsonl")
    assert table.height == 2
    assert prefs.dropped == {reason: 1}
    assert json.loads((tmp_path / "r.jsonl").read_text())["raw"] == bad
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: .*\(" + reason):
        read(path, strict=True)


@pytest.mark.parametrize("bad", ["# exported by a tool", "null", "3", '"text"', "[1, 2]", "{broken", '{"prompt": "a'])
def test_a_bad_first_line_is_a_reject_like_any_other(tmp_path, bad):
    path = tmp_path / "a.jsonl"
    path.write_text(bad + "\n" + LINE * 3, encoding="utf-8")
    prefs, table = pairs(path)
    assert table.height == 3
    assert sum(prefs.dropped.values()) == 1


@pytest.mark.parametrize("digits", [401, 5000])
@pytest.mark.parametrize("container", ["{}\n{}\n", "[{}, {}]"])
def test_a_score_beyond_all_floats_becomes_null_and_is_counted(tmp_path, digits, container):
    huge = "1" + "0" * (digits - 1)
    row = f'{{"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": {huge}, "score_rejected": 1, "n": %s}}'
    path = tmp_path / "a.json"
    path.write_text(container.replace("{}", row) % (huge, "0.5"))
    prefs, table = pairs(path)
    assert table["score_chosen"].to_list() == [None, None]
    assert table["score_rejected"].to_list() == [1.0, 1.0]
    assert "2 rows: a score that is not a finite number became null" in prefs.lineage[0].notes


def test_python_rows_with_half_a_surrogate_pair_or_odd_keys(tmp_path):
    half = {**ROW, "chosen": ({"role": "assistant", "content": "half \ud83d"},), "n": 1 << 70}
    rows = [ROW, half, {**ROW, 3: "x"}, {**ROW, ("a", "b"): 1}, ROW]
    prefs = read(rows, rejects=tmp_path / "r.jsonl")
    assert [row["chosen"][0]["content"] for row in prefs.rows()] == ["hi", "half \ufffd\ufffd\ufffd", "hi"]
    assert prefs.dropped == {"key_not_text": 2}
    assert "1 lines: half a surrogate pair became U+FFFD" in prefs.lineage[0].notes
    rejected = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejected] == [3, 4]
    assert rejected[0]["says"] == "the row has a key that is no text (3)"


def test_cells_of_csv_that_are_json_texts_stay_texts(tmp_path):
    texts = ['["a","b"]', '{"a": 1}', "[1, 2]", "[]", "{}", '[{"role": "x"}]']
    rows = [{"prompt": text, "chosen": text, "rejected": "no", "goal": "[1.5, 2]"} for text in texts]
    pl.DataFrame(rows).write_csv(tmp_path / "a.csv")
    prefs, table = pairs(tmp_path / "a.csv")
    assert [row[0]["content"] for row in table["prompt"].to_list()] == texts
    assert [row[0]["content"] for row in table["chosen"].to_list()] == texts
    assert table["goal"].to_list() == [[1.5, 2.0]] * len(texts)
    assert prefs.dropped == {}


def test_without_rejects_there_is_no_rejects_file_and_no_stale_one(tmp_path):
    path, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    path.write_text(LINE)
    rejects.write_text("old")
    read(path, rejects=rejects)
    assert not rejects.exists()


def test_non_finite_scores_become_null_and_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [f'{{"prompt": "p", "chosen": "c{i}", "rejected": "r", "score_chosen": {s}, "score_rejected": 0}}\n'
            for i, s in enumerate(["NaN", "Infinity", "-Infinity", '"N/A"', "null", "7"])]  # fmt: skip
    path.write_text("".join(rows))
    prefs = read(path)
    view = prefs.view("score").collect()
    assert view["score_chosen"].to_list() == [None] * 5 + [7.0]
    assert view["score_rejected"].to_list() == [0.0] * 6
    assert "3 rows: a score that is not a finite number became null" in prefs.lineage[0].notes
    assert "1 rows: a score of 'N/A' became null" in prefs.lineage[0].notes


def test_bad_unicode_is_read_and_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"prompt": "p", "chosen": "half \\ud83d", "rejected": "r"}\n'
        b'{"prompt": "p", "chosen": "byte \xff", "rejected": "r"}\n'
        b'{"prompt": "p", "chosen": "\xe2\x80\xae \\u0000 \xef\xbf\xbd", "rejected": "r"}\n'
    )
    prefs, table = pairs(path)
    texts = [row["chosen"][0]["content"] for row in table.iter_rows(named=True)]
    assert texts[0].startswith("half \ufffd")
    assert texts[1:] == ["byte \ufffd", "\u202e \x00 \ufffd"]
    notes = " ".join(prefs.lineage[0].notes)
    assert "1 lines: half a surrogate pair became U+FFFD" in notes
    assert "1 lines: bytes that are not UTF-8 became U+FFFD" in notes


def test_empty_answers_equal_texts_ties_and_whitespace_are_read_as_they_are(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [("", "x"), ("same", "same"), (" \t lead", "trail \n")]
    path.write_text("".join(json.dumps({"prompt": " p ", "chosen": c, "rejected": r}) + "\n" for c, r in rows))
    table = pairs(path)[1]
    found = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in table.iter_rows(named=True)]
    assert found == rows
    assert table["prompt"][0][0]["content"] == " p "


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "only blank lines"),
        ("a.json", b"[]", "an empty list"),
        ("a.json", b"[1, 2]", "none of 2 rows can be read"),
        ("a.json", b"[{]", "line 1: not JSON"),
        ("a.jsonl", b"{broken\n{worse\n", "line 1: not JSON"),
        ("a.jsonl.gz", gzip.compress(LINE.encode() * 999, mtime=0)[:-20], "ends early or is damaged"),
        (
            "a.jsonl.gz",
            gzip.compress(LINE.encode() * 9, mtime=0)[:30] + b"\x00" * 50,
            "ends early or is damaged|no good gzip",
        ),
        ("a.jsonl.zst", zstandard.compress(LINE.encode() * 999)[:20], "ends early or is damaged"),
        ("a.bin", b"\x00\x01\x02\x03" * 9, "is binary"),
        ("a.zip", b"PK\x03\x04rest", "is a zip archive"),
        ("a.arrow", b"ARROW1\x00\x00rest", "is an Arrow file"),
        ("a.jsonl", LINE.encode("utf-16"), "is UTF-16"),
        ("a.parquet", b"PAR1 and nothing", "no readable parquet"),
        ("a.md", b"# a text", "neither JSON lines"),
        ("a.csv", b"prompt,chosen,rejected\n", "a header and no rows"),
        ("a.jsonl", b'{"x": 1, "y": 2}\n', r"no known format has the columns x, y; .*columns=\{"),
        ("a.jsonl", b'{"prompt": "p", "chosen_text": "c", "rejected_text": "r"}\n' * 2, "no known format has"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_with_its_name(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_names_its_nearest_neighbour(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINE)
    with pytest.raises(InputError, match=r"there is no file .*trian\.jsonl; did you mean 'train\.jsonl'\?"):
        read(tmp_path / "trian.jsonl")
    with pytest.raises(InputError, match="nor a directory"):
        read(tmp_path / "no" / "where.jsonl")


def test_a_directory_of_another_kind_lists_its_files(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINE)
    with pytest.raises(InputError, match=r"give one of its files: train\.jsonl"):
        read(tmp_path)


def test_ragged_rows_of_csv_are_rejected(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,chosen,rejected\np,"c\nwith a line",r\np,c\np,c,r,extra\np,"",r\n')
    prefs, table = pairs(path, rejects=tmp_path / "r.jsonl")
    assert prefs.dropped == {"ragged_row": 2}
    assert [row["chosen"][0]["content"] for row in table.iter_rows(named=True)] == ["c\nwith a line", ""]
    assert [json.loads(line)["line"] for line in (tmp_path / "r.jsonl").read_text().splitlines()] == [4, 5]


def test_frames_lists_and_datasets_hold_the_same_rows(tmp_path):
    import datasets
    import pandas as pd

    rows = [{**ROW, "score_chosen": 2.0, "score_rejected": None, "n": i} for i in range(5)]
    expected = read(rows)
    frame = pl.DataFrame(rows)
    kept = frame.clone()
    assert read(frame) == expected
    assert read(frame.lazy()) == expected
    assert frame.equals(kept)
    assert read(pd.DataFrame(rows)) == expected
    assert read(datasets.Dataset.from_list(rows)) == expected
    frame.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == expected
    with pytest.raises(InputError, match="a int cannot be read"):
        read(3)
    with pytest.raises(InputError, match="is a text and no path"):
        read(LINE * 2)


def test_datasets_directories_and_dicts_give_their_splits(tmp_path):
    import datasets

    one = datasets.Dataset.from_list([{**ROW, "n": 1}])
    two = datasets.Dataset.from_list([{**ROW, "n": 2}, {**ROW, "n": 3}])
    both = datasets.DatasetDict({"train": one, "test": two})
    both.save_to_disk(tmp_path / "saved")
    for source in (both, tmp_path / "saved"):
        table = read(source).pairs.collect()
        assert table.select("n", "split").rows() == [(1, "train"), (2, "test"), (3, "test")]
        assert read(source, split="test").counts().pairs == 2
    with pytest.raises(InputError, match="no split 'dev'; it has train, test"):
        read(both, split="dev")
    preferences = datasets.DatasetDict({"train_prefs": one, "train_sft": two})
    assert read(preferences).pairs.collect()["split"].to_list() == ["train"]


def test_a_hub_name_that_cannot_be_had_is_one_sentence():
    with pytest.raises(
        InputError, match="nobody/nothing is no file here, and no hub dataset could be loaded"
    ) as caught:
        read("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_damaged_page_of_parquet_is_one_sentence(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame([{**ROW, "n": str(i * 7919)} for i in range(5000)]).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet is no readable parquet file \(.*get it again") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_native_directory_is_opened_as_it_is(tmp_path):
    prefs = read([ROW])
    prefs.save(tmp_path / "native")
    assert read(tmp_path / "native") == prefs
    assert read(prefs) is prefs
    (tmp_path / "old.jsonl").write_text("an older source's rejects")
    read(tmp_path / "native", rejects=tmp_path / "old.jsonl")
    assert not (tmp_path / "old.jsonl").exists()
    with pytest.raises(InputError, match="is a pairwright directory"):
        read(tmp_path / "native", limit=1)
