"""Commands, flags, help: nothing here trains."""
import os
import xml.etree.ElementTree

from harness import ANY, JSON, Harness

bnff = Harness()

# -- Commands ------------------------------------------------------------------------------------------------------------
bnff("no command: usage on stderr", "", code=2, err="usage: bnff COMMAND")
for word in ("--help", "-h", "help"):
    bnff(f"{word}: usage on stdout", word, out="usage: bnff COMMAND")
bnff("--version", "--version", out=r"^bnff \d+\.\d+\.\d+$")
bnff("unknown command: the nearest", "trian x", code=2, err=r"error: unknown command 'trian'\nhint: did you mean 'bnff train'\?")
bnff("unknown command far from any", "xyzzyxyzzy", code=2, err="hint: bnff --help")
bnff("help of an unknown command", "help xyz", code=2, err="unknown command 'xyz'")

COMMANDS = ["train", "val", "predict", "info", "models", "plan", "data", "bench", "doctor", "selftest"]
for command in COMMANDS:
    text = bnff(f"{command} --help", f"{command} --help", out=[rf"^usage: bnff {command}", "examples:"])
    bnff.check(f"help {command} says the same", bnff(f"help {command}", f"help {command}", out=ANY) == text)
    bnff.check(f"{command} --help fits 110 columns", all(len(line) <= 110 for line in text.splitlines()), max(text.splitlines(), key=len))
for command in ("step", "ablation", "layers", "conv", "peak"):
    bnff(f"bench {command} --help", f"bench {command} --help", out=[rf"^usage: bnff bench {command}", "--json"])

bnff("bench serve --help", "bench serve --help", out="^usage: bnff bench serve")

# -- Flags -----------------------------------------------------------------------------------------------------------------
bnff("help bench step", "help bench step", out="^usage: bnff bench step")
bnff("unknown flag: the nearest", "train x --epcohs 3", code=2, err=r"unknown option '--epcohs'\nhint: did you mean --epochs\?")
bnff("unknown setting: the nearest", "train x epoch=3", code=2, err=r"unknown option 'epoch'\nhint: did you mean epochs=")
bnff("unknown short flag", "train x -Z", code=2, err="unknown option '-Z'")
bnff("a missing value", "train x --epochs", code=2, err="--epochs needs a value: N")
bnff("a flag in place of a value", "train x --model --epochs 3", code=2, err="--model needs a value")
bnff("no number", "train x --epochs many", code=2, err="--epochs many: a whole number is needed")
bnff("a fraction for a whole number", "train x epochs=2.5", code=2, err="epochs 2.5: a whole number is needed")
bnff("below the range", "train x -b 0", code=2, err="-b 0: a number from 1 to 65536, or auto")
bnff("glued short value", "train x -b0", code=2, err="-b 0: ")
bnff("above the range", "train x --hflip=1.5", code=2, err="--hflip 1.5: it must lie between 0 and 1")
bnff("not finite", "train x --lr nan", code=2, err="--lr nan: a number is needed")
bnff("a choice", "train x --lr-scheduler plateau", code=2, err="one of constant steplr cosineannealinglr onecycle")
bnff("an optimizer", "train x --opt lamb", code=2, err="one of sgd sgd_nesterov adam adamw")
bnff("a large bound in digits", "train x --epochs 0", code=2, err="between 1 and 1000000$")
bnff("no learning at all", "train x --lr 0", code=2, err="--lr 0: at least 1e-12 is needed")
for decay in "weight-decay", "norm-weight-decay", "bias-weight-decay":
    bnff(f"a {decay} that no float holds", f"train x --{decay} 1e99", code=2, err=f"--{decay} 1e99: it must lie between 0 and 1000")
bnff("nothing held out", "train x --val-ratio 0", code=2, err="--val-ratio 0: it must lie between 0.001 and 0.95")
bnff("made-up images with a tail", "train synthetic:10x8x2x --dry-run", code=2, err="synthetic:10x8x2x: not COUNTxSIZExCLASSES")
bnff("half a pair", "train x --scale 0.5", code=2, err="two numbers are needed, such as --scale 0.5 1")
bnff("a pair in the wrong order", "train x --scale 0.9,0.1", code=2, err="the first must not exceed the second")
bnff("a switch with a value", "train x --json=perhaps", code=2, err="--json is on or off")
bnff("max-bad of more than all", "train x --max-bad 101%", code=2, err="a number of files, or a share such as 1%")
for seconds in "0", "-0.5", "nan", "inf", "1e99", "5s":
    bnff(f"a checkpoint every {seconds} seconds", f"train x --checkpoint-seconds={seconds}", code=2, err=f"--checkpoint-seconds {seconds}: a number of seconds above 0 and up to 1e9, or -1: never")
