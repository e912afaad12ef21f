"""python -m bnff.bench: a training step in eager PyTorch, through torch.compile (inductor), and through bnff.compile.

Each way has a process of its own, so that peak memory is its own; the steps of all ways take turns, so that all see the same machine.
A step is forward, cross-entropy, backward and an update by fused SGD with momentum, on the same random images. A run of multiply-adds before
and after each step tells whether the machine was disturbed (below 94 % of the best such run): then the step is taken again, at most three times.
"""
import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time

WAYS = ("contiguous", "eager", "inductor", "bnff")  # eager is channels_last, PyTorch's faster format
DISTURBED, RETAKES, PROBE_SECONDS = 0.94, 3, 0.005


def build(name):
    """What MODULE:FUNCTION makes; a plain name is one of torchvision's models where that can be imported, else of bnff.models."""
    if ":" in name:
        module, function = name.split(":")
        return getattr(importlib.import_module(module), function)()
    try:
        import torchvision.models as models
        return getattr(models, name)(weights=None)
    except (ImportError, RuntimeError, AttributeError):
        from . import models
        return getattr(models, name)()


def batches(count, batch, size, varied):
    """Random images and labels: the same at every step, or, varied, of ten classes that can be told apart, other ones at every step."""
    import torch
    g = torch.Generator().manual_seed(0)
    kinds = torch.randn(10, 3, 8, 8, generator=g)
    images, labels = torch.randn(batch, 3, size, size, generator=g), torch.randint(0, 1000, (batch,), generator=g)
    for _ in range(count):
        if varied:
            labels = torch.randint(0, 10, (batch,), generator=g)
            images = torch.nn.functional.interpolate(kinds[labels], size) + torch.randn(batch, 3, size, size, generator=g)
        yield images, labels


def loss_of(results, labels):
    """Cross-entropy of logits (auxiliary ones too), or, of results that are images, the mean square."""
    import torch
    from torch.utils._pytree import tree_leaves
    tensors = [t for t in tree_leaves(results) if isinstance(t, torch.Tensor)]
    return sum(torch.nn.functional.cross_entropy(t, labels % t.shape[1]) if t.dim() == 2 else t.square().mean() for t in tensors)


def serve(name, way, a):
    """One way in this process: a step for every line read, its time and loss for every line written."""
    import torch
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = build(name).train()
    if way in ("eager", "inductor"):
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), a.lr, momentum=0.9, fused=True)
    run, engine_seconds = model, lambda: 0.0
    if way == "inductor":
        run = torch.compile(model)
    elif way == "bnff":
        import bnff
        from ._explain import engine_seconds as of_model
        run = bnff.compile(model)
        engine_seconds = lambda: of_model(model)  # noqa: E731
    for (images, labels), _ in zip(batches(1 << 30, a.batch, a.size, a.losses), sys.stdin):
        if way in ("eager", "inductor"):
            images = images.to(memory_format=torch.channels_last)
        before, start = engine_seconds(), time.perf_counter()
        loss = loss_of(run(images), labels)
        loss.backward()
        computed = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        end = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": end - start, "gradients": computed - start, "engine": engine_seconds() - before, "loss": loss.item(), "peak": peak}),
              flush=True)


class Server:
    def __init__(self, name, way, a):
        command = [sys.executable, "-m", "bnff.bench", name, "--serve", way, "-b", str(a.batch), "-s", str(a.size), "-t", str(a.threads), "--lr", str(a.lr)]
        self.process = subprocess.Popen(command + ["--losses"] * bool(a.losses), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={"THP_MEM_ALLOC_ENABLE": "1", **os.environ})  # the engine asks for huge pages too
        self.way, self.answers, self.retaken = way, [], 0

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.way} ended with status {self.process.wait()}")
        return json.loads(line)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()

    def result(self, batch):
        seconds = [x["seconds"] for x in self.answers]
        return {"images_per_second": batch / statistics.median(seconds), "seconds": seconds, "retaken": self.retaken, "losses": [x["loss"] for x in self.answers],
                "peak_bytes": self.answers[-1]["peak"], "gradient_seconds": statistics.median(x["gradients"] for x in self.answers),
                "engine_share": statistics.median(x["engine"] / x["gradients"] for x in self.answers)}


class Probes:
    """What the machine does in multiply-adds, now and at best."""

    def __init__(self, threads):
        from . import _engine, _native
        context = _engine.context_for(threads)
        self.measure = lambda: _native.measure_fma(context.handle, PROBE_SECONDS)
        self.rates = [self.measure() for _ in range(40)]

    def calm(self):
        time.sleep(0.01)  # the threads of the way that ran may still spin
        before = self.rates[-1]
        self.rates.append(self.measure())
        return min(before, self.rates[-1]) >= DISTURBED * max(self.rates)


def start(name, a):
    servers = []
    for way in a.ways:
        server = Server(name, way, a)
        try:
            for _ in range(a.warm_up):
                server.step()
            servers.append(server)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
    return servers


def measure(name, a):
    servers, probes = start(name, a), Probes(a.threads)
    for _ in range(a.repeat):
        for server in servers:
            for attempt in range(RETAKES + 1):
                answer = server.step()
                if probes.calm() or attempt == RETAKES:
                    break
                server.retaken += 1
            server.answers.append(answer)
    for server in servers:
        server.stop()
    return {s.way: s.result(a.batch) for s in servers}


