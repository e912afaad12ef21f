"""bnff.Trainer against the same training in PyTorch, and by itself."""
import numpy as np
import pytest
import torch

import bnff
import models


def data(count=16, size=32, classes=4):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, size, size, 3), dtype=np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_losses_as_pytorch(optimizer):
    images, labels = data()
    lr = 0.002 if optimizer == "sgd" else 1e-4
    trainer = bnff.Trainer("resnet18", 4, lr=lr, weight_decay=1e-3, optimizer=optimizer, seed=3)
    model = models.resnet18(num_classes=4)
    state = trainer.state_dict()
    assert set(state) == set(model.state_dict())
    model.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    p = model.parameters()
    steps = torch.optim.SGD(p, lr, momentum=0.9, weight_decay=1e-3) if optimizer == "sgd" else torch.optim.AdamW(p, lr, weight_decay=1e-3)
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(labels))
        steps.zero_grad()
        loss.backward()
        steps.step()
        assert trainer.step(images, labels) == pytest.approx(loss.item(), rel=2e-3)
    assert trainer.state_dict()["bn1.num_batches_tracked"] == 4


def test_fit_predict_and_state():
    images, labels = data()
    trainer = bnff.Trainer("resnet20", 4, lr=0.01)
    losses = trainer.fit(images, labels, epochs=12, batch=6)
    assert losses[-1] < losses[0] / 2
    logits = trainer.predict(images, batch=5)
    assert logits.shape == (16, 4)
    other = bnff.Trainer("resnet20", 4, seed=9)
    other.load_state_dict(trainer.state_dict())
    assert np.array_equal(other.predict(images, batch=5), logits)
    nchw = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)  # a view of other strides
    assert np.array_equal(trainer.predict(nchw, batch=5), logits)
    records = np.zeros(16, [("label", np.uint8), ("image", np.float32, images.shape[1:])])  # a stride that is no whole number of floats
    records["image"] = images
    assert np.array_equal(trainer.predict(records["image"], batch=5), logits)


def test_errors():
    with pytest.raises(bnff.Error, match="resnet18"):
        bnff.Trainer("resnet17", 4)
    trainer = bnff.Trainer("resnet20", 4)
    images, labels = data()
    with pytest.raises(ValueError, match="labels"):
        trainer.step(images, labels[:3])
    with pytest.raises(ValueError, match="N x H x W"):
        trainer.predict(images[..., :2])
    before = trainer.state_dict()
    for label in 4, -1, 2**32, 0.5, np.nan:
        with pytest.raises(ValueError, match="is not one of the 4 classes"):
            trainer.step(images, np.append(labels[1:], label))
    assert all(np.array_equal(value, before[name]) for name, value in trainer.state_dict().items())
    assert trainer.step(images, labels.astype(float)) > 0
    with pytest.raises(KeyError, match="missing"):
        trainer.load_state_dict({})
    with pytest.raises(KeyError, match="of another network"):
        trainer.load_state_dict({**bnff.Trainer("resnet32", 4).state_dict(), **before})
    for options in {"classes": 2**32 + 4}, {"classes": 0}, {"classes": 4, "channels": 0}, {"classes": 4, "lr": -1}, {"classes": 4, "lr": np.nan}:
        with pytest.raises(ValueError):
            bnff.Trainer("resnet20", **options)


def test_without_torch():
    import subprocess
    import sys
    code = """
import sys
sys.modules['torch'] = None
import numpy as np, bnff
t = bnff.Trainer('resnet20', 3)
print(t.step(np.ones((2, 32, 32, 3), np.float32), np.array([0, 2])))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
