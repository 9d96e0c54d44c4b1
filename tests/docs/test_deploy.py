"""What deploy/ holds is what those who read it take it for: by their schemas, or by the programs themselves."""

import json
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from certificates import self_signed
from nkeys import User
from programs import program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(file):
    return list(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_kubernetes_takes_its_manifests(file):
    for document in documents(file):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_all_of_what_is_written_for_kubernetes_is_put_up():
    kustomization = documents(DEPLOY / "kustomization.yaml")[0]
    assert [DEPLOY / name for name in sorted(kustomization["resources"])] == MANIFESTS
    (configuration,) = kustomization["configMapGenerator"]
    assert all((DEPLOY / name).is_file() for name in configuration["files"])
    everything = [document for file in MANIFESTS for document in documents(file)]
    pods = [d["spec"]["template"] for d in everything if d["kind"] in ("Deployment", "StatefulSet")]
    images = {c["image"] for pod in pods for c in pod["spec"]["containers"]}
    assert {image["name"] for image in kustomization["images"]} == {image for image in images if "/" not in image}
    # Whatever chooses pods by their labels finds some.
    labels = [pod["metadata"]["labels"] for pod in pods]
    for document in everything:
        spec = document.get("spec", {})
        chosen = spec.get("podSelector") or spec.get("selector")
        if chosen:
            wanted = chosen.get("matchLabels", chosen)
            assert any(wanted.items() <= each.items() for each in labels), document["metadata"]["name"]


def test_compose_takes_its_file():
    schema = json.loads(resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    compose = documents(DEPLOY / "compose.yaml")[0]
    jsonschema.validate(compose, schema)
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file(), volume


def flags(binary, command):
    """Flags of a subcommand, as the environment's names for them."""
    said = subprocess.run([binary, command, "--help"], check=True, capture_output=True, text=True).stdout
    return {f"GLIMPSE_{flag.upper().replace('-', '_')}" for flag in re.findall(r"--([a-z][a-z-]+)", said)}


def test_every_setting_is_one_of_the_program(binary):
    known = {command: flags(binary, command) for command in ("gateway", "worker")}
    seen = []
    compose = documents(DEPLOY / "compose.yaml")[0]
    for service in compose["services"].values():
        command = (service.get("command") or [""])[0]
        if command in known:
            seen += [(command, name) for name in service["environment"]]
    for file in MANIFESTS:
        for document in documents(file):
            for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                command = container["args"][0]
                if command in known:
                    seen += [(command, each["name"]) for each in container["env"]]
    for unit in (DEPLOY / "systemd").iterdir():
        command = re.search(r"^ExecStart=\S+ (\w+)", unit.read_text(), re.M)[1]
        seen += [(command, name) for name in re.findall(r"GLIMPSE_[A-Z_]+", unit.read_text())]
    assert len(seen) > 20
    assert [each for each in seen if each[1] not in known[each[0]]] == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda unit: unit.stem)
def test_systemd_takes_its_units(unit, tmp_path):
    copy = tmp_path / unit.name.replace("@.", "@0.")
    # What is not installed here stands in the way of nothing else.
    copy.write_text(unit.read_text().replace("/usr/bin/glimpse ", "/bin/true ").replace("Documentation=man:glimpse(1)\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_caddy_takes_its_file(tmp_path):
    done = subprocess.run(
        [program("caddy"), "adapt", "--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile", "--validate"],
        capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    (server,) = json.loads(done.stdout)["apps"]["http"]["servers"].values()
    assert "gateway-2:8080" in json.dumps(server)


@pytest.mark.parametrize("name", ["nats.conf", "kubernetes/cluster.conf"])
def test_nats_takes_its_configuration(name, tmp_path):
    for file in ("nats.conf", "kubernetes/cluster.conf"):
        shutil.copy(DEPLOY / file, tmp_path)
    pem, key = self_signed(tmp_path, "nats")
    names = {"NATS_STORE": tmp_path, "NATS_CERT": pem, "NATS_KEY": key, "NATS_CA": pem, "POD_NAME": "nats-0"}
    names |= {f"{role}_NKEY": User.generate().public for role in ("GATEWAY", "WORKER")}
    command = [program("nats-server"), "-t", "-c", tmp_path / Path(name).name]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {k: str(v) for k, v in names.items()})
    assert done.returncode == 0, done.stderr
