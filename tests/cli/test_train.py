"""Training, validation and prediction from a folder of photographs, as a user would."""
import csv
import io
import json
import os
import resource
import shutil
import signal
import struct

from harness import ANY, JSON, Harness, photos, png, ppm

bnff = Harness()
photos("photos")
SMALL = "--model resnet20 --img-size 16 -b 8 --seed 3"


def read(path):
    with open(path, "rb") as file:
        return file.read()


# -- A training -------------------------------------------------------------------------------------------------------------
result = bnff("train --json", f"train photos {SMALL} --epochs 3 --json", out=JSON, err=["resnet20", "photos", "epoch 3/3"])
bnff.check("the result tells run and accuracy", result.get("run") == "runs/train" and result.get("status") == "done" and result.get("epochs") == 3, result)
for name in ("args.json", "results.csv", "events.jsonl", "report.html", "weights/best.safetensors", "weights/last.safetensors", "weights/last.state.safetensors"):
    bnff.check(f"the run has {name}", os.path.getsize(f"runs/train/{name}") > 0 if os.path.exists(f"runs/train/{name}") else False, os.listdir("runs/train"))
rows = list(csv.DictReader(open("runs/train/results.csv")))
bnff.check("results.csv has ultralytics' columns", len(rows) == 3 and {"epoch", "time", "train/loss", "metrics/accuracy_top1", "metrics/accuracy_top5", "val/loss", "lr/pg0"} <= {k.strip() for k in rows[0]}, rows)
bnff.check("events.jsonl is JSON lines", all(isinstance(json.loads(line), dict) for line in open("runs/train/events.jsonl")))
arguments = json.load(open("runs/train/args.json"))
bnff.check("args.json holds the flags", "resnet20" in json.dumps(arguments) and "photos" in json.dumps(arguments), arguments)
bnff.check("args.json names the algorithm", arguments.get("conv") == "auto" and arguments.get("level") == "icf", arguments)
bnff("equal seeds", f"train photos {SMALL} --epochs 3 -q --workers 0", out=ANY)
bnff.check("a run folder is never overwritten, equal training gives equal bytes", read("runs/train/weights/last.safetensors") == read("runs/train2/weights/last.safetensors"))
bnff("settings instead of flags", "train data=photos model=resnet20 imgsz=16 batch=8 seed=3 epochs=1 name=settings report=False -q", out=ANY)
bnff.check("no report when none is wanted", not os.path.exists("runs/settings/report.html"))
bnff("--quiet prints the result alone", f"train photos {SMALL} --epochs 1 -q --no-report", out="best")
bnff("progress lines off a terminal", f"train photos {SMALL} --epochs 1 --print-freq 2 --name lines", out=ANY, err=r"epoch 1/1  step 2/5  loss \d.*img/s  lr \d.*data \d+%.*eta ")
bnff("--max-steps", f"train photos {SMALL} --epochs 3 --max-steps 2 --name two --json", out=JSON, err=ANY)
bnff("train with an unknown algorithm", f"train photos {SMALL} --conv winograd --name unknown", code=2, err="'winograd' is unknown")
bnff.check("no folder is made for it", not os.path.exists("runs/unknown"))
bnff("--exist-ok", f"train photos {SMALL} --epochs 1 --name two --exist-ok --json -q", out='"run": "runs/two"')
bnff("--dry-run makes no folder", f"train photos {SMALL} --dry-run --name dry", out=ANY, err=ANY)
bnff.check("--dry-run made no folder", not os.path.exists("runs/dry"))
for flags in ("--opt adamw --lr-scheduler cosineannealinglr --lr-warmup-epochs 1", "--opt sgd_nesterov --sched step --decay-epochs 1", "--grad-accum-steps 2 --clip-grad 1 --smoothing 0.1",
              "--scale 0.5 1 --ratio 0.9,1.1 --interpolation bicubic --hflip 0", "--freeze-bn all --norm-weight-decay 0 --bias-weight-decay 0", "--in-chans 1", "--conv auto", "--batch-size auto --max-steps 1"):
    bnff(f"train {flags}", f"train photos {SMALL} --epochs 1 --max-steps 3 --no-report -q --name flags {flags}", out=ANY)

