#!/usr/bin/env python3
"""Measure bnff beside PyTorch, in turns, and write down what came out.

    bench/run.py [--quick] [conv] [steps] [ablation] [write]      without a name: all four, in this order

Both sides are processes that stay alive and do one step, or one convolution, when asked (`bnff bench serve`, bench/peers/torch_*.py --serve), so
that they alternate within one run. Between all of them bnff measures the machine's multiply-adds for 5 ms, and once more where that was low; what lies
beside a probe below 94 % of the best one was disturbed and is taken again, at most three times, whichever side it belongs to (docs/cli.md).

Each part leaves its results in a file of RESULTS (build/bench), and `write` makes the generated part of docs/benchmarks.md and the pictures
of whatever files there are. Without a Python that PyTorch can be installed for, or with --no-peers, the peer's columns stay empty.
--pause waits for Enter after a part's preparations (building networks, compiling) and before it measures.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(ROOT, "bench", "peers")
SHAPES = ("densenet121", "resnet50", "mobilenet_v2")
DISTURBED, RETAKES = 0.94, 3


class Served:
    """A process that answers a line with a line of JSON."""

    def __init__(self, words, environment=None):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})

    def ask(self, request):
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except OSError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"'{request}': the process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"'{request}': {answer['error']}")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def machine_of(bnff, before=None):
    """What bnff says about the machine; bandwidths are the better of now and before."""
    now = bnff.ask("machine")
    for key in ("read_gbs", "copy_gbs"):
        now[key] = max(now[key], before[key] if before else 0)
    return now


class Probes:
    """The rule for disturbed samples; bnff's process probes for every side."""

    def __init__(self, bnff):
        self.bnff, self.rates = bnff, []
        for _ in range(40):
            self.probe()

    def probe(self):
        """A probe; a low one is repeated once: the threads of the side that ran may still spin, and the rate of one 5 ms scatters."""
        best = 0
        for _ in range(2):
            time.sleep(0.02)
            best = max(best, self.bnff.ask("probe")["fma_gflops"])
            if best >= DISTURBED * max(self.rates, default=0):
                break
        self.rates.append(best)
        return best

    def calm(self):
        """Take a probe: is neither it nor the one before it low?"""
        before = self.rates[-1]
        return min(before, self.probe()) >= DISTURBED * max(self.rates)

    def sample(self, take):
        """take(), again while disturbed; the result and how often it was retaken."""
        for attempt in range(RETAKES + 1):
            result = take()
            if self.calm() or attempt == RETAKES:
                return result, attempt

    def peak(self):
        return statistics.median(self.rates)


def peer_python():
    """A Python that the peer's environment can be made with."""
    return shutil.which("python3.11") or sys.executable


def start_peer(args, script, *flags, thp="1"):
    words = [peer_python(), os.path.join(PEERS, script), "--serve", *flags] + (["--venv", args.venv] if args.venv else [])
    return Served(words, {"THP_MEM_ALLOC_ENABLE": thp, **args.peer_environment})


def has_peers(args):
    """Can the peer be had? Installs it at the first call."""
    if args.no_peers:
        return False
    try:
        peer = start_peer(args, "torch_conv.py")
        args.torch = peer.ask("machine")
        peer.close()
        return True
    except (OSError, RuntimeError) as fault:
        print(f"bench: no PyTorch, the peer is left out ({fault})", file=sys.stderr)
        return False


def start_bnff(args, *flags):
    return Served([args.bnff, "bench", "serve", *flags])


def pause(args, what):
    if args.pause:
        input(f"{what}: ready, Enter measures ")


