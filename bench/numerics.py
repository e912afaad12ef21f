#!/usr/bin/env python3
"""What the algorithms of convolutions do to accuracy: errors against float64, and trainings side by side (docs/numerics.md).

    bench/numerics.py layers gradients --results numerics/
    bench/numerics.py training --results numerics/ --flowers DIR --seeds 0,1,2 --algorithms direct,auto,fast
    bench/numerics.py report --results numerics/

Whatever is finished is in the results folder and is not done again; a training that was stopped goes on where it stopped. `report` writes
numerics.md and a picture for each data set from what is there, and says what is not.
"""
import argparse, csv, gzip, json, os, statistics, struct, subprocess, sys

TASKS = {
    'part': ('DenseNet-BC-22-12 on the first fifth of Fashion-MNIST, 2 epochs', ['--model', 'densenet-bc-22-12', '--epochs', '2', '--batch-size', '128']),
    'fashion-mnist': ('DenseNet-BC-22-12 on Fashion-MNIST, 4 epochs', ['--model', 'densenet-bc-22-12', '--epochs', '4', '--batch-size', '128']),
    'flowers': ('ResNet-18 on a folder of flowers at 112 pixels, 20 epochs, one-cycle',
                ['--model', 'resnet18', '--img-size', '112', '--epochs', '20', '--batch-size', '64', '--lr-scheduler', 'onecycle']),
}
MODELS = [(name, batch, size, kinks) for name, batch, size in (('densenet-bc-22-12', 8, 28), ('resnet18', 4, 64), ('densenet121', 4, 64), ('resnet50', 4, 64))
          for kinks in ('', 'smooth')]
INPUTS = 9
COLORS = {'direct': '#000000', 'auto': '#2b62a8', 'fast': '#b8404a', 'f2': '#5b9a48', 'f2x4': '#7f7f7f', 'f4': '#d07a24'}


def note(text):
    print(f'numerics: {text}', file=sys.stderr, flush=True)


def save(path, text):
    with open(path + '.part', 'w') as file:
        file.write(text)
    os.replace(path + '.part', path)


def lines_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]


def measure(args, name, words):
    path = os.path.join(args.results, name + '.jsonl')
    if os.path.exists(path):
        return
    note(name)
    save(path, subprocess.run([args.program] + words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def gradients_name(model):
    return f'gradients-{model[0]}-{model[2]}' + ('-smooth' if model[3] else '')


# -- Trainings ----------------------------------------------------------------------------------------------------------------

def run_name(task, algorithm, seed):
    return f'{task}-{algorithm}-{seed}'


def first_fifth(args):
    """A folder with the first fifth of Fashion-MNIST's images and labels."""
    folder = os.path.join(args.results, 'fifth')
    os.makedirs(folder, exist_ok=True)
    for split in 'train', 't10k':
        for kind, head, item in ('images-idx3', 16, 28 * 28), ('labels-idx1', 8, 1):
            name = f'{split}-{kind}-ubyte'
            with gzip.open(os.path.join(args.fashion, name + '.gz')) as file:
                data = file.read()
            count = struct.unpack('>I', data[4:8])[0] // 5
            with open(os.path.join(folder, name), 'wb') as file:
                file.write(data[:4] + struct.pack('>I', count) + data[8:head + count * item])
    return 'fashion-mnist:' + folder


def data_of(args, task):
    return args.flowers if task == 'flowers' else first_fifth(args) if task == 'part' else 'fashion-mnist'


def train(args, task, algorithm, seed):
    name = run_name(task, algorithm, seed)
    folder, done = os.path.join(args.results, name), os.path.join(args.results, name + '.json')
    if os.path.exists(done):
        return
    note(name)
    if os.path.exists(os.path.join(folder, 'args.json')):
        command = ['--resume', folder]
    else:
        command = [data_of(args, task)] + TASKS[task][1] + ['--seed', str(seed), '--conv', algorithm, '--cells', '2', '--output-dir', args.results, '--name', name, '--no-report']
    command = [args.bnff, 'train'] + command + ['-t', str(args.threads), '--json', '-q']
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f'numerics: {name} was not finished; the same command goes on with it')
    save(done, run.stdout)


def curve(args, task, algorithm, seed):
    """Validation accuracy after every epoch so far."""
    path = os.path.join(args.results, run_name(task, algorithm, seed), 'results.csv')
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [float(row['metrics/accuracy_top1']) for row in csv.DictReader(file)]


def finished(args, task, algorithm, seed):
    path = os.path.join(args.results, run_name(task, algorithm, seed) + '.json')
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file)


# -- Report -------------------------------------------------------------------------------------------------------------------

def table(head, rows):
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in [head, ['---'] * len(head)] + rows) + '\n'


def layer_table(args):
    found = lines_of(os.path.join(args.results, 'layers.jsonl'))
    if not found:
        return 'Errors of layers: not measured.\n'
    algorithms = list(dict.fromkeys(line['algorithm'] for line in found))
    rows = []
    for name, images in dict.fromkeys((line['layer'], line['images']) for line in found):
        of = {line['algorithm']: line for line in found if (line['layer'], line['images']) == (name, images)}
        direct = of['direct']
        row = [f"{name}: {direct['channels'][0]}→{direct['channels'][1]}, {images} × {direct['size']}²", ' / '.join(f"{direct[k]:.2g}" for k in ('y', 'dx', 'dw'))]
        rows.append(row + [' / '.join(f"{of[a][k] / direct[k]:.2f}" if a != 'tf32' else f"{of[a][k] / direct[k]:.0f}" for k in ('y', 'dx', 'dw'))
                           for a in algorithms if a != 'direct'])
    return table(['convolution', 'direct: y / dx / dw'] + [f'{a}, times direct' for a in algorithms if a != 'direct'], rows)


