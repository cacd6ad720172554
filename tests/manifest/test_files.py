"""Which deployments are configured, and how their manifest files are read."""

import pytest

from errors import Invalid, NotFound
from manifest.files import configured, load
from tests.manifest.samples import MANIFEST, changed, container, sent


def test_every_yaml_file_is_a_deployment(tmp_path):
    for name in ("web.yaml", "api.yaml", "notes.txt", "worker.yml", ".hidden.yaml", "a.b.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "..data").mkdir()
    assert configured(tmp_path) == ["a.b", "api", "web"]
    assert configured(tmp_path, ".yml") == ["worker"]


def test_a_config_map_is_read_as_kubernetes_mounts_it(tmp_path):
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..2026_11_22" / "web.yaml").write_text(MANIFEST)
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")
    assert configured(tmp_path) == ["web"]
    assert load(tmp_path, "web").name == "web"


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(NotFound, match="can't be read: No such file or directory"):
        configured(tmp_path / "nowhere")


def test_a_file_is_read_again_when_it_has_changed(read):
    assert sent(read(MANIFEST))["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:1"
    assert container(sent(read(changed("acme/web:1", "acme/web:2"))))["image"] == "acme/web:2"


@pytest.mark.parametrize("name", ["rollback", "default", "dockerhub"])
def test_a_reserved_name_is_refused(read, name):
    with pytest.raises(Invalid, match=f"{name}.yaml: the name {name} is reserved"):
        read(MANIFEST, name)


def test_the_namespace_is_that_of_the_manifest_or_default(read):
    assert read(MANIFEST).namespace == "default"
    assert read(changed("  name: web\n", "  name: web\n  namespace: team\n")).namespace == "team"


@pytest.mark.parametrize("content", [MANIFEST.replace("\n", "\r\n"), "\ufeff" + MANIFEST, f"---\n{MANIFEST}---\n"])
def test_line_ends_and_byte_order_marks_do_no_harm(read, content):
    assert container(sent(read(content)))["image"] == "acme/web:1"


def test_what_kubectl_get_wrote_can_be_deployed(read):
    server_s = "  uid: x\n  resourceVersion: '7'\n  generation: 3\n  creationTimestamp: 2026-11-22T20:15:03Z\n"
    body = sent(read(changed("  name: web\n", f"  name: web\n{server_s}") + "status:\n  replicas: 1\n"))
    assert body["metadata"].keys() == {"name", "annotations"}
    assert "status" not in body
