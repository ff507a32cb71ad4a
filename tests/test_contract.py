"""The contract and the knobs: read strictly, every fault told at once."""

from pathlib import Path

import pytest
import yaml

from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import ContractError, KnobError
from loopbook.project.knobs import Knobs, read_knobs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def written(tmp_path):
    """Write the example's contract with some of it changed; give back its path."""

    def write(change) -> Path:
        content = yaml.safe_load((ROOT / "contract.yaml").read_text())
        change(content)
        path = tmp_path / "contract.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def test_the_examples_contract_is_whole():
    table = read_contract(ROOT / "contract.yaml")
    assert table.key == ["id", "date"]
    assert table.entity == "zipcode"
    assert table.label_delay_days == 7
    assert table.aliases["size"] == "sqft_living"
    assert table.aliases["rooms"] == "bedrooms"
    assert all(feature.meaning for feature in table.features.values())


def test_every_fault_is_listed_at_once(written):
    def change(content):
        content["labl_delay_days"] = content.pop("label_delay_days")
        content["features"]["grade"]["range"] = [13, 1]
        content["features"]["floors"]["type"] = "text"

    with pytest.raises(ContractError) as caught:
        read_contract(written(change))
    told = str(caught.value)
    assert "contract.yaml: 3 faults, nothing was run." in told
    assert "labl_delay_days: unknown key; did you mean 'label_delay_days'?" in told
    assert "range [13, 1]: expected [least, greatest]" in told.replace(".0", "")
    assert "features.floors.type: found 'text', expected 'integer', 'number'" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(entity="grade"), "entity: 'grade' is not a feature of type category"),
        (lambda c: c["target"].update(per="color"), "target.per: 'color' is not a numeric feature"),
        (lambda c: c["features"]["view"].update(alias="size"), "alias 'size': used twice"),
        (lambda c: c.update(slices={"grade": None}), "slices.grade: a number needs edges"),
        (
            lambda c: c.update(derived={"age": {"formula": "open('x')", "meaning": "Age."}}),
            "derived.age.formula: 'open' is neither a number that is known here nor one of the functions",
        ),
        (lambda c: c["features"]["view"].update(example=9), "example 9: expected it inside"),
    ],
)
def test_names_that_do_not_agree_are_told_with_a_remedy(written, change, told):
    with pytest.raises(ContractError, match="1 fault,") as caught:
        read_contract(written(change))
    assert told in str(caught.value)


def test_a_key_that_stands_twice_is_no_contract(tmp_path):
    """YAML itself would take the second and say nothing."""
    path = tmp_path / "contract.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(ContractError, match=r"line 2: key 'name' stands twice; remove one"):
        read_contract(path)


def test_comments_do_not_change_the_digest_and_a_range_does(written):
    plain = read_contract(ROOT / "contract.yaml")
    assert read_contract(written(lambda c: None)).digest() == plain.digest()
    wider = read_contract(written(lambda c: c["features"]["view"].update(range=[0, 5])))
    assert wider.digest() != plain.digest()


def test_a_knob_out_of_range_is_told_with_its_range():
    with pytest.raises(KnobError) as caught:
        read_knobs(ROOT / "env.yaml", {"test_days": 0, "as_of": "soon", "gate_margn": 1})
    told = str(caught.value)
    assert "test_days: found 0, expected greater than or equal to 1" in told
    assert "as_of: found 'soon', expected a day such as 2014-10-01, or newest" in told
    assert "gate_margn: unknown knob; did you mean 'gate_margin'?" in told


def test_every_knob_is_in_env_yaml_with_a_comment_and_in_the_graph():
    lines = (ROOT / "env.yaml").read_text().splitlines()
    graph = "".join((ROOT / f"pipeline{n}.yaml").read_text() for n in ("", ".monitor"))
    for name in Knobs.model_fields:
        assert any(line.startswith(f"{name}:") and "#" in line for line in lines), name
        assert f"{{{{{name}}}}}" in graph or name.startswith(
            ("serve_", "loop_", "calibration", "require_signature")
        ), name


def test_every_key_of_the_contract_is_documented():
    """And no key is documented that does not exist."""
    import loopbook.project.contract as module

    models = [module.Source, module.Target, module.Feature, module.Derived, module.Coordinates]
    models += [module.KnownFault, module.Dialect, module.History, module.Trailing, Contract]
    models += [module.Costs, module.KnownAfter, module.KnownLeak]
    keys = {name for model in models for name in model.model_fields}
    page = (ROOT / "docs/contract.md").read_text()
    documented = {ln.split("`")[1] for ln in page.splitlines() if ln.startswith("| `")}
    assert documented == keys


@pytest.mark.medium
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["features"]["grade"].update(range=[1, float("inf")]), "finite number"),
        (lambda c: c["features"]["floors"].update(example=float("nan")), "expected a"),
        (lambda c: c["source"].update(dialect={"separator": "€"}), "source.dialect.separator"),
        (lambda c: c["source"].update(dialect={"separator": "\n"}), "source.dialect.separator"),
        (lambda c: c["source"].update(dialect={"separator": '"'}), "are both"),
        (lambda c: c["features"]["zipcode"].update(categories=["98115", "98115"]), "stands twice"),
        (lambda c: c["features"]["zipcode"].update(categories=["1"]), "one of the categories"),
        (lambda c: c["features"].update({"Preis (€)": c["features"]["grade"]}), "'preis' here"),
        (lambda c: c["features"]["grade"].update(column="bedrooms"), "lead to one column only"),
        (lambda c: c.update(headers={"price": "P"}), None),
        (lambda c: c.update(headers={"colour": "P"}), "headers.colour: no column of that name"),
        (lambda c: c.update(ignored=["grade"]), "ignored: 'grade' is in use elsewhere"),
        (lambda c: c["target"].update(name="id"), "'id' is in key"),
        (lambda c: c["derived"].update({"log_sqft_living": {"formula": "grade", "meaning": "G."}}), "target.per"),
    ],
)  # fmt: skip
def test_what_could_not_be_built_or_served_is_no_contract(written, change, told):
    if told is None:
        assert read_contract(written(change)).header_of["price"] == "P"
        return
    with pytest.raises(ContractError) as caught:
        read_contract(written(change))
    assert told in str(caught.value)