bnff("no checkpoint in mid-epoch", "train synthetic:20x8x2 --checkpoint-seconds -1 --dry-run", out="^model")
bnff("too many arguments", "train a b", code=2, err="'b' is one argument too many")
bnff("too few arguments", "val weights.safetensors", code=2, err="a second argument is missing")
bnff("no data", "train --epochs 1", code=2, err="no data named")
bnff("data check is the only data command", "data list x", code=2, err="'data check DIR' is")
bnff("bench without a benchmark", "bench", code=2, err="which one")
bnff("bench with an unknown one", "bench stpe", code=2, err="did you mean 'step'")
bnff("errors have no colour off a terminal", "train x --epcohs", code=2, err=r"^bnff: error: ")
bnff("FORCE_COLOR colours errors", "train x --epcohs", code=2, err="\033\\[1;31merror:", env={"FORCE_COLOR": "1"})
bnff("NO_COLOR wins", "train x --epcohs", code=2, err=r"^bnff: error: ", env={"FORCE_COLOR": "1", "NO_COLOR": "1"})

# -- Facts -----------------------------------------------------------------------------------------------------------------
machine = bnff("doctor --json", "doctor --json", out=JSON)
bnff.check("doctor knows the threads", machine.get("threads") == 2 and machine.get("threads_from") == "BNFF_THREADS", machine)
bnff.check("doctor's instruction set is one of its list", machine.get("isa") in machine.get("isas", []), machine)
bnff("doctor", "doctor", out=["^kernels ", "^memory ", "^libraries ", "^data "])
bnff("threads on the command line", "doctor -t3", out=r"^threads +3, by --threads")
bnff("the plain kernels", "doctor --json", out='"isa": "plain"', env={"BNFF_MAX_ISA": "plain"})
# -- Plans -----------------------------------------------------------------------------------------------------------------
text = bnff("plan in words", "plan resnet20 -b 2 -t 1", out=["^Plan of a training step: 2 images of 32 x 32, level icf",
            r"layer1\.0\.bn1  \(16 channels, 32 x 32\)", "statistics +as conv layer1.0.conv1 stores\n", "derivative of relu +as conv_bwd layer1.0.conv2 stores; y computed again",
            "Every level", "  layerwise +[0-9.]+ MiB"])
bnff("plan of a level that fuses nothing: why", "plan resnet20 -b 2 --level layerwise", out=["normalise +a sweep of its own: this level fuses nothing", "0 of 19 need no"])
bnff("plan of images that are no squares", "plan resnet20 -b 2 -t 1 --size 33x48", out="^Plan of a training step: 2 images of 33 x 48, level icf")
bnff("plan of images without a width", "plan resnet20 --size 33x", code=2, err="height x width")
bnff("plan of an evaluation", "plan resnet20 -b 2 --eval", out=["^Plan of an evaluation", "statistics +none: evaluation uses the running ones"])
plan = bnff("plan as JSON", "plan densenet-bc-22-12 -b 2 --json", out=JSON)
if plan:
    bnff.check("plan --json: all levels", [level["level"] for level in plan["levels"]] == ["layerwise", "mvf", "rcf", "bnff", "icf", "tuned"], plan["levels"])
    own = [level for level in plan["levels"] if level["level"] == plan["level"]][0]
    bnff.check("plan --json: this level among them", own["modelled_traffic_bytes"] == plan["modelled_traffic_bytes"] and own["arena_bytes"] == plan["arena_bytes"], own)
    names = {task["name"] for task in plan["tasks"]}
    pieces = [piece for norm in plan["normalizations"] for piece in norm["pieces"]]
    bnff.check("plan --json: pieces run in tasks there are", all(set(piece["tasks"]) <= names for piece in pieces), names)
    bnff.check("plan --json: a piece has a place, or a reason why not", all(piece["tasks"] or piece["reason"] for piece in pieces), pieces)
    bnff.check("plan --json: tasks add up", abs(sum(task["bytes"] for task in plan["tasks"]) - plan["modelled_traffic_bytes"]) < 1e3, plan["modelled_traffic_bytes"])
for network in "densenet-bc-22-12", "resnet20":
    bnff(f"plan --svg of {network}", f"plan {network} -b 2 --svg plan.svg", out="Plan of")
    root = xml.etree.ElementTree.parse("plan.svg").getroot()
    bnff.check(f"the picture of {network} names its tasks", any("conv_bwd" in (text.text or "") for text in root.iter("{http://www.w3.org/2000/svg}text")), root)
