"""The benchmarks print what they promise; how fast they are is not looked at here."""
import json
import os
import xml.etree.ElementTree

from harness import ANY, JSON, Harness

bnff = Harness()

peak = bnff("bench peak --json", "bench peak --seconds 0.05 --json", out=JSON)
bnff.check("bench peak", peak.get("fma_peak_gflops", {}).get("f32", 0) > 0 and all(peak.get(key, 0) > 0 for key in ("read_gbs", "copy_gbs", "copy_plain_gbs", "copy_stream_gbs")), peak)
bf16 = peak.get("fma_peak_gflops", {}).get("bf16", -1)
bnff.check("bench peak: bf16 where the machine has it, else null", bf16 is None or bf16 > 0, peak)
capped = bnff("bench peak of plain kernels", "bench peak --seconds 0.02 --json", out=JSON, env={"BNFF_MAX_ISA": "plain"})
bnff.check("bench peak of plain kernels: no bf16", capped.get("isa") == "plain" and capped.get("fma_peak_gflops", {}).get("bf16", -1) is None, capped)

step = bnff("bench step --json", "bench step -m resnet20 -b 4 -r 2 --level layerwise,tuned --conv direct,auto --json", out=JSON)
FIELDS = {"model", "batch", "size", "height", "width", "level", "algorithm", "dtype", "step_s_median", "step_s_min", "images_per_s", "gflop_per_image", "peak_fraction", "forward_s",
          "backward_s", "update_s", "peak_rss_bytes", "arena_bytes", "modelled_traffic_bytes", "retaken"}
bnff.check("bench step: a machine", set(step.get("machine", {})) == {"cpu", "isa", "threads", "fma_peak_gflops", "copy_gbs"}, step)
bnff.check("bench step: four runs with all fields", [(r["level"], r["algorithm"]) for r in step.get("runs", [])] == [("layerwise", "direct"), ("layerwise", "auto"), ("tuned", "direct"), ("tuned", "auto")] and all(set(r) == FIELDS for r in step["runs"]), step)
bnff.check("bench step: memory and times are measured", all(r["peak_rss_bytes"] > r["arena_bytes"] > 0 and r["step_s_median"] > 0 for r in step.get("runs", [{}])), step)
bnff("bench step, a table", "bench step -m resnet20 -b 2 -r 1 --no-rss", out="resnet20 +2 +32")
bnff("bench step of several batches and oblong images", "bench step -m resnet20,mobilenet_v2 -b 1,3 -r 1 --size 33x47 --no-rss",
     out=["resnet20 +1 +33x47", "resnet20 +3 +33x47", "mobilenet_v2 +1 +33x47", "mobilenet_v2 +3 +33x47"], timeout=250)
bnff("bench step of a size that is none", "bench step -m resnet20 --size 33x", code=2, err="height x width")
bnff("bench step of a batch that is none", "bench step -m resnet20 -b 3,", code=2, err="-b 3,: numbers from 1")
bnff("bench step without the memory for it", "bench step -m resnet18 -b 65536 --size 128", code=1, err=["resnet18: .*needs", "hint: (batch [0-9]+|no batch) fits"])
bnff("bench step of more pixels than are counted", "bench step -m resnet18 -b 65536 --size 512", code=1, err=["resnet18: .*2e9 pixels", "hint: (batch [0-9]+|no batch) fits"])
partly = bnff("bench step goes on behind what cannot be run", "bench step -m densenet121,resnet20 -b 1,2 --size 32 -r 1 --no-rss --json", code=1, out=JSON,
              err="error: densenet121: .*one value per channel")
bnff.check("bench step: the rest was run, the failure is in the document", [(r["model"], r["batch"]) for r in partly.get("runs", [])] == [("densenet121", 2), ("resnet20", 1), ("resnet20", 2)]
           and [(f["model"], f["batch"]) for f in partly.get("failures", [])] == [("densenet121", 1)] and "one value" in partly["failures"][0]["error"], partly)