HEAD = ("| model | way | images/s | step s | peak MiB | in the engine | bnff is x as fast | bnff's memory | retaken |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")


def show(name, result):
    """Rows of a Markdown table. Ratios stand beside the other ways: what bnff's speed is of theirs, and what its memory."""
    ours = result.get("bnff")
    for way, v in result.items():
        share, speed, memory = f"{100 * v['engine_share']:.1f} %" if way == "bnff" else "", "", ""
        if ours and way != "bnff":
            speed, memory = f"{ours['images_per_second'] / v['images_per_second']:.2f}", f"{ours['peak_bytes'] / v['peak_bytes']:.2f}"
        print(f"| {name} | {way} | {v['images_per_second']:.2f} | {statistics.median(v['seconds']):.4f} | {v['peak_bytes'] / 2**20:.0f} | {share} | {speed} | {memory} "
              f"| {v['retaken']} |", flush=True)


def shares(names, a):
    """For each network: what part of its steps is spent in the engine, as a Markdown table."""
    import warnings

    import torch

    import bnff
    from ._explain import engine_seconds
    warnings.simplefilter("ignore")
    if a.threads:
        torch.set_num_threads(a.threads)
    print("| network | image | regions | operators in PyTorch | BN fused | step s | engine, of forward and backward | of the step |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    found = {}
    for name in names:
        torch.manual_seed(0)
        model = bnff.compile(build(name).train())
        optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, fused=True)
        images, labels = next(batches(1, a.batch, a.size, False))
        rows = []
        for _ in range(a.warm_up + a.repeat):
            before, start = engine_seconds(model), time.perf_counter()
            loss_of(model(images), labels).backward()
            computed = time.perf_counter()
            optimizer.step()
            optimizer.zero_grad()
            end, engine = time.perf_counter(), engine_seconds(model) - before
            rows.append((end - start, engine / (computed - start), engine / (end - start)))
        step, gradients, whole = (statistics.median(column) for column in zip(*rows[a.warm_up:]))
        e = bnff.explain(model, images)
        norms, fused = sum(r.batchnorms for r in e.regions), sum(r.fused for r in e.regions)
        found[name] = {"step": step, "engine_of_gradients": gradients, "engine_of_step": whole, "regions": len(e.regions), "in_pytorch": len(e.fallbacks)}
        print(f"| {name.split(':')[-1]} | {a.size} | {len(e.regions)} | {len(e.fallbacks)} | {fused} of {norms} | {step:.3f} | {100 * gradients:.1f} % | {100 * whole:.1f} % |", flush=True)
    return found


def compare_losses(name, a):
    """How far the losses of the ways are from those of eager in PyTorch's own memory format, over a.losses steps of training."""
    servers = start(name, a)
    for _ in range(a.losses):
        for server in servers:
            server.answers.append(server.step())
    for server in servers:
        server.stop()
    losses = {s.way: [x["loss"] for x in s.answers] for s in servers}
    for way in losses:
        far = [abs(x - y) for x, y in zip(losses[way], losses["contiguous"])]
        print(f"{name:18} {way:10} loss {losses[way][0]:.4f} to {losses[way][-1]:.4f}, from contiguous at most {max(far):.2e}, on average {statistics.mean(far):.2e}",
              flush=True)
    return losses


def main():
    p = argparse.ArgumentParser(prog="python -m bnff.bench", description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", help="densenet121, resnet50, ..., or MODULE:FUNCTION of your own")
    p.add_argument("-b", "--batch", type=int, default=32)
    p.add_argument("-s", "--size", type=int, default=224, help="image side")
    p.add_argument("-t", "--threads", type=int, default=0)
    p.add_argument("-r", "--repeat", type=int, default=5, help="steps that count, of each way in turn")
    p.add_argument("--warm-up", type=int, default=None, help="steps before, with the compilation (2; none with --losses)")
    p.add_argument("--ways", nargs="+", choices=WAYS, default=None, help="those to run (all but contiguous)")
    p.add_argument("--losses", type=int, nargs="?", const=1, default=0, metavar="STEPS", help="compare the losses of so many steps, not times")
    p.add_argument("--lr", type=float, default=0.01, help="learning rate of SGD (0.01)")
    p.add_argument("--shares", action="store_true", help="say what part of steps is spent in the engine, and measure nothing beside it")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.serve:
        return serve(a.models[0], a.serve, a)
    a.ways = a.ways or (["contiguous", "eager", "bnff"] if a.losses else ["eager", "inductor", "bnff"])
    if a.losses and "contiguous" not in a.ways:
        p.error("--losses compares with contiguous: name it in --ways")
    a.warm_up = a.warm_up if a.warm_up is not None else 0 if a.losses else 2
    results = shares(a.models, a) if a.shares else {}
    if not a.losses and not a.shares:
        print(HEAD, flush=True)
    for name in [] if a.shares else a.models:
        if a.losses:
            results[name] = compare_losses(name, a)
        else:
            results[name] = measure(name, a)
            show(name, results[name])
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump({"batch": a.batch, "size": a.size, "models": results}, file, indent=1)


if __name__ == "__main__":
    main()
