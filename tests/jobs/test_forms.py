"""Every fault is one sentence that names the field or the file, at the field it was typed in."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from jobs.forms import ExtractionForm
from jobs.requests import ExtractionRequest
from tests import factories

NUMBERS = {"context": "128", "top": "24", "seed": "0", "device": "auto"}


@pytest.fixture
def registered(db: None, var: Path) -> dict[str, Any]:
    """Slugs of a model with 12 layers of width 64, an SAE that fits it, and a corpus."""
    sae = factories.make_sae(factories.make_model())
    return {"model": "tiny-lm", "sae": sae.slug, "corpus": factories.make_corpus().slug}


def write_sae(folder: Path, **config: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    return str(folder)


def make(user: User, *given: dict[str, Any], **more: str) -> ExtractionForm:
    data = dict(NUMBERS)
    for part in (*given, more):
        data |= part
    return ExtractionForm(data, user=user)


def faults(form: ExtractionForm) -> dict[str, Any]:
    assert not form.is_valid()
    return {name: " ".join(map(str, errors)) for name, errors in form.errors.items()}


def test_what_is_typed_becomes_the_request(registered: dict[str, Any], owner: User) -> None:
    form = make(owner, registered, tokens="5000", layer="3", hook="resid_pre", k="32", device="cuda:1", seed="7")
    assert form.is_valid(), form.errors
    assert form.request() == ExtractionRequest(
        **registered, tokens=5000, layer=3, hook="resid_pre", k=32, device="cuda:1", seed=7
    )


def test_what_is_left_empty_stays_open(registered: dict[str, Any], owner: User) -> None:
    form = make(owner, registered)
    assert form.is_valid(), form.errors
    assert form.request() == ExtractionRequest(**registered)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("context", "1", "Context: give a whole number from 2 to 8,192."),
        ("context", "8193", "Context: give a whole number from 2 to 8,192."),
        ("context", "", "Context: give a whole number from 2 to 8,192."),
        ("top", "0", "Top: give a whole number from 1 to 200."),
        ("top", "201", "Top: give a whole number from 1 to 200."),
        ("tokens", "0", "Tokens: give a whole number from 1 to 1,000,000,000,000."),
        ("tokens", "many", "Tokens: give a whole number from 1 to 1,000,000,000,000."),
        ("seed", "-1", "Seed: give a whole number from 0 to 2,147,483,647."),
        ("device", "gpu; rm -r /", "Device: give auto, cpu, mps, cuda or cuda:1."),
        ("device", "cpu\n", None),
        ("hook", "../../etc", "Hook: give a name such as resid_post or blocks.9.hook_resid_post."),
        ("sae", "", "SAE: choose one."),
        ("corpus", "gone", "Corpus: gone is not installed here; choose one from the list."),
    ],
)
def test_one_sentence_each(
    registered: dict[str, Any], owner: User, field: str, value: str, sentence: str | None
) -> None:
    form = make(owner, registered, {field: value})
    if sentence is None:
        assert form.is_valid()  # a line end is stripped, not sent on
        assert form.request().device == "cpu"
    else:
        assert faults(form) == {field: sentence}


def test_a_path_is_for_staff_alone(registered: dict[str, Any], member: User, staff: User, tmp_path: Path) -> None:
    path = write_sae(tmp_path / "sae", d_in=64)
    assert faults(make(member, registered, sae_path=path)) == {
        "sae": "SAE: only an administrator may give a path on the server; choose one from the list, or ask one."
    }
    assert "not installed here" in faults(make(member, registered, sae=path))["sae"]
    form = make(staff, registered, sae_path=path)
    assert form.is_valid(), form.errors
    assert form.request().sae == path


def test_nobody_learns_from_the_refusal_whether_a_path_exists(
    registered: dict[str, Any], member: User, tmp_path: Path
) -> None:
    there = faults(make(member, registered, corpus_path=str(tmp_path)))
    assert there == faults(make(member, registered, corpus_path=str(tmp_path / "gone")))


def test_what_lies_in_var_may_be_chosen_by_everybody(registered: dict[str, Any], member: User, var: Path) -> None:
    found = write_sae(var / "saes" / "mine", d_in=64)
    form = make(member, registered, sae=found)
    assert form.is_valid(), form.errors
    assert form.request().sae == found


@pytest.mark.parametrize(
    ("field", "name", "fault"),
    [
        ("model_path", "gone", "there is nothing at"),
        ("sae_path", "", "has no cfg.json"),
        ("corpus_path", "notes.csv", "does not end in one of"),
    ],
)
def test_a_fault_stands_at_the_path_that_was_typed(
    registered: dict[str, Any], staff: User, tmp_path: Path, field: str, name: str, fault: str
) -> None:
    (tmp_path / "notes.csv").touch()
    found = faults(make(staff, registered, {field: str(tmp_path / name)}))
    assert list(found) == [field]
    assert fault in found[field]
    assert str(tmp_path / name) in found[field]


def test_the_width_of_the_sae_must_be_that_of_the_model(registered: dict[str, Any], owner: User, var: Path) -> None:
    wide = write_sae(var / "saes" / "wide", d_in=768, metadata={"hook_name": "blocks.3.hook_resid_post"})
    heads = write_sae(var / "saes" / "heads", d_in=768, metadata={"hook_name": "blocks.3.attn.hook_z"})
    assert "768 numbers (d_in), but the model's are 64 wide" in faults(make(owner, registered, sae=wide))["sae"]
    assert make(owner, registered, sae=heads).is_valid()


@pytest.mark.parametrize("more", [{"layer": "12"}, {"hook": "blocks.12.hook_resid_post"}])
def test_a_layer_that_the_model_does_not_have(registered: dict[str, Any], owner: User, more: dict[str, Any]) -> None:
    fault = "Layer: there is no layer 12 in this model, which has 12 (0 to 11)."
    assert faults(make(owner, registered, more)) == {"layer": fault}


def test_the_layer_of_the_files_is_checked_unless_another_is_given(
    registered: dict[str, Any], owner: User, var: Path
) -> None:
    deep = write_sae(var / "saes" / "deep", d_in=64, metadata={"hook_name": "blocks.20.hook_resid_post"})
    assert "no layer 20" in faults(make(owner, registered, sae=deep))["layer"]
    assert make(owner, registered, sae=deep, layer="3").is_valid()


def test_the_only_choice_is_chosen(registered: dict[str, Any], owner: User) -> None:
    form = ExtractionForm(user=owner)
    assert form["sae"].value() == registered["sae"]
    assert form.nothing_installed == []


def test_what_is_missing_is_named(db: None, var: Path, owner: User) -> None:
    assert {"SAE", "Corpus"} <= set(ExtractionForm(user=owner).nothing_installed)


def test_an_estimate_needs_no_more_than_tokens(registered: dict[str, Any], owner: User, tmp_path: Path) -> None:
    from features.models import SAE, Corpus

    factories.make_run(SAE.objects.get(), Corpus.objects.get(), n_tokens=1000, seconds=1.0)
    found = ExtractionForm({"tokens": "500"}, user=owner).estimate()
    assert found is not None
    assert found.seconds == 0.5
    assert ExtractionForm({"corpus_path": str(tmp_path / "gone.txt")}, user=owner).estimate() is None
