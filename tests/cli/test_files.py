"""Data sets and weight files that are missing, empty, damaged or foreign: a line with file, place and remedy, and exit code 1."""
import os
import struct

from harness import ANY, JSON, Harness, photos, png, ppm

bnff = Harness()
ONE_EPOCH = "--epochs 1 -b 8 --img-size 16 --model resnet20 -q"

# -- Data -------------------------------------------------------------------------------------------------------------------
bnff("a missing folder", f"train nowhere {ONE_EPOCH}", code=1, err=r"error: nowhere: .*\nhint: ")
os.makedirs("empty")
bnff("an empty folder", f"train empty {ONE_EPOCH}", code=1, err=r"error: empty: .*\nhint: ")
photos("single", classes=("only",), each=4)
bnff("a single class", f"train single {ONE_EPOCH}", code=1, err="error: single.*only.*\nhint: ")
photos("hollow", each=4)
os.makedirs("hollow/yellow")
bnff("an empty class", f"train hollow {ONE_EPOCH}", code=1, err="yellow")
bnff("no run folder is left behind by these", ["doctor"], out=ANY)
bnff.check("no runs/", not os.path.exists("runs"), os.listdir("."))
with open("flat", "w") as file:
    file.write("text")
bnff("a file in place of a folder", f"train flat {ONE_EPOCH}", code=1, err="error: flat: ")
os.makedirs("cifar")
for name in ["data_batch_%d.bin" % i for i in range(1, 6)] + ["test_batch.bin"]:
    with open(f"cifar/{name}", "wb") as file:
        file.write((b"\x4d" + bytes(3072)) * 4)
bnff("labels out of range", f"train cifar10:cifar {ONE_EPOCH}", code=1, err="data_batch_1.bin.*label|label.*data_batch_1.bin")
os.makedirs("idx")
for name, header in (("train", 4), ("t10k", 4)):
    with open(f"idx/{name}-images-idx3-ubyte", "wb") as file:
        file.write(struct.pack(">IIII", 0x803, header, 28, 28) + bytes(28 * 28 * 2))
    with open(f"idx/{name}-labels-idx1-ubyte", "wb") as file:
        file.write(struct.pack(">II", 0x801, header) + bytes([0, 1, 2, 3]))
bnff("an idx file that is cut off", f"train mnist:idx {ONE_EPOCH}", code=1, err="idx/.*-images-idx3-ubyte")

photos("photos")
report = bnff("data check of good files", "data check photos --json", out=JSON)
bnff.check("data check counts", report.get("good") == 48 and report.get("bad") == 0, report)
photos("damaged")
with open("damaged/red/00.ppm", "r+b") as file:
    file.truncate(100)
with open("damaged/green/new\nline.png", "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n broken")
bnff("data check names damaged files", "data check damaged", code=1, out=["damaged/red/00.ppm: ", "new"], err="48 good, 2 would|47 good, 2 would")
report = bnff("data check --json", "data check damaged --json", code=1, out=JSON)
bnff.check("data check --json names them", sorted(os.path.basename(f["path"]) for f in report.get("files", [])) == ["00.ppm", "new\nline.png"], report)
bnff("training skips damaged files and says so", f"train damaged --max-bad 50% {ONE_EPOCH}", out=ANY, err="warning: .*00.ppm|warning: .*line.png")
bnff("too many damaged files", f"train damaged --max-bad 0 --name few {ONE_EPOCH}", code=1, out=ANY, err="error: .*damaged")

# -- Models and memory ------------------------------------------------------------------------------------------------------
bnff("an unknown model: the nearest", "train photos --model densenet12", code=2, err=r"model.*densenet12'.*hint: .*densenet121")
bnff("images smaller than the stem allows", "train photos --model densenet121 --img-size 8 -b 8", code=1, err="error: ")
bnff("one value a channel", "train photos --model resnet18 --img-size 32 -b 1", code=1, err="(?i)batch norm|one value|single value")
bnff("more memory than there is", "train photos --model densenet161 --img-size 4096 -b 4096", code=1, err=r"error: .*(GiB|TiB).*\nhint: .*batch")

# -- Weights ----------------------------------------------------------------------------------------------------------------
with open("truncated.safetensors", "wb") as file:
    file.write(struct.pack("<Q", 1000) + b'{"a":')
bnff("truncated weights", "info truncated.safetensors", code=1, err="truncated.safetensors: ")
with open("text.safetensors", "w") as file:
    file.write("hello, this is no weight file at all")
bnff("a text file as weights", "val text.safetensors photos", code=1, err="text.safetensors: ")
header = b'{"foreign.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
header += b" " * (-len(header) % 8)
with open("foreign.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + bytes(8))
bnff("info of any safetensors file", "info foreign.safetensors", out="foreign.weight +F32 +\\[2\\]")
bnff.check("info --json of it", bnff("info --json of any file", "info foreign.safetensors --json", out=JSON).get("tensors") == [{"name": "foreign.weight", "dtype": "F32", "shape": [2]}])
bnff("foreign weights: which are missing, which unexpected", "train photos --model resnet20 --weights foreign.safetensors", code=1, err=["foreign.safetensors", "foreign.weight", "conv1.weight"])
bnff("weights that do not name their model", "val foreign.safetensors photos", code=2, err="--model")
bnff("weights that are a folder", "info photos/", code=1, err="photos/: ")
with open("evil.pth", "wb") as file:
    file.write(b"\x80\x02cos\nsystem\nq\x00X\x05\x00\x00\x00touchq\x01\x85q\x02Rq\x03.")
bnff("a pickle that calls something", "info evil.pth", code=1, err="evil.pth: ")

bnff("weights that PyTorch has fetched", "train photos --model resnet20 --weights DEFAULT -q", code=1, err="no weights of resnet20 in /nowhere/hub/checkpoints\nhint: bnff never downloads", env={"TORCH_HOME": "/nowhere"})
bnff("published weights of no model", "train photos --weights IMAGENET1K_V1 -q", code=1, err="of which model")

# -- Output -----------------------------------------------------------------------------------------------------------------
bnff("a full standard output", ["doctor"], out=ANY, err="cannot write standard output", code=1, preexec=lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 1))
bnff("an output folder that cannot be made", f"train photos --output-dir flat/runs {ONE_EPOCH}", code=1, err="flat/runs|flat")
png("alpha/a.png", 9, 9, 4, lambda x, y: (x, y, 0, 10))
ppm("alpha/b/c.ppm", 5, 5, lambda x, y: (x, y, 0))

bnff.done()
