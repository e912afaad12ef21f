"""python -m bnff.bench: a training step in eager PyTorch, through torch.compile (inductor), and through bnff.compile.

Each way has a process of its own, so that peak memory is its own; the steps of all ways take turns, so that all see the same machine.
A step is forward, cross-entropy, backward and an update by SGD with momentum, on the same random images.
"""
import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

WAYS = ("eager", "inductor", "bnff")


def build(name):
    """A module from torchvision where it can be imported, else from bnff.models."""
    try:
        import torchvision.models as models
        return getattr(models, name)(weights=None)
    except (ImportError, RuntimeError, AttributeError):
        from . import models
        return getattr(models, name)()


def serve(name, way, batch, size, threads):
    """One way in this process: a step for every line read, its time and loss for every line written."""
    import torch
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(name).train()
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 1000, (batch,))
    if way != "bnff":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    run = model
    if way == "inductor":
        run = torch.compile(model)
    elif way == "bnff":
        import bnff
        run = bnff.compile(model)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "loss": loss.item(), "peak": peak}), flush=True)


class Server:
    def __init__(self, name, way, arguments):
        command = [sys.executable, "-m", "bnff.bench", name, "--serve", way, "-b", str(arguments.batch), "-s", str(arguments.size), "-t", str(arguments.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.way, self.seconds, self.losses, self.peak = way, [], [], 0

    def step(self, keep):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.way} ended with status {self.process.wait()}")
        answer = json.loads(line)
        self.losses.append(answer["loss"])
        self.peak = answer["peak"]
        if keep:
            self.seconds.append(answer["seconds"])

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def measure(name, arguments):
    servers = []
    for way in arguments.ways:
        server = Server(name, way, arguments)
        try:
            for _ in range(arguments.warm_up):
                server.step(False)
            servers.append(server)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
    for _ in range(arguments.repeat):
        for server in servers:
            server.step(True)
    for server in servers:
        server.stop()
    return {s.way: {"images_per_second": arguments.batch / statistics.median(s.seconds), "seconds": s.seconds, "peak_bytes": s.peak, "losses": s.losses}
            for s in servers}


def show(name, result):
    others = [v for way, v in result.items() if way != "bnff"]
    for way, v in result.items():
        line = f"{name:18} {way:9} {v['images_per_second']:8.2f} images/s  peak {v['peak_bytes'] / 2**20:7.0f} MiB  last loss {v['losses'][-1]:.5f}"
        if way == "bnff" and others:
            best = max(o["images_per_second"] for o in others)
            line += f"  {v['images_per_second'] / best:.2f} x the better other, {v['peak_bytes'] / others[0]['peak_bytes']:.2f} of its memory"
        print(line, flush=True)


def main():
    p = argparse.ArgumentParser(prog="python -m bnff.bench", description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", help="densenet121, resnet50, ...")
    p.add_argument("-b", "--batch", type=int, default=32)
    p.add_argument("-s", "--size", type=int, default=224, help="image side")
    p.add_argument("-t", "--threads", type=int, default=0)
    p.add_argument("-r", "--repeat", type=int, default=5, help="steps that count, of each way in turn")
    p.add_argument("--warm-up", type=int, default=2, help="steps before, with the compilation")
    p.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.serve:
        return serve(a.models[0], a.serve, a.batch, a.size, a.threads)
    results = {}
    for name in a.models:
        results[name] = measure(name, a)
        show(name, results[name])
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump({"batch": a.batch, "size": a.size, "models": results}, file, indent=1)


if __name__ == "__main__":
    main()
