"""Weights that are on this machine."""

from sktransfer.backbones.local import local_weights
from sktransfer.backbones.weights import file_sha256


def test_weights_of_timm_in_the_hub_cache_are_found(tmp_path, monkeypatch):
    from huggingface_hub import constants

    content = b"weights"
    (tmp_path / "content").write_bytes(content)
    sha256 = file_sha256(tmp_path / "content")
    for repository in ("timm--resnet18.a1_in1k", "someone--else"):
        root = tmp_path / "hub" / f"models--{repository}"
        snapshot = root / "snapshots" / "0123abcd"
        snapshot.mkdir(parents=True)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("0123abcd")
        (root / "blobs").mkdir()
        (root / "blobs" / sha256).write_bytes(content)
        (snapshot / "model.safetensors").symlink_to(root / "blobs" / sha256)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = [found for found in local_weights() if "/" in found.backbone]
    assert [(found.backbone, found.expected_sha256) for found in hub] == [
        ("timm/resnet18.a1_in1k", sha256)
    ]
    assert file_sha256(hub[0].path) == sha256