bnff("bench step of an unknown model", "bench step -m resnet21x", code=2, err="unknown model")
bnff("bench step of an unknown level", "bench step -m resnet20 --level fast", code=2, err="fast")

ablation = bnff("bench ablation --json", "bench ablation -m resnet20 -b 2,3 -r 1 --project 4 --svg ablation.svg --json", out=JSON, timeout=250)
runs = ablation.get("runs", [])
LEVELS = ["layerwise", "tuned", "mvf", "rcf", "bnff", "icf"]
bnff.check("bench ablation: all levels at each batch", [(r["batch"], r["level"]) for r in runs] == [(b, level) for b in (2, 3) for level in LEVELS], runs)
bnff.check("bench ablation: ratios are those of its times", len(runs) == 12 and all(
    abs(r["over_layerwise"] - runs[i // 6 * 6]["step_s_median"] / r["step_s_median"]) < 1e-6 and
    abs(r["over_tuned"] - runs[i // 6 * 6 + 1]["step_s_median"] / r["step_s_median"]) < 1e-6 for i, r in enumerate(runs)), runs)


def projection(run):
    """The formula of docs/cli.md."""
    copy = run["modelled_traffic_bytes"] / (1e9 * ablation["machine"]["copy_gbs"])
    return max(run["step_s_median"] - copy, 0) + run["modelled_traffic_bytes"] / (4e9 * ablation["machine"]["threads"])


bnff.check("bench ablation: projections are those of its formula", runs and all(abs(r["projected_s"] - projection(r)) < 1e-6 for r in runs), ablation)
picture = xml.etree.ElementTree.parse("ablation.svg").getroot()
texts = ["".join(t.itertext()) for t in picture.iter("{http://www.w3.org/2000/svg}text")]
bnff.check("bench ablation --svg: well-formed, a row a level, the projection called one",
           all(texts.count(level) == 2 for level in LEVELS) and "a projection, not measured" in texts, texts)
bnff("bench ablation, a table", "bench ablation -m resnet20 -b 2 -r 1 --no-rss --level tuned,icf", out=["resnet20, batch 2, 32 pixels", r"icf +auto +[0-9.]+ .* - ", "PROJECTION, not a measurement"])

layers = bnff("bench layers --json", "bench layers -m resnet20 -b 2 -r 1 --json --profile trace.json", out=JSON)
bnff.check("bench layers: every task", len(layers.get("tasks", [])) > 20 and all(t["ms"] >= 0 for t in layers["tasks"]), layers)


def check_trace(name, path):
    """Complete events; each task's cells lie in its time, and a thread does one thing at a time. Times are written to 12 digits."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    spans, names = [e for e in events if e["ph"] == "X"], [e for e in events if e["ph"] == "M" and e["name"] == "thread_name"]
    bnff.check(f"{name}: complete events with all fields", spans and all(e["dur"] >= 0 and {"name", "cat", "ts", "pid", "tid", "args"} <= set(e) for e in spans), spans[:2])
    bnff.check(f"{name}: a track of tasks and one a thread", {e["args"]["name"] for e in names} == {"tasks", "thread 0", "thread 1"} and {e["tid"] for e in spans} == {0, 1, 2}, names)
    tasks = sorted((e for e in spans if e["tid"] == 0), key=lambda e: e["ts"])
    cells = [e for e in spans if e["tid"]]
    inside = [any(t["name"] == c["name"] and t["ts"] - 0.01 <= c["ts"] and c["ts"] + c["dur"] <= t["ts"] + t["dur"] + 0.01 for t in tasks) for c in cells]
    bnff.check(f"{name}: every cell lies within its task", all(inside), [c for c, good in zip(cells, inside) if not good][:3])
    for track in (0, 1, 2):
        row = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans if e["tid"] == track)
        bnff.check(f"{name}: one thing at a time on track {track}", all(a[1] <= b[0] + 0.01 for a, b in zip(row, row[1:])), row[:5])
    bnff.check(f"{name}: convolutions have weights put in order and work done, on both threads",
               {(c["args"]["part"], c["args"]["cell"], c["tid"]) for c in cells if c["cat"] == "conv_fwd"} >= {(p, c, c + 1) for p in (0, 1) for c in (0, 1)}, cells[:4])
    return spans


spans = check_trace("bench layers --profile", "trace.json")
bnff.check("bench layers --profile: every task of the table", sorted(t["name"] for t in layers["tasks"]) == sorted(e["name"] for e in spans if e["tid"] == 0), layers)
bnff("train --profile", "train synthetic:64x16x2 --model resnet20 --epochs 1 -b 8 --workers 1 --no-report --profile step.json", out="epoch|acc", err=["kind", "all +step"], timeout=250)
check_trace("train --profile", "step.json")
bnff("train --profile of one step", "train synthetic:32x16x2 --model resnet20 --max-steps 1 -b 8 --no-report --quiet --profile one.json --json", out=JSON)
bnff.check("train --profile of one step: written", os.path.getsize("one.json") > 1000)
bnff("train --profile to nowhere", "train synthetic:32x16x2 --model resnet20 --max-steps 1 -b 8 --no-report --profile no/such/folder.json", code=1, out=ANY, err="no/such/folder.json")

PROBLEMS = ["mb2_ic8_oc12_ih9iw7_kh3kw3_sh1sw1_ph1pw1_g1_n\"plain\"", "mb3ic5oc7ih11kh1n\"pointwise\"", "mb1_ic3_oc16_ih17_kh7_sh2_ph3_n\"stem\"", "mb2_ic16_oc16_ih8_kh3_ph1_g16_n\"depthwise\"",
            "mb2_ic24_oc36_ih10_kh3_ph2_dh1_g3_n\"dilated groups\"", "mb2_ic40_oc33_ih7iw13_kh3kw1_sh2sw1_ph1pw0_n\"oblong\""]
with open("problems.txt", "w", encoding="utf-8") as file:
    file.write("# a comment\n\n" + "\n".join(PROBLEMS) + "\n")
conv = bnff("bench conv of a file", "bench conv --problem problems.txt -r 1 --json", out=JSON)
bnff.check("bench conv: all are right", [r["correct"] for r in conv.get("results", [])] == [True] * len(PROBLEMS), conv)
bnff.check("bench conv: both directions are timed", all(r["forward_s"] > 0 and r["backward_s"] > 0 for r in conv.get("results", [{}])), conv)
bnff("bench conv of a line", ["bench", "conv", "--problem", PROBLEMS[0], "-r", "1"], out="ok +mb2_ic8")
bnff("bench conv --list of a model", "bench conv -m resnet20 --list", out=r'^mb32_ic3_oc16_ih32iw32_kh3kw3_sh1sw1_ph1pw1_g1_n"resnet20:conv1"$')
bnff("bench conv of nonsense", "bench conv --problem mb2_icx", code=2, err="hint: a line such as")
bnff("bench conv: kernel larger than the image", "bench conv --problem mb1_ic1_oc1_ih2_kh5", code=2, err="the image is smaller than the kernel")
bnff("bench conv of more than memory", "bench conv --problem mb65536_ic1024_oc1024_ih150_kh1", code=1, out=ANY, err=r"a convolution of 65536 x 150 x 150 x 1024 to 1024 channels needs .* GiB.* free\nhint: take fewer images")
with open("problems.bin", "wb") as file:
    file.write(bytes(1 << 16))
for name, why in ("problems.bin", "problems.bin:1: no line of text"), ("/dev/zero", "/dev/zero:1: no line of text"), (".", r"\.: cannot read: Is a directory"):
    bnff(f"bench conv of {name}", f"bench conv --problem {name}", code=1, err=why)
with open("problems.bin", "w", encoding="utf-8") as file:
    file.write(PROBLEMS[0] + " " * 5000)
bnff("bench conv of an endless line", "bench conv --problem problems.bin", code=1, err="problems.bin:1: no line of text")
bnff("selftest", "selftest", out=["PASS +gradients", "PASS +algorithms", "PASS +resume", "all good"], timeout=250)

bnff.done()
