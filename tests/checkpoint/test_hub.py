"""Checkpoints on a Hub, which is a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.checkpoint.packages.choose import choose_files
from blockwise_predict.checkpoint.packages.hub import HubAddress
from blockwise_predict.errors import CheckpointError
from tests.support.hub import Hub, local_hub
from tests.support.networks import save_network
from tests.support.shared import ROOT

CELLMAP = ROOT / "tests" / "data" / "cellmap"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server, in whose place huggingface_hub looks for the Hub, and an empty cache."""
    with local_hub() as server:
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def test_a_folder_is_downloaded_at_its_commit(hub: Hub) -> None:
    commit = hub.push("cellmap/net", CELLMAP / "sigmoid")
    model = open_checkpoint("hf://cellmap/net")
    assert model.channel_names == ("mito", "er")
    assert model.options["checkpoint"] == f"hf://cellmap/net@{commit}"
    assert model.record["hub"] == f"hf://cellmap/net@{commit}"
    digest = hashlib.sha256((CELLMAP / "sigmoid" / "model.ts").read_bytes()).hexdigest()
    assert model.record["sha256 of model.ts"] == digest
    assert model.cached is not None
    assert Path(model.path).parent == Path(model.cached)
    assert not any("README" in path for path in hub.requests)


def test_a_commit_that_is_cached_needs_no_connection(hub: Hub) -> None:
    commit = hub.push("cellmap/net", CELLMAP / "sigmoid")
    pinned = open_checkpoint("hf://cellmap/net").options["checkpoint"]
    hub.push("cellmap/net", CELLMAP / "logits")
    asked = len(hub.requests)
    assert open_checkpoint(pinned).record["hub"] == f"hf://cellmap/net@{commit}"
    assert len(hub.requests) == asked
    newest = open_checkpoint("hf://cellmap/net@main")
    assert newest.record["hub"] != f"hf://cellmap/net@{commit}"
    assert newest.path.endswith("model.pt2")


def test_offline_the_cache_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.push("cellmap/net", CELLMAP / "sigmoid")
    open_checkpoint("hf://cellmap/net")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    model = open_checkpoint("hf://cellmap/net")
    assert model.options["checkpoint"] == f"hf://cellmap/net@{commit}"
    assert len(hub.requests) == asked
    with pytest.raises(CheckpointError, match=r"cannot be reached.*not in its cache"):
        open_checkpoint("hf://cellmap/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    other = hub.push("cellmap/net", CELLMAP / "logits")
    open_checkpoint("hf://cellmap/net")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"several commits. Name one: .*{other}"):
        open_checkpoint("hf://cellmap/net")


def test_weights_with_an_architecture(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "run"
    folder.mkdir(parents=True)
    weights, architecture = save_network(folder)
    architecture = architecture.rename(tmp_path / "architecture.yaml")
    weights.rename(folder / "model_state_dict.pt")
    hub.push("me/net", tmp_path / "repo")
    model = open_checkpoint("hf://me/net@main/run", architecture=architecture)
    assert model.path.endswith("run/model_state_dict.pt")
    with pytest.raises(CheckpointError, match="Describe it with --architecture"):
        open_checkpoint("hf://me/net@main/run/model_state_dict.pt")


def test_what_the_hub_refuses_is_told(hub: Hub) -> None:
    hub.push("cellmap/net", CELLMAP / "sigmoid")
    hub.private.add("cellmap/secret")
    for address, said in (
        ("hf://cellmap/nothing", "no repository cellmap/nothing, or it is private"),
        ("hf://cellmap/secret", "log in with `hf auth login` or set HF_TOKEN"),
        ("hf://cellmap/net@v9", "has no revision 'v9'"),
        ("hf://cellmap/net@main/model.pt", "has no network .* it holds README.md"),
        ("hf://cellmap", "write hf://OWNER/REPO"),
        ("hf://cellmap/net@main/../x", "write hf://OWNER/REPO"),
    ):
        with pytest.raises(CheckpointError, match=said):
            open_checkpoint(address)


def test_addresses() -> None:
    assert HubAddress.parse("hf://a/b") == HubAddress("a/b", None, None)
    assert HubAddress.parse("hf://a/b@refs%2Fpr%2F1/c/d.ts") == HubAddress(
        "a/b", "refs/pr/1", "c/d.ts"
    )
    assert HubAddress.parse("hf://a/b/c.ts").pinned("f" * 40) == f"hf://a/b@{'f' * 40}/c.ts"


def test_several_networks_must_be_named() -> None:
    with pytest.raises(CheckpointError, match=r"several networks: it holds a.ts, b.ts. Name"):
        choose_files(["b.ts", "a.ts", "README.md"], None, "hf://a/b", bare=False)
    assert choose_files(["b.ts", "a.ts"], "a.ts", "hf://a/b", bare=False).entry == "a.ts"
    assert choose_files(["x/b.ts", "a.ts"], "x", "hf://a/b", bare=False).entry == "x/b.ts"
