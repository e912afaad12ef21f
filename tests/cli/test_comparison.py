"""bench/run.py measures and writes down; the peer itself is not needed: what it would have said is made up."""
import json
import os
import subprocess
import sys
import xml.etree.ElementTree

from harness import JSON, Harness

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")
sys.path.insert(0, BENCH)
import report  # noqa: E402
import run  # noqa: E402

bnff = Harness()

# -- Requests --------------------------------------------------------------------------------------------------------------
REQUESTS = ["probe", "machine", "step icf", "network resnet20 2 24x20", "step icf", "step tuned", "step tunde", "memory icf", "conv 2 mb1_ic8_oc8_ih9_kh3_ph1",
            "conv 1 mb1_ic8_oc8_ih9_kh3_ph1", "conv 0 mb1_ic8_oc8_ih9", "conv 1 nonsense", "network resnet21x 2 24", "step icf", "what"]
answers = [json.loads(line) for line in bnff("bench serve: a line of JSON for each request", "bench serve", stdin="\n".join(REQUESTS).encode(), out="fma_gflops").splitlines()]
bnff.check("bench serve: one answer each", len(answers) == len(REQUESTS), answers)
bnff.check("bench serve: faults are answers", [i for i, a in enumerate(answers) if "error" in a] == [2, 6, 10, 11, 12, 13, 14], answers)
bnff.check("bench serve: steps and their memory", all(answers[i]["step_s"] > 0 and answers[i]["flops"] > 0 for i in (4, 5)) and answers[7]["peak_rss_bytes"] > answers[4]["arena_bytes"], answers)
bnff.check("bench serve: as many rounds as asked for", [len(answers[i]["backward_s"]) for i in (8, 9)] == [2, 1], answers)


# -- The rule for disturbed samples ------------------------------------------------------------------------------------------
class Machine:
    """Probes that say what the test wants."""

    def __init__(self, rates):
        self.rates = rates

    def ask(self, request):
        return {"fma_gflops": self.rates.pop(0)}


calm = [100.0] * 40
for name, rates, taken in (("calm: once", [95, 100], 1), ("a low probe, calm when repeated: once", [90, 95], 1),
                           ("two low probes behind it: again, and the next sample too has them before it", [90, 90, 100, 100], 3),
                           ("never calm: four times", [50] * 8, 4)):
    count = []
    probes = run.Probes(Machine(calm + rates))
    probes.sample(lambda: count.append(1))
    bnff.check(f"disturbed samples: {name}", len(count) == taken, len(count))

# -- A whole run without the peer --------------------------------------------------------------------------------------------
with open("tiny.txt", "w", encoding="utf-8") as file:
    file.write('mb2_ic8_oc8_ih9_kh3_ph1_n"tiny:a"\nmb2_ic8_oc16_ih9_kh1_n"tiny:b"\nmb2_ic8_oc8_ih9_kh3_ph1_n"tiny:c"\n')
os.makedirs("docs")
with open("docs/benchmarks.md", "w", encoding="utf-8") as file:
    file.write(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
words = [sys.executable, os.path.join(BENCH, "run.py"), "--smoke", "--no-peers", "--bnff", bnff.program, "--results", "results", "--docs", "docs", "--shapes", "tiny.txt",
         "--models", "resnet20", "--size", "32", "--batches", "2", "--levels", "tuned,icf"]
done = subprocess.run(words, capture_output=True, text=True, env=bnff.environment, timeout=250)
bnff.check("bench/run.py --smoke", done.returncode == 0, done.stderr)
with open("results/conv_tiny.json", encoding="utf-8") as file:
    lines = json.load(file)["lines"]
bnff.check("bench/run.py: a shape is measured once and counted", [line["count"] for line in lines] == [2, 1] and all(line["bnff"]["forward_s"] > 0 for line in lines), lines)
with open("docs/benchmarks.md", encoding="utf-8") as file:
    text = file.read()
bnff.check("bench/run.py: only the generated part is replaced", text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text, text)
bnff.check("bench/run.py: steps, levels and convolutions are in it", "**resnet20, batch 2, 32 pixels**" in text and "| resnet20, 4 | icf |" in text and "2 shapes, without the peer" in text, text)
pictures = [f for f in os.listdir("docs") if f.endswith(".svg")]
bnff.check("bench/run.py: the pictures are well-formed, and there", sorted(pictures) == ["ablation_resnet20.svg", "benchmarks.svg"] and all(xml.etree.ElementTree.parse("docs/" + p) for p in pictures)
           and all(f"({p})" in text for p in pictures), pictures)

# -- What is said about a peer -----------------------------------------------------------------------------------------------
with open("results/conv_tiny.json", encoding="utf-8") as file:
    document = json.load(file)
document["torch"] = {"torch": "9.9", "capability": "MADE-UP", "threads": 2}
document["lines"] = [
    {"problem": 'mb1_n"tiny:even"', "count": 2, "bnff": {"forward_s": 1, "backward_s": 2}, "torch thp=0": {"forward_s": 1, "backward_s": 1.9}, "torch thp=1": {"forward_s": 9, "backward_s": 9}},
    {"problem": 'mb1_n"tiny:fast"', "count": 1, "bnff": {"forward_s": 1, "backward_s": 1}, "torch thp=1": {"forward_s": 4, "backward_s": 4}},
    {"problem": 'mb1_n"tiny:slow"', "count": 1, "bnff": {"forward_s": 1, "backward_s": 1}, "torch thp=1": {"forward_s": 0.5, "backward_s": 4}},
]
with open("results/conv_tiny.json", "w", encoding="utf-8") as file:
    json.dump(document, file)
report.write("results", "docs")
with open("docs/benchmarks.md", encoding="utf-8") as file:
    text = file.read()
bnff.check("report: sums weigh shapes by their number, the better setting counts", "| tiny | 3 | 4000 | 6500 | 1.62 | 1.00 | 10000 | 18300 | 1.83 | 2.25 | 1 / 0 |" in text, text)
bnff.check("report: only the slower shape is listed", "tiny:slow" in text and "tiny:even" not in text and "tiny:fast" not in text, text)
bnff.check("report: the peer's version", "PyTorch 9.9, MADE-UP" in text, text)
bnff.done()