def gradient_table(args):
    rows = []
    for model in MODELS:
        found = lines_of(os.path.join(args.results, gradients_name(model) + '.jsonl'))
        text = f'{model[0]}, {model[1]} images of {model[2]}²' + (', without kinks' if model[3] else '')
        if not found:
            rows.append([text, 'not measured', '', '', ''])
            continue
        base = found[0]['error']
        rows += [[text if i == 0 else '', line['level'], line['algorithm'], f"{line['error']:.2e}", f"{line['error'] / base:.2f}"] for i, line in enumerate(found)]
    return table(['model', 'level', 'convolutions', 'error', 'times the first'], rows)


def training_table(args, task):
    rows = []
    for algorithm in args.algorithms:
        results = [finished(args, task, algorithm, seed) for seed in args.seeds]
        cells = [f"{r['acc1']:.2f}" if r else 'not run' for r in results]
        known = [r['acc1'] for r in results if r]
        spread = f'{statistics.mean(known):.2f} ± {statistics.stdev(known):.2f}' if len(known) > 1 else '-'
        rows.append([algorithm] + cells + [spread, f"{statistics.mean(r['loss'] for r in results if r):.4f}" if known else '-'])
    return table(['convolutions'] + [f'seed {seed}' for seed in args.seeds] + ['mean ± deviation', 'loss'], rows)


def picture(args, task):
    """Validation accuracy by epoch, a line a run. Returns the file's name, or None if no run has two epochs."""
    curves = [(a, curve(args, task, a, seed)) for a in args.algorithms for seed in args.seeds]
    curves = [(a, c) for a, c in curves if len(c) > 1]
    if not curves:
        return None
    epochs = max(len(c) for _, c in curves)
    low = min(min(c) for _, c in curves) // 5 * 5
    high = min(100, (max(max(c) for _, c in curves) // 5 + 1) * 5)
    width, height, left, bottom = 640, 360, 50, 320

    def x(i): return left + (width - left - 100) * i / (epochs - 1)
    def y(v): return bottom - (bottom - 40) * (v - low) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#fff"/><text x="{left}" y="22" font-size="14">{TASKS[task][0]}: validation accuracy, %</text>']
    for i in range(6):
        v = low + (high - low) * i / 5
        out.append(f'<path d="M{left} {y(v):.1f}H{width - 100}" stroke="#ddd"/><text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for i in range(0, epochs, max(1, epochs // 10)):
        out.append(f'<text x="{x(i):.1f}" y="{bottom + 18}" text-anchor="middle">{i + 1}</text>')
    for algorithm, c in curves:
        path = 'L'.join(f'{x(i):.1f} {y(v):.1f}' for i, v in enumerate(c))
        out.append(f'<path d="M{path}" fill="none" stroke="{COLORS.get(algorithm, "#888")}" stroke-opacity=".7"/>')
    for i, algorithm in enumerate(dict.fromkeys(a for a, _ in curves)):
        out.append(f'<text x="{width - 90}" y="{60 + 18 * i}" fill="{COLORS.get(algorithm, "#888")}">{algorithm}</text>')
    out.append(f'<text x="{(left + width - 100) / 2}" y="{bottom + 36}" text-anchor="middle">epoch</text></svg>')
    name = f'numerics_{task}.svg'
    save(os.path.join(args.results, name), '\n'.join(out) + '\n')
    return name


def report(args):
    text = ['## Layers\n', layer_table(args), '## Whole gradients\n', gradient_table(args)]
    for task in TASKS:
        text += [f'## {TASKS[task][0]}\n', training_table(args, task)]
        name = picture(args, task)
        if name:
            text.append(f'![validation accuracy]({name})\n')
    path = os.path.join(args.results, 'numerics.md')
    save(path, '\n'.join(text))
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='+', choices=['layers', 'gradients', 'training', 'report'])
    parser.add_argument('--results', default='numerics', help='folder of what is finished (numerics)')
    parser.add_argument('--bnff', default='build/bnff')
    parser.add_argument('--program', default='build/bench/numerics', help='built by ninja -C build bench/numerics')
    parser.add_argument('--flowers', help='a folder of class folders of photographs, for the second training; left out without it')
    parser.add_argument('--fashion', default='/usr/share/datasets/fashion-mnist', help='where Fashion-MNIST is, for the part of it')
    parser.add_argument('--algorithms', default='direct,auto,fast', type=lambda text: text.split(','))
    parser.add_argument('--seeds', default='0,1,2', type=lambda text: [int(seed) for seed in text.split(',')])
    parser.add_argument('--tasks', default='fashion-mnist,flowers', help='of ' + ', '.join(TASKS), type=lambda text: text.split(','))
    parser.add_argument('--threads', default=os.cpu_count(), type=int)
    args = parser.parse_args()
    os.makedirs(args.results, exist_ok=True)
    if 'layers' in args.what:
        measure(args, 'layers', ['layers'])
    for model in MODELS if 'gradients' in args.what else []:
        measure(args, gradients_name(model), ['gradients'] + [str(word) for word in model[:3]] + [str(INPUTS)] + ([model[3]] if model[3] else []))
    for task in args.tasks if 'training' in args.what else []:
        if task == 'flowers' and not args.flowers:
            note('flowers: left out without --flowers')
            continue
        for seed in args.seeds:  # all algorithms of a seed before the next, so that what there is can be compared
            for algorithm in args.algorithms:
                train(args, task, algorithm, seed)
    if 'report' in args.what:
        report(args)


main()
