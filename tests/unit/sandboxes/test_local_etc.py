"""The /etc of local boxes: what of the machine's own they show."""

from pathlib import Path

from envfarm.core.sandbox import Network
from envfarm.sandboxes import local_etc


def test_of_links_among_certificates_only_those_to_public_ones_are_followed(tmp_path: Path) -> None:
    certificates = tmp_path / "machine/ssl/certs"
    certificates.mkdir(parents=True)
    secret = tmp_path / "private.pem"
    secret.write_text("a key")
    (certificates / "own.pem").symlink_to(secret)
    (certificates / "Authority.pem").write_text("a certificate")
    (certificates / "0123abcd.0").symlink_to("Authority.pem")
    public = next((p for tree in local_etc.PUBLIC for p in tree.rglob("*.crt")), None)
    if public is not None:
        (certificates / "Public.pem").symlink_to(public)
    made = local_etc.make(tmp_path / "etc", Network.OPEN, tmp_path / "base", source=tmp_path / "machine") / "ssl/certs"
    assert not (made / "own.pem").exists()
    assert not (made / "own.pem").is_symlink()
    assert (made / "0123abcd.0").read_text() == "a certificate"
    assert public is None or (made / "Public.pem").read_bytes() == public.read_bytes()
