"""Signatures: by which key a version is signed, and what answers where env.yaml requires it."""

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from small_classes import NUMBER, Shelf, as_yaml, serving, table
from small_house import ROOT
from typer.testing import CliRunner

from loopbook.cli.stores import keys_app
from loopbook.project.clock import utc_now
from loopbook.project.errors import SignatureError
from loopbook.project.paths import Project
from loopbook.provenance import signatures, statements
from loopbook.records.roles import CHAMPION
from loopbook.registry.reader import CARD, ONNX, Version
from loopbook.registry.service_files import DIGEST_TAGS

NAME = f"small-{NUMBER}"
ANA = {"now": utc_now(), "by": "ana"}


@pytest.fixture
def key(tmp_path, monkeypatch) -> Path:
    """Where the key of the project will lie."""
    monkeypatch.setenv(signatures.VARIABLE, str(tmp_path / "keys" / "signing.pem"))
    return tmp_path / "keys" / "signing.pem"


@pytest.fixture
def project(tmp_path, key) -> Project:
    (tmp_path / "house").mkdir()
    return Project(tmp_path / "house")


def made(project: Project) -> signatures.Signer:
    return signatures.create(project, NAME, **ANA)


# -- the key -------------------------------------------------------------------


def test_a_key_is_its_owners_alone_and_its_public_half_stands_in_the_project(project, key):
    signer = made(project)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (trusted,) = signatures.trusted(project.signers).values()
    assert (trusted.id, trusted.by) == (signer.id, "ana")
    assert "PRIVATE" not in project.signers.read_text()
    assert signatures.signer_of(project, NAME).id == signer.id


def test_without_a_variable_the_key_lies_in_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(signatures.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert signatures.key_file("flats") == tmp_path / "loopbook" / "flats.signing.pem"


def test_a_key_that_is_there_and_trusted_is_not_made_again(project, key):
    made(project)
    before = key.read_bytes(), project.signers.read_bytes()
    with pytest.raises(SignatureError, match="trusts already; nothing was changed"):
        made(project)
    assert (key.read_bytes(), project.signers.read_bytes()) == before


def test_a_key_that_another_clone_does_not_trust_yet_is_only_added(project, key):
    signer = made(project)
    project.signers.unlink()
    assert signatures.signer_of(project, NAME) is None
    assert made(project).id == signer.id
    assert signatures.signer_of(project, NAME).id == signer.id


def test_after_a_rotation_the_new_key_signs_and_what_the_old_one_signed_holds_until_it_is_removed(
    project, key
):
    old = made(project)
    envelope = signatures.sign(old, b"{}", "x")
    gone, new = signatures.rotate(project, NAME, **ANA)
    assert (gone.id, signatures.read_signer(NAME).id) == (old.id, new.id) != (new.id, old.id)
    assert signatures.opened(envelope, signatures.trusted(project.signers), "x") == (b"{}", old.id)
    text = project.signers.read_text()
    start, end = text.index(f'"{old.id}"'), text.index(f'"{new.id}"')
    project.signers.write_text(text[:start] + text[end:])
    with pytest.raises(SignatureError, match=f"signed by {old.id}, whom signers.yaml does not"):
        signatures.opened(envelope, signatures.trusted(project.signers), "x")


def test_a_lost_key_is_replaced_and_its_signatures_hold(project, key):
    lost = made(project)
    key.unlink()
    with pytest.raises(SignatureError, match=r"found no key to rotate\. Make one: loopbook keys"):
        signatures.rotate(project, NAME, **ANA)
    assert made(project).id != lost.id
    assert len(signatures.trusted(project.signers)) == 2


def broken_keys() -> dict[str, bytes]:
    of_rsa = rsa.generate_private_key(65537, 2048)
    pem = of_rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"no key": b"nothing", "empty": b"", "another kind": pem}