# -- Evaluation and prediction ----------------------------------------------------------------------------------------------
WEIGHTS = "runs/train/weights/best.safetensors"
bnff("val", f"val {WEIGHTS} photos", out=r"^Acc@1 \d+\.\d{3} Acc@5 \d+\.\d{3}", err="images in")
measured = bnff("val --json", f"val {WEIGHTS} photos --json", out=JSON, err=ANY)
bnff.check("val agrees with the training", abs(measured.get("acc1", -1) - result.get("best", {}).get("acc1", 0)) < 1e-4 and measured.get("images", 0) > 0, (measured, result))
bnff("val with an algorithm", f"val {WEIGHTS} photos --conv auto --json", out=JSON, err=ANY)
bnff("val with an unknown algorithm", f"val {WEIGHTS} photos --conv winograd", code=2, err="'winograd' is unknown")
bnff("val of another number of classes", f"val {WEIGHTS} single", code=1, err=ANY)
info = bnff("info of weights", f"info {WEIGHTS} --json", out=JSON)
bnff.check("the weights say which model and which classes", info.get("model") == "resnet20" and info.get("classes") == 3 and json.loads(info["metadata"].get("label_names", "[]")) == ["blue", "green", "red"], info.get("metadata"))
bnff.check("numbers in metadata are as short as they can be", info["metadata"].get("mean") == "[0.485, 0.456, 0.406]", info["metadata"])
bnff("plan of weights", f"plan {WEIGHTS} -b 4", out="conv1")

table = list(csv.DictReader(io.StringIO(bnff("predict a folder: csv off a terminal", f"predict {WEIGHTS} photos", out=r"^filename,label,prob$"))))
bnff("predict with an algorithm", f"predict {WEIGHTS} photos/red/00.ppm --conv fast", out="^filename")
bnff("predict with an unknown algorithm", f"predict {WEIGHTS} photos/red/00.ppm --conv winograd", code=2, err="'winograd' is unknown")
bnff.check("predict: one line an image", len(table) == 48 and all(0 < float(row["prob"]) <= 1 for row in table), table[:3])
bnff.check("predict: in order", [row["filename"] for row in table] == sorted(row["filename"] for row in table), table[:3])
document = bnff("predict --format json", f"predict {WEIGHTS} photos/red/00.ppm --format json --topk 2", out=JSON)
bnff.check("predict --topk", len(document["images"][0]["predictions"]) == 2 and document["images"][0]["filename"] == "photos/red/00.ppm", document)
lines = bnff("predict --format jsonl", f"predict {WEIGHTS} photos/red photos/blue/01.ppm --format jsonl", out=ANY)
bnff.check("predict: all classes at most", [len(json.loads(line)["predictions"]) for line in lines.splitlines()] == [3] * 17, lines[:300])
bnff("predict for people", f"predict {WEIGHTS} photos/red/00.ppm --format human", out=r"^photos/red/00.ppm: \w+ \d+\.\d %, \w+ ")
ppm("-odd, \"name\".ppm", 10, 10, lambda x, y: (250, 10, 10))
row = list(csv.reader(io.StringIO(bnff("names that begin with a dash", ["predict", WEIGHTS, "--", "-odd, \"name\".ppm"], out=ANY))))
bnff.check("csv quotes odd names", len(row) == 2 and row[1][0] == "-odd, \"name\".ppm", row)
bnff("predict: an image on stdin", f"predict {WEIGHTS} -", stdin=read("photos/red/00.ppm"), out="^-,")
bnff("predict: an image of another kind on stdin", f"predict {WEIGHTS} -", code=1, stdin=b"RIFF\0\1\2\3WEBPVP8 \n/\n\0/\0", out="^filename,label,prob\n\\Z", err="standard input: not a JPEG, PNG, .* image but a WebP image\n\\Z")
bnff("predict: names on stdin that end in NULs", f"predict {WEIGHTS} -", stdin=b"photos/red/00.ppm\0photos/blue/01.ppm\0", out="photos/red/00.ppm,.*photos/blue/01.ppm,")
bnff("predict: names on stdin", f"predict {WEIGHTS} -", stdin=b"photos/red/00.ppm\nphotos/blue/01.ppm\n", out="photos/red/00.ppm,.*photos/blue/01.ppm,")
with open("broken.jpg", "wb") as file:
    file.write(b"\xff\xd8\xff\xe0 nothing")
bnff("a damaged file is named, the others are predicted", f"predict {WEIGHTS} broken.jpg missing.png photos/red/00.ppm", code=1, out="photos/red/00.ppm,", err=["broken.jpg", "missing.png"])
png("gray.png", 30, 20, 1, lambda x, y: (x,))
png("alpha.png", 30, 20, 4, lambda x, y: (x, y, 0, 5))
bnff("gray and transparent images", f"predict {WEIGHTS} gray.png alpha.png -o out.csv", out="")
bnff.check("-o wrote the table", read("out.csv").count(b"\n") == 3 and not [f for f in os.listdir(".") if "tmp" in f], os.listdir("."))
bnff("-o into a folder that is not there", f"predict {WEIGHTS} gray.png -o nowhere/out.csv", code=1, err="nowhere/out.csv")
bnff("-o to a full device", f"predict {WEIGHTS} gray.png -o /dev/full", code=1, err="/dev/full: cannot write")

