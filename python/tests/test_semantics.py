"""An unchanged PyTorch program around a compiled module behaves as it did."""
import copy
import gc
import io
import os
import pickle

import pytest
import torch
import torch.nn.functional as F

import bnff
from support import Small, assert_close_models, assert_ran, pair, programs, step


def images(n=4, size=12, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def both(ours, eager, x):
    a, b = step(ours, x), step(eager, x)
    for u, v in zip(a, b):
        torch.testing.assert_close(u, v, rtol=1e-4, atol=1e-5)
    assert_close_models(ours, eager)


def test_same_object_parameters_and_keys():
    model = Small()
    parameters, keys = [id(p) for p in model.parameters()], list(model.state_dict())
    assert bnff.compile(model) is model
    model(images())
    assert [id(p) for p in model.parameters()] == parameters and list(model.state_dict()) == keys
    assert type(model) is Small
    assert bnff.compile(model) is model  # twice is once


def test_step_and_buffers():
    ours, eager = pair()
    both(ours, eager, images())
    assert ours.bn1.num_batches_tracked == 1
    assert_ran(ours, images())


def test_restore():
    ours, eager = pair()
    bnff.restore(ours)
    assert "forward" not in ours.__dict__
    both(ours, eager, images())


def test_train_and_eval():
    ours, eager = pair()
    for mode in (True, False, True):
        ours.train(mode), eager.train(mode)
        ours.zero_grad(), eager.zero_grad()
        both(ours, eager, images())
    assert ours.bn1.num_batches_tracked == 2


def test_no_grad_and_inference_mode():
    ours, eager = pair()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for train in (True, False):
                ours.train(train), eager.train(train)
                a, b = ours(images()), eager(images())
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
                assert not a.requires_grad
    for u, v in zip(ours.buffers(), eager.buffers()):
        torch.testing.assert_close(u, v, rtol=1e-4, atol=1e-5)
    ours.train(), eager.train()
    both(ours, eager, images())


def test_requires_grad_off_and_on():
    ours, eager = pair()
    for off in (["conv1.weight", "bn1.bias"], [], ["fc.weight", "fc.bias", "bn2.weight"], [n for n, _ in ours.named_parameters()][:-1]):
        for model in (ours, eager):
            for name, p in model.named_parameters():
                p.requires_grad_(name not in off)
                p.grad = None
        both(ours, eager, images())


def test_nothing_requires_grad():
    ours, eager = pair()
    for model in (ours, eager):
        model.requires_grad_(False)
    a, b = ours(images()), eager(images())
    assert not a.requires_grad
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_frozen_batchnorm():
    ours, eager = pair()
    for model in (ours, eager):
        step(model, images(seed=3))
        model.zero_grad()
        model.bn1.eval()
    mean = ours.bn1.running_mean.clone()
    both(ours, eager, images())
    assert torch.equal(mean, ours.bn1.running_mean)
    assert ours.bn1.num_batches_tracked == 1 and ours.bn2.num_batches_tracked == 2


def test_gradient_of_the_input():
    ours, eager = pair()
    for mode in (True, False):
        x, y = images().requires_grad_(), images().requires_grad_()
        ours.train(mode), eager.train(mode)
        step(ours, x), step(eager, y)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


def test_two_forwards_before_a_backward():
    ours, eager = pair()
    for model in (ours, eager):
        (model(images(seed=1)).square().mean() + model(images(seed=2)).square().mean()).backward()
    assert_close_models(ours, eager)
    for model in (ours, eager):  # and the other order
        a, b = model(images(seed=1)), model(images(6, seed=2))
        b.square().mean().backward()
        a.square().mean().backward()
    assert_close_models(ours, eager)


def test_second_backward_is_an_error():
    ours, _ = pair()
    loss = ours(images()).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_retained_graph():
    ours, eager = pair()
    for model in (ours, eager):
        y = model(images())
        y[:, 0].sum().backward(retain_graph=True)
        y[:, 1].square().sum().backward()
    assert_close_models(ours, eager)


def test_double_backward_is_a_clear_error():
    ours, _ = pair()
    x = images().requires_grad_()
    g, = torch.autograd.grad(ours(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_accumulation_and_zero_grad():
    ours, eager = pair()
    for to_none in (True, False):
        for model in (ours, eager):
            model.zero_grad(set_to_none=to_none)
            step(model, images(seed=1))
            step(model, images(seed=2))
        assert_close_models(ours, eager)


def test_hooks_on_parameters():
    ours, eager = pair()
    seen = []
    for model in (ours, eager):
        model.conv1.weight.register_hook(lambda g: g * 2)
        model.fc.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm().item()))
    both(ours, eager, images())
    assert len(seen) == 2 and seen[0] == pytest.approx(seen[1], rel=1e-4)


def test_module_hooks_run_in_pytorch():
    ours, eager = pair()
    seen = []
    for model in (ours, eager):
        model.bn1.register_forward_hook(lambda m, args, out: seen.append(type(out)) or out * 2)
    with pytest.warns(UserWarning, match="hooks"):
        both(ours, eager, images())
    assert seen == [torch.Tensor, torch.Tensor]
    both(ours, eager, images(seed=1))
    assert len(seen) == 4


def test_results_of_frozen_parts_need_no_gradient():
    class Features(Small):
        def forward(self, x):
            f = self.act(self.bn1(self.conv1(x)))
            return f, self.fc(self.bn2(self.conv2(f)).mean((2, 3)))
    torch.manual_seed(0)
    model = Features()
    for p in (*model.conv1.parameters(), *model.bn1.parameters()):
        p.requires_grad_(False)
    eager = copy.deepcopy(model)
    bnff.compile(model)
    for m in (model, eager):
        f, y = m(images())
        assert not f.requires_grad and y.requires_grad
        y.square().sum().backward()
    assert_close_models(model, eager)
    assert_ran(model, images())


def test_signature_is_the_modules():
    import inspect
    ours, eager = pair()
    assert inspect.signature(ours.forward) == inspect.signature(eager.forward)


def test_default_device():
    ours, eager = pair()
    with torch.device("cpu"):
        both(ours, eager, images())
    assert programs(ours)[0].runs == 1


def test_hook_that_comes_later():
    ours, eager = pair()
    both(ours, eager, images())
    handles = [model.bn2.register_forward_hook(lambda m, args, out: out * 2) for model in (ours, eager)]
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both(ours, eager, images(seed=1))
    for handle in handles:
        handle.remove()
    both(ours, eager, images(seed=2))
    assert_ran(ours, images())


def test_shared_batchnorm_counts_every_call():
    class Twice(Small):
        def forward(self, x):
            x = self.act(self.bn1(self.conv1(x)))
            return self.fc(self.bn2(self.conv2(self.bn2(self.conv2(x)))).mean((2, 3)))
    torch.manual_seed(0)
    model = Twice()
    eager = copy.deepcopy(model)
    bnff.compile(model)
    both(model, eager, images())
    assert model.bn2.num_batches_tracked == 2


def test_hook_on_the_compiled_module():
    ours, eager = pair()
    for model in (ours, eager):
        model.register_forward_hook(lambda m, args, out: out * 3)
    both(ours, eager, images())
    assert_ran(ours, images())


def test_new_sizes_and_a_last_small_batch():
    ours, eager = pair()
    for n, size in ((4, 12), (4, 16), (3, 12), (1, 12), (4, 12), (7, 9)):
        both(ours, eager, images(n, size))
    for n in range(1, 40):
        with torch.no_grad():
            ours(images(n, 6))
    assert len(ours.forward.programs) <= 16  # bounded


def test_image_height_differs_from_width():
    ours, eager = pair()
    x = torch.randn(2, 3, 7, 13)
    both(ours, eager, x)


@pytest.mark.parametrize("view", ["channels_last", "strided", "expanded", "narrowed"])
def test_inputs_of_any_strides(view):
    x = {"channels_last": images().to(memory_format=torch.channels_last), "strided": images(4, 24)[:, :, ::2, ::2],
         "expanded": images(1).expand(4, 3, 12, 12), "narrowed": torch.randn(4, 5, 12, 14)[:, 1:4, :, 1:13]}[view]
    ours, eager = pair()
    both(ours, eager, x)
    assert_ran(ours, x)


def test_channels_last_model():
    ours, eager = pair()
    ours.to(memory_format=torch.channels_last), eager.to(memory_format=torch.channels_last)
    both(ours, eager, images().to(memory_format=torch.channels_last))
    assert ours.conv1.weight.grad.stride() == eager.conv1.weight.grad.stride()


def test_gradients_of_any_strides():
    ours, eager = pair()
    for make in (lambda y: y.sum(), lambda y: torch.cat([y, y], 1)[:, 1:7].square().sum(), lambda y: y.t().contiguous().square().sum()):
        for model in (ours, eager):
            make(model(images())).backward()
        assert_close_models(ours, eager)


def test_deepcopy():
    ours, eager = pair()
    ours(images()), eager(images())
    other, other_eager = copy.deepcopy(ours), copy.deepcopy(eager)
    both(other, other_eager, images(seed=4))
    assert_ran(other, images())
    assert other.forward.module is other
    both(ours, eager, images(seed=5))
    assert not torch.equal(other.bn1.running_mean, ours.bn1.running_mean)


def test_pickle():
    ours, eager = pair()
    ours(images()), eager(images())
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False)):
        reference = copy.deepcopy(eager)
        both(other, reference, images(seed=4))
        assert other.forward.module is other
        assert_ran(other, images())


