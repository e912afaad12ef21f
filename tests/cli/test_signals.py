"""Ctrl-C, SIGTERM, SIGUSR1 and kill -9: a training can always be gone on with, and ends as if nothing had happened."""
import os
import signal
import subprocess
import time

from harness import ANY, JSON, Harness, photos

bnff = Harness()
photos("photos", each=24)
COMMAND = "train photos --model resnet20 --img-size 16 -b 6 --seed 5 --epochs 4 --no-report --print-freq 1"


def weights(name):
    with open(f"runs/{name}/weights/last.safetensors", "rb") as file:
        return file.read()


def run_until(name, step, *signals):
    """Start a run, send the signals when its progress shows `step`. Exit code and the rest of stderr."""
    process = bnff.start(f"{COMMAND} --name {name}")
    seen = ""
    for line in process.stderr:
        seen += line.decode()
        if f"step {step}/" in seen:
            break
    for number in signals:
        process.send_signal(number)
        time.sleep(0.01)
    rest = process.stderr.read().decode()
    process.stdout.read()
    return process.wait(timeout=60), seen, rest


bnff("an undisturbed training", f"{COMMAND} --name whole -q", out=ANY)
for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    name = number.name.lower()
    got, seen, rest = run_until(name, 4, number)
    bnff.check(f"{number.name}: exit code {code}", got == code, f"{got}: {seen} {rest}")
    bnff.check(f"{number.name}: how to go on", f"bnff train --resume runs/{name}" in rest, rest)
    bnff(f"{number.name}: resume", f"train --resume runs/{name} -q", out=ANY)
    bnff.check(f"{number.name}: resumed as if it had not stopped", weights(name) == weights("whole"))

got, seen, rest = run_until("'my run'", 4, signal.SIGINT)
bnff.check("how to go on, as a shell reads it", "bnff train --resume 'runs/my run'" in rest, rest)

got, seen, rest = run_until("usr1", 3, signal.SIGUSR1)
bnff.check("SIGUSR1 saves and goes on", got == 0 and weights("usr1") == weights("whole"), f"{got}: {seen} {rest}")

for attempt, step in enumerate((1, 5, 9, 13)):
    name = f"kill{attempt}"
    run_until(name, step, signal.SIGUSR1, signal.SIGKILL)
    if not os.path.exists(f"runs/{name}/weights/last.safetensors"):
        bnff.skip(f"{name}: resume", "killed before its first checkpoint")
        continue
    bnff(f"{name}: the newest checkpoint is whole", f"info runs/{name}/weights/last.safetensors --json", out=JSON)
    bnff(f"{name}: resume", f"train --resume runs/{name} -q", out=ANY, err=ANY)
    bnff.check(f"{name}: resumed as if it had not been killed", weights(name) == weights("whole"))

weights_file = "runs/whole/weights/best.safetensors"
process = bnff.start(["predict", weights_file, "-", "-o", "labels.csv"], stdin=subprocess.PIPE)
for _ in range(500):
    if [f for f in os.listdir(".") if f.startswith("labels.csv")]:
        break
    time.sleep(0.01)
process.send_signal(signal.SIGINT)
process.communicate(timeout=30)
bnff.check("an interrupted predict leaves nothing behind", process.returncode == -signal.SIGINT and not [f for f in os.listdir(".") if f.startswith("labels.csv")], os.listdir("."))

bnff("the newest run is resumed without a name", "train --resume -q", out=ANY, err=ANY)
bnff("resuming what is not there", "train --resume runs/none", code=1, err="runs/none: no such run")

bnff.done()