@pytest.mark.parametrize("what", broken_keys())
def test_a_file_that_is_no_such_key_is_said_so(what, project, key):
    key.parent.mkdir()
    key.write_bytes(broken_keys()[what])
    key.chmod(0o600)
    with pytest.raises(SignatureError, match="found no Ed25519 key as PEM"):
        signatures.signer_of(project, NAME)


def test_a_key_that_others_may_read_does_not_sign(project, key):
    made(project)
    key.chmod(0o644)
    with pytest.raises(SignatureError, match=r"found mode 0644, expected 0600.*chmod 600"):
        signatures.signer_of(project, NAME)


def test_a_key_below_var_is_refused(project, monkeypatch):
    monkeypatch.setenv(signatures.VARIABLE, str(project.var / "key.pem"))
    with pytest.raises(SignatureError, match="lies below var/"):
        made(project)
    assert not project.var.exists()


def test_a_place_that_cannot_be_written_is_said_so(project, key):
    key.parent.write_text("a file where the folder should be")
    with pytest.raises(SignatureError, match="cannot be written"):
        made(project)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('public: "', 'public: "A'), "holds no public key of that id"),
        (lambda text: text.replace("public:", "private:"), "holds no public key of that id"),
        (lambda text: "- a list", "expected keys and values"),
        (lambda text: text + text, "stands twice"),
    ],
)
def test_a_signers_file_that_somebody_broke_is_said_so(change, says, project):
    made(project)
    project.signers.write_text(change(project.signers.read_text()))
    with pytest.raises(SignatureError, match=says):
        signatures.trusted(project.signers)


def test_when_the_last_key_was_removed_nobody_is_trusted(project):
    project.signers.write_text(signatures.HEADING)
    assert signatures.trusted(project.signers) == {}


def typed(project: Project, monkeypatch, *words: str) -> str:
    """What `loopbook keys sign` says in a project."""
    for name, content in (("contract.yaml", as_yaml(table(NUMBER))), ("pipeline.yaml", "")):
        (project.root / name).write_text(content, encoding="utf-8")
    shutil.copy(ROOT / "env.yaml", project.root)
    monkeypatch.chdir(project.root)
    return CliRunner().invoke(keys_app, ["sign", *words], catch_exceptions=False).output


def test_a_person_reads_who_signs_whose_signatures_count_and_whether_one_is_required(
    project, key, monkeypatch
):
    assert f"found no key at {key}" in typed(project, monkeypatch)
    assert "Commit signers.yaml" in typed(project, monkeypatch, "--create")
    first = signatures.read_signer(NAME).id
    assert f"in the place of {first}" in typed(project, monkeypatch, "--rotate")
    said = typed(project, monkeypatch)
    assert f"signs       {signatures.read_signer(NAME).id}, {key}" in said
    assert f"trusted     {first}" in said
    assert "required    no (require_signature in env.yaml)" in said
    project.signers.unlink()
    assert "is not in signers.yaml. Trust it: loopbook keys sign --create" in typed(
        project, monkeypatch
    )
    with pytest.raises(SignatureError, match="found --create and --rotate, expected one"):
        typed(project, monkeypatch, "--create", "--rotate")


# -- what is signed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e | {"payload": "e30="}, "is not the one that key"),
        (lambda e: e | {"payloadType": "y"}, "holds 'y', expected 'x'"),
        (lambda e: e | {"signatures": []}, "signed by nobody"),
        (lambda e: e | {"signatures": 3}, "no envelope of DSSE"),
        (lambda e: e | {"payload": "not base64!"}, "no envelope of DSSE"),
        (lambda e: [e], "no envelope of DSSE"),
    ],
)
def test_an_envelope_that_was_changed_does_not_open(change, says, project):
    record = json.loads(signatures.sign(made(project), b'{"a": 1}', "x"))
    keys = signatures.trusted(project.signers)
    assert signatures.opened(json.dumps(record).encode(), keys, "x")[0] == b'{"a": 1}'
    with pytest.raises(SignatureError, match=says):
        signatures.opened(json.dumps(change(record)).encode(), keys, "x")