def test_load_state_dict():
    ours, _ = pair()
    _, eager = pair(seed=1)
    ours(images())
    for assign in (False, True):
        eager.conv1.weight.data.mul_(1.5)
        ours.load_state_dict(copy.deepcopy(eager.state_dict()), assign=assign)
        ours.zero_grad(), eager.zero_grad()
        both(ours, eager, images())
        ours.load_state_dict(eager.state_dict())


def test_parameter_replaced():
    ours, eager = pair()
    ours(images()), eager(images())
    torch.manual_seed(7)
    ours.fc = torch.nn.Linear(24, 3)
    eager.fc = copy.deepcopy(ours.fc)
    ours.zero_grad(), eager.zero_grad()
    both(ours, eager, images())


def test_write_between_forward_and_backward_is_noticed():
    ours, _ = pair()
    loss = ours(images()).sum()
    with torch.no_grad():
        ours.conv2.weight.mul_(0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_optimizer_steps():
    for make in (lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True), lambda p: torch.optim.AdamW(p, 1e-3, foreach=True)):
        ours, eager = pair()
        for model in (ours, eager):
            model.conv2.bias.requires_grad_(False)  # before a batch normalization its gradient is rounding, which Adam blows up
            optimizer = make(model.parameters())
            for i in range(5):
                optimizer.zero_grad()
                F.cross_entropy(model(images(6, seed=i)), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
                optimizer.step()
        assert_close_models(ours, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("momentum", [None, 0.0, 1.0, 0.3])
def test_batchnorm_momentum(momentum):
    ours, eager = pair()
    for model in (ours, eager):
        model.bn1.momentum = momentum
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(3):
            both(ours, eager, images(seed=seed))
            ours.zero_grad(), eager.zero_grad()


@pytest.mark.parametrize("options", [dict(affine=False), dict(track_running_stats=False), dict(affine=False, track_running_stats=False), dict(eps=1e-2)])
def test_batchnorm_options(options):
    ours, eager = pair()
    ours.bn1, eager.bn1 = torch.nn.BatchNorm2d(24, **options), torch.nn.BatchNorm2d(24, **options)
    for mode in (True, False):
        ours.train(mode), eager.train(mode)
        both(ours, eager, images())
        assert_ran(ours, images())


def test_attribute_read_in_forward_is_followed():
    class Scaled(Small):
        power = 1

        def forward(self, x):
            y = super().forward(x)
            return y if self.power == 1 else y * y
    torch.manual_seed(0)
    model = Scaled()
    eager = copy.deepcopy(model)
    bnff.compile(model)
    both(model, eager, images())
    model.power = eager.power = 2
    both(model, eager, images())


def resident():
    gc.collect()
    with open("/proc/self/statm", encoding="utf-8") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def train(model, sizes):
    """A step on images of each (batch, side)."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for batch, side in sizes:
        optimizer.zero_grad()
        model(images(batch, side)).sum().backward()
        optimizer.step()


def test_no_leak_over_many_steps():
    ours, _ = pair(channels=8)
    train(ours, [(2, 8)] * 100)
    before = resident()
    train(ours, [(2, 8)] * 1000)
    assert resident() - before < 4 << 20


def test_no_leak_over_many_sizes():
    """Twenty sizes in turns, four more than plans are kept: every step plans anew."""
    ours, _ = pair(channels=8)
    sizes = [(batch, side) for batch in (1, 2, 3, 5, 7) for side in (8, 11, 16, 24)]
    train(ours, sizes * 3)
    before = resident()
    train(ours, sizes * 10)
    assert len(ours.forward.programs) == 16
    assert resident() - before < 8 << 20


def test_graph_dropped_without_backward_gives_its_memory_back():
    ours, _ = pair()
    for _ in range(20):
        ours(images())
    gc.collect()
    program = programs(ours)[0]
    pool = program.regions[0].pool
    a = pool.acquire(next(iter(program.regions[0].plans.values())))
    a.release()
    assert program.runs == 20