# -- Weights of another program: the same tensors without metadata ---------------------------------------------------------------
whole = read(WEIGHTS)
length = struct.unpack("<Q", whole[:8])[0]
header = json.loads(whole[8:8 + length])
header.pop("__metadata__")
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open("bare.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + whole[8 + length:])
bnff("info recognises a model by its tensors", "info bare.safetensors", out="^resnet20: ")
bnff("so does predict", "predict bare.safetensors photos/red/00.ppm --img-size 16", out="photos/red/00.ppm,[012],", err="recognised as resnet20 with 3 classes")
bnff("and fine-tuning", "train photos --weights bare.safetensors --img-size 16 -b 8 --max-steps 1 --name bare -q", out=ANY, err="recognised as resnet20")

broken = bytearray(whole)
broken[8 + length:] = b"\xff\xff\xff\x7f" * ((len(whole) - 8 - length) // 4)  # every number NaN
with open("broken.safetensors", "wb") as file:
    file.write(broken)
bnff("predict with weights that are no numbers", "predict broken.safetensors photos/red/00.ppm -f json", code=1, out=r'"predictions"|"failed"', err="not finite")
bnff("val with weights that are no numbers", "val broken.safetensors photos --json", code=1, err="broken.safetensors: .*not finite")

# -- Fine-tuning --------------------------------------------------------------------------------------------------------------
photos("two", classes=("cyan", "magenta"), each=8)
bnff("fine-tuning replaces the head and says so", f"train two {SMALL} --epochs 1 --weights {WEIGHTS} --name tuned", out=ANY, err="(?i)head|classifier")
bnff("a frozen backbone", f"train two {SMALL} --epochs 1 --weights {WEIGHTS} --freeze backbone --name frozen -q", out=ANY)
bnff("freezing by a bad expression", f"train two {SMALL} --epochs 1 --freeze '(' -q", code=2, err="freeze")
bnff("a gray network", f"train photos {SMALL} --in-chans 1 --epochs 1 --name gray -q", out=ANY)
bnff("predict with a gray network", "predict runs/gray/weights/best.safetensors photos/red/00.ppm gray.png", out="gray.png,")

again = bnff("a finished run taken up again", "train --resume runs/train --json", out=JSON, err=ANY)
bnff.check("its numbers are those of the processes before", all(again.get(k) == result.get(k) for k in ("best", "epochs", "steps")) and abs(again.get("acc1", -1) - result["acc1"]) < 1e-4
           and abs(again.get("loss", -1) - result["loss"]) < 1e-6 and again.get("images_per_s", 0) > 0, (again, result))

# -- A disk that fills up -----------------------------------------------------------------------------------------------------


def small_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))


bnff("a training to go on with", f"train photos {SMALL} --epochs 4 --max-steps 5 --name full -q --no-report", out=ANY)
before = read("runs/full/weights/last.safetensors")
bnff("weights that cannot be written", "train --resume runs/full --max-steps 12 -q", code=1, out=ANY, err="error: .*runs/full/weights", preexec=small_files)
bnff.check("the earlier checkpoint stays", read("runs/full/weights/last.safetensors") == before and not [f for f in os.listdir("runs/full/weights") if "tmp" in f], os.listdir("runs/full/weights"))
bnff("and can be gone on with", "train --resume runs/full --max-steps 12 -q", out=ANY)

os.remove("runs/full/weights/last.state.safetensors")
bnff("a run whose state is gone", "train --resume runs/full --max-steps 12 -q", out=ANY, err="warning: runs/full: it has no checkpoint: starting from the beginning")


def small_files_by_signal():
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))


bnff("a closed stderr", f"predict {WEIGHTS} photos/red/00.ppm no-such-file.png -o apart.csv", code=1, preexec=lambda: os.close(2))
bnff.check("a closed stderr: its messages are not in the table", read("apart.csv").count(b"\n") == 2, read("apart.csv"))
bnff("a closed stdout: what is lost is noticed", "models --json", code=1, err="cannot write standard output", preexec=lambda: os.close(1))

# -- Names that are not UTF-8 ---------------------------------------------------------------------------------------------------
for new, old in (b"latin/M\xfcller", b"red"), (b"latin/M\xfdller", b"blue"):
    shutil.copytree(b"photos/" + old, new)
bnff("classes that are not UTF-8", f"train latin {SMALL} --epochs 1 --name latin -q --json", out=ANY, err=ANY)
bnff("are known again", "val runs/latin/weights/best.safetensors latin -q", out="^Acc@1")

# -- Divergence ----------------------------------------------------------------------------------------------------------------
bnff("divergence names step and layer", f"train photos {SMALL} --epochs 3 --lr 1e6 --lr-scheduler constant --name nan -q", code=3, out=ANY, err="(?i)step \\d+")

bnff.done()