def test_what_is_signed_is_what_dsse_says():
    """The example of its protocol."""
    content = signatures._before_signing(b"hello world", "http://example.com/HelloWorld")
    assert content == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


# -- who may answer ------------------------------------------------------------


class Signed(Shelf):
    """A registry in memory, of versions that may have a signature."""

    def __init__(self) -> None:
        super().__init__(NUMBER)
        self.envelopes: dict[str, bytes] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def held(self, name: str, alias: str) -> Version | None:
        version = super().held(name, alias)
        if version is None:
            return None
        return Version(version.name, version.number, version.run_id, self.all_tags(version))

    def all_tags(self, version: Version) -> dict[str, str]:
        tags = {statements.SIGNED_BY: "a key"} if version.number in self.envelopes else {}
        return {**version.tags, **tags, **self.tags.get(version.number, {})}

    def content(self, version: Version, file: str, folder: str = "", most: int = 0) -> bytes:
        if file == statements.ENVELOPE:
            return self.envelopes[version.number]
        return super().content(version, file, folder, most)

    def sign(self, number: str, signer: signatures.Signer, **about: str) -> None:
        self.alias["asked"] = number
        tags = super().held(self.name, "asked").tags
        digests = {f"service/{file}": tags[DIGEST_TAGS[file]] for file in (ONNX, CARD)}
        told = {"model": self.name, "version": number} | about
        self.envelopes[number] = statements.signed(signer, digests, told)


@pytest.fixture
def signed(project) -> Iterator[tuple[Signed, signatures.Signer]]:
    shelf, signer = Signed(), made(project)
    shelf.sign("1", signer)
    return shelf, signer


def altered_with_its_tag(shelf: Signed, signer: signatures.Signer) -> None:
    """Another graph and card under the same number; the registry's tags follow by themselves."""
    shelf.sign("2", signer)
    shelf.files["2"] = shelf.files["1"]


REFUSED = {
    "nobody has signed it": lambda shelf, signer: None,
    "the registry says that model.onnx has SHA-256": altered_with_its_tag,
    "another version": lambda shelf, signer: shelf.envelopes.update({"2": shelf.envelopes["1"]}),
    "whom signers.yaml does not name": lambda shelf, signer: shelf.sign(
        "2", signatures.Signer("f" * 16, signer.private)
    ),
    "no envelope of DSSE": lambda shelf, signer: shelf.envelopes.update({"2": b"{"}),
}


@pytest.mark.medium
@pytest.mark.parametrize("says", REFUSED)
def test_an_unsigned_or_altered_champion_is_refused_and_the_old_one_goes_on(
    says, signed, project, key
):
    shelf, signer = signed
    REFUSED[says](shelf, signer)
    about = table(NUMBER)
    with serving(
        project.root, shelf, about, require_signature="true", serve_watch_s="1000"
    ) as http:
        assert http.get("/health/ready").json()["ready"]
        shelf.alias[CHAMPION] = "2"
        http.app.app.state.service.versions.refresh(by_hand=True)
        assert http.get("/metadata").json()["version"] == "1"
        (fault,) = http.get("/health/ready").json()["not_followed"]
    assert (fault["code"], fault["version"]) == ("signature", "2")
    assert says in fault["reason"]


def test_a_signed_version_answers_and_without_the_knob_an_unsigned_one_does(signed, project):
    shelf, signer = signed
    with serving(project.root, shelf, table(NUMBER), require_signature="true") as http:
        shelf.sign("2", signer)
        shelf.alias[CHAMPION] = "2"
        http.app.app.state.service.versions.refresh(by_hand=True)
        assert http.get("/metadata").json()["version"] == "2"
    del shelf.envelopes["2"]
    with serving(project.root, shelf, table(NUMBER), require_signature="false") as http:
        assert http.get("/metadata").json()["version"] == "2"