bnff("plan --svg -: nothing else on stdout", "plan resnet20 -b 2 --svg -", out=r"\A<svg (.|\n)*</svg>\n\Z")
bnff("plan --svg into nowhere", "plan resnet20 --svg no/such/folder.svg", code=1, err="no/such/folder.svg")
bnff("the graphs of every pass", "plan resnet20 -b 2", out=ANY, env={"BNFF_DUMP": "dump"})
bnff.check("a file a pass", sorted(os.listdir("dump")) == ["00-network.txt", "01-expand.txt", "02-pool_first.txt", "03-autodiff.txt", "04-fission.txt", "05-views.txt", "06-share.txt", "07-fuse.txt"], os.listdir("dump"))
bnff.check("a placement for every node", len(open("dump/07-fuse.txt").readlines()) == len(open("dump/06-share.txt").readlines()) - 1, "")

# -- Environment -------------------------------------------------------------------------------------------------------------
bnff("caches of which a row takes many times as much", "plan resnet18 -b 1", out="^Plan of a training step: 1 image of 224 x 224", env={"BNFF_CACHES": "4K,8K,16K"})
bnff("caches to plan for", "plan resnet20 -b 2 --json", out='"modelled_line_bytes"', env={"BNFF_CACHES": "32K,256K,4M"})
for wrong in "32K,256K", "32K,32K,4M", "32K,256K,4M,", "0,256K,4M", "-1,2,3", "32K,256K,99999999999999999999M", "1,2,x":
    bnff(f"caches of {wrong}", "plan resnet20", code=2, err=f"BNFF_CACHES={wrong}", env={"BNFF_CACHES": wrong})
bnff("an instruction set that does not exist", "doctor", code=2, err="instruction set 'sse9'", env={"BNFF_MAX_ISA": "sse9"})

zoo = bnff("models --json", "models 'densenet1?1' --json", out=JSON)
rows = {row["name"]: row for row in zoo.get("models", [])}
bnff.check("models: parameters as published", rows.get("densenet121", {}).get("params") == 7978856, rows)
bnff.check("models: multiply-adds as published (2.83 G)", abs(rows.get("densenet121", {}).get("macs", 0) / 2.834e9 - 1) < 0.005, rows)
bnff.check("models: memory is planned", rows.get("densenet121", {}).get("planned_bytes", 0) > 1e8, rows)
bnff("models by glob", "models resnet5?", out=r"^resnet50 +224 +25,557,032")
bnff("models: none", "models 'resnext9*'", code=1, err="no model matches")

info = bnff("info --json", "info resnet50 --json", out=JSON)
bnff.check("info: parameters and multiply-adds as published", info.get("params") == 25557032 and abs(info.get("macs", 0) / 4.089e9 - 1) < 0.005, (info.get("params"), info.get("macs")))
layers = {layer["name"]: layer for layer in info.get("layers", [])}
bnff.check("info: shapes of layers", layers.get("layer4.2.conv3", {}).get("shape") == [7, 7, 2048] and layers.get("conv1", {}).get("shape") == [112, 112, 64], layers.get("conv1"))
bnff("info of a model", "info densenet121", out=["features.conv0 .*112x112x64", "7,978,856 parameters", "2.83 G MACs"])
bnff("info of an unknown model: the nearest", "info resnet51", code=2, err=r"unknown model 'resnet51'.*hint: .*'resnet\d+'")
bnff("info of a missing file", "info missing.safetensors", code=1, err="missing.safetensors: ")

plan = bnff("plan --json", "plan resnet18 -b 4 --size 64 --json", out=JSON)
bnff("plan", "plan resnet18 -b 4 --size 64", out="conv1")
bnff("plan of an unknown level", "plan resnet18 --level fastest", code=2, err="fastest")
bnff.check("plan --json names level and algorithm", plan.get("level") == "icf" and plan.get("algorithm") == "auto", plan)
bnff("plan with an algorithm", "plan resnet18 -b 4 --size 64 --conv auto", out="convolutions auto")
bnff("plan with an unknown algorithm: all there are", "plan resnet18 --conv winograd", code=2, err="'winograd' is unknown\nhint: .*direct.*auto.*fast")
bnff("plan of more pixels than are counted", "plan resnet18 -b 65536", code=1, err=r"65536 x 224 x 224 x 3 \(batch, height, width, channels\): it may have 2e9 pixels at most")
bnff("plan of images that are too small", "plan densenet121 --size 8", code=1, err=r"error: avgpool after features.transition2.conv: its 1 x 1 input is smaller than the 2 x 2 window\nhint")
bnff("one value a channel under batch normalization", "plan resnet18 -b 1 --size 32", code=1, err="(?i)batch norm|one value|single value")

bnff.done()