def save(args, name, document):
    os.makedirs(args.results, exist_ok=True)
    document = {"date": time.strftime("%Y-%m-%d"), "quick": args.quick, **document}
    path = os.path.join(args.results, name + ".json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    os.replace(path + ".part", path)


# -- Convolutions ---------------------------------------------------------------------------------------------------------


def problems(name):
    """Lines of a file of shapes, given by its path or a name in bench/shapes, and how often each shape occurs in it."""
    counted = {}
    path = name if os.path.exists(name) else os.path.join(ROOT, "bench", "shapes", name + ".txt")
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.partition("#")[0].strip()
            if line:
                shape = line[:line.index('n"')]
                counted.setdefault(shape, [line, 0])[1] += 1
    return list(counted.values())


def measure_conv(probes, sides, line, turns):
    """Medians over the turns; each turn of a side is as many rounds as take about 40 ms, 2 at least."""
    samples = {name: {"forward_s": [], "backward_s": []} for name in sides}
    retaken = dict.fromkeys(sides, 0)
    rounds = dict.fromkeys(sides, 2)
    for _ in range(turns):
        for name, side in sides.items():
            result, again = probes.sample(lambda: side.ask(f"conv {rounds[name]} {line}"))
            retaken[name] += again
            for part in samples[name]:
                samples[name][part] += result[part]
            once = min(result["forward_s"]) + min(result["backward_s"])
            rounds[name] = max(2, min(9, round(0.04 / once)))
    return {name: {**{part: statistics.median(values) for part, values in samples[name].items()}, "retaken": retaken[name]} for name in sides}


def run_conv(args):
    bnff = start_bnff(args, "--conv", "direct")
    sides = {"bnff": bnff}
    if args.peers:
        sides.update({f"torch thp={thp}": start_peer(args, "torch_conv.py", thp=thp) for thp in (("1",) if args.quick or args.smoke else ("1", "0"))})
    machine = machine_of(bnff)
    for side in sides.values():
        side.ask("conv 1 mb1_ic8_oc8_ih8_kh3_ph1")
    pause(args, "conv")
    for name in args.shapes:
        probes = Probes(bnff)
        lines = []
        for line, count in problems(name)[:6 if args.smoke else None]:
            lines.append({"problem": line, "count": count, **measure_conv(probes, sides, line, 1 if args.smoke else 2 if args.quick else 3)})
        machine = machine_of(bnff, machine)
        save(args, f"conv_{os.path.splitext(os.path.basename(name))[0]}", {"machine": {**machine, "fma_peak_gflops": probes.peak()}, "torch": args.torch, "lines": lines})
        print(f"bench: convolutions of {name}: {len(lines)} shapes", file=sys.stderr)
    for side in sides.values():
        side.close()


# -- Steps ----------------------------------------------------------------------------------------------------------------


def better_thp(args, probes, network):
    """Seconds of an eager step without and with huge pages: the better setting is the one that is compared."""
    found = {}
    for thp in ("1", "0"):
        peer = start_peer(args, "torch_step.py", thp=thp)
        peer.ask(network)
        found[thp] = min(probes.sample(lambda: peer.ask("step"))[0]["step_s"] for _ in range(2))
        peer.close()
    return min(found, key=found.get), found


def run_step(args, model, batch):
    network = f"network {model} {batch} {args.size}"
    bnff = start_bnff(args)
    machine = machine_of(bnff)
    bnff.ask(network)
    probes = Probes(bnff)
    levels = args.levels.split(",")
    sides = {level: (bnff, f"step {level}", f"memory {level}") for level in levels}
    thp, tried = "1", {}
    if args.peers:
        if not args.quick:
            thp, tried = better_thp(args, probes, network)
        for name, flags in (("torch eager", ()), ("torch.compile", ("--compile",))):
            if flags and args.no_compile:
                continue
            peer = start_peer(args, "torch_step.py", *flags, thp=thp)
            peer.ask(network)
            sides[name] = (peer, "step", "memory")
    for level in levels:
        bnff.ask(f"step {level}")
    pause(args, f"steps of {model}, batch {batch}")
    probes.probe()
    samples, retaken = {name: [] for name in sides}, dict.fromkeys(sides, 0)
    for _ in range(args.rounds):
        for name, (side, request, _) in sides.items():
            result, again = probes.sample(lambda: side.ask(request))
            samples[name].append(result)
            retaken[name] += again
    runs = []
    for name, (side, _, memory) in sides.items():
        run = {part: statistics.median(s[part] for s in samples[name]) for part in ("step_s", "forward_s", "backward_s", "update_s")}
        run.update(level=name, retaken=retaken[name], step_s_min=min(s["step_s"] for s in samples[name]),
                   modelled_traffic_bytes=samples[name][0].get("modelled_traffic_bytes"))
        runs.append(run)
    flops = samples[levels[0]][0]["flops"]
    machine = machine_of(bnff, machine)
    for run, (side, _, memory) in zip(runs, sides.values()):
        run["peak_fraction"] = 1e-9 * flops / run["step_s"] / probes.peak()
        run["images_per_s"] = batch / run["step_s"]
        run["peak_rss_bytes"] = side.ask(memory)["peak_rss_bytes"]
    for side in {id(s): s for s, _, _ in sides.values()}.values():
        side.close()
    save(args, f"step_{model}_{batch}", {"machine": {**machine, "fma_peak_gflops": probes.peak()}, "torch": args.torch, "thp": thp, "thp_tried": tried,
                                         "model": model, "batch": batch, "size": args.size, "rounds": args.rounds, "runs": runs})
    print(f"bench: steps of {model}, batch {batch}", file=sys.stderr)


def run_steps(args):
    for model in args.models.split(","):
        for batch in args.batches.split(","):
            run_step(args, model, int(batch))


# -- Ablation -------------------------------------------------------------------------------------------------------------


def run_ablation(args):
    models, batches = args.ablation_models.split(","), args.ablation_batches
    for model in models:
        pause(args, f"ablation of {model}")
        words = [args.bnff, "bench", "ablation", "-m", model, "-b", batches, "-r", str(args.rounds), "--json", "--svg",
                 os.path.join(args.results, f"ablation_{model}.svg")]
        os.makedirs(args.results, exist_ok=True)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
        save(args, f"ablation_{model}", {"command": " ".join(["bnff", *words[1:8]]), **json.loads(done.stdout)})
        print(f"bench: ablation of {model}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="conv, steps, ablation, write")
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer batches, levels and turns; no torch.compile")
    parser.add_argument("--smoke", action="store_true", help="some seconds, for tests: small networks, few shapes")
    parser.add_argument("--bnff", default=os.path.join(ROOT, "build", "bnff"))
    parser.add_argument("--results", default=os.path.join(ROOT, "build", "bench"))
    parser.add_argument("--docs", default=os.path.join(ROOT, "docs"), help="folder of benchmarks.md")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="names in bench/shapes, or files")
    parser.add_argument("--models", default="densenet121,resnet50")
    parser.add_argument("--batches", help="of the steps beside PyTorch (32; 8,32 when not quick)")
    parser.add_argument("--levels", help="beside PyTorch (layerwise,tuned,icf)")
    parser.add_argument("--size", default="224")
    parser.add_argument("--ablation-models")
    parser.add_argument("--ablation-batches")
    parser.add_argument("-r", "--rounds", type=int)
    parser.add_argument("--venv", help="virtual environment with PyTorch to use or make")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it needs a C++ compiler and minutes")
    parser.add_argument("--pause", action="store_true")
    args = parser.parse_args()
    few = args.quick or args.smoke
    args.shapes = args.shapes.split(",")
    args.batches = args.batches or ("32" if few else "8,32")
    args.levels = args.levels or ("icf" if args.smoke else "layerwise,tuned,icf")
    args.rounds = args.rounds or (1 if args.smoke else 3 if args.quick else 5)
    args.ablation_models = args.ablation_models or ("resnet20" if args.smoke else "densenet121" if args.quick else "densenet121,densenet-bc-100-12,resnet50")
    args.ablation_batches = args.ablation_batches or ("4" if args.smoke else "8" if args.quick else "8,32,64")
    args.no_compile = args.no_compile or few or not shutil.which("c++")
    args.torch, args.peer_environment = None, {"TORCHINDUCTOR_CACHE_DIR": os.path.join(args.results, "inductor")}
    known = {"conv": run_conv, "steps": run_steps, "ablation": run_ablation, "write": None}
    parts = args.parts or list(known)
    for part in parts:
        if part not in known:
            parser.error(f"unknown part '{part}': {', '.join(known)} are known")
    args.peers = any(p in ("conv", "steps") for p in parts) and has_peers(args)
    for part in parts:
        if part == "write":
            import report

            report.write(args.results, args.docs)
        else:
            known[part](args)


if __name__ == "__main__":
    main()
