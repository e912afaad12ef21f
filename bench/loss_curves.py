#!/usr/bin/env python3
"""Train the same network at every level and at two numbers of cells, and compare the losses (docs/math.md 7).

    bench/loss_curves.py [--program build/bench/train_losses] [--svg docs/loss_curves.svg]

Levels compute the same function in another order of roundings, and so do cell counts of one level; both drift apart as trainings do.
The smoothed difference of a level from `layerwise`, root mean square over steps and cell counts, must be at most twice that between two
cell counts, root mean square over steps and levels. Same seed, so same weights, images, order and augmentation.
"""
import argparse, json, math, os, subprocess, sys, tempfile

LEVELS = ['layerwise', 'mvf', 'rcf', 'bnff', 'icf', 'tuned']
COLORS = ['#000000', '#7f7f7f', '#2b62a8', '#5b9a48', '#b8404a', '#d07a24']
WINDOW = 20  # steps of the moving average


def losses(args, level, cells, folder):
    """Training loss of every step."""
    path = os.path.join(args.results or folder, f'{level}-{cells}.json')
    if not os.path.exists(path):
        print(f'loss_curves: {level}, {cells} cells', file=sys.stderr, flush=True)
        command = [args.program, 'fashion-mnist', args.model, str(args.batch), str(args.steps), level, str(cells), folder]
        curve = [float(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]
        with open(path, 'w') as file:
            json.dump(curve, file)
    with open(path) as file:
        curve = json.load(file)
    if len(curve) != args.steps:
        sys.exit(f'loss_curves: {level}, {cells} cells: {len(curve)} losses of {args.steps} steps')
    return curve


def smooth(curve):
    return [sum(curve[i:i + WINDOW]) / WINDOW for i in range(len(curve) - WINDOW + 1)]


def rms(values):
    values = list(values)
    return math.sqrt(sum(v * v for v in values) / len(values))


def path_of(curve, x, y):
    return 'M' + 'L'.join(f'{x(i):.1f} {y(v):.1f}' for i, v in enumerate(curve))


def draw(curves, cells, file):
    width, height, left, top, bottom = 760, 400, 50, 40, 40
    top_loss = math.ceil(max(max(c) for c in curves.values()) * 2) / 2
    steps = len(next(iter(curves.values())))

    def x(i): return left + (width - left - 20) * i / (steps - 1)
    def y(v): return top + (height - top - bottom) * (1 - v / top_loss)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{left}" y="20" font-size="14">Training loss, moving average of {WINDOW} steps: {len(LEVELS)} levels, {cells[0]} cells (solid) and {cells[1]} (dashed)</text>']
    value = 0
    while value <= top_loss:
        out.append(f'<path d="M{left} {y(value):.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
        value += 0.5
    for step in range(0, steps + WINDOW, 50):
        if WINDOW <= step <= steps + WINDOW - 1:
            out.append(f'<text x="{x(step - WINDOW):.1f}" y="{height - bottom + 18}" text-anchor="middle">{step}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">step</text>')
    for n, level in enumerate(LEVELS):
        out.append(f'<text x="{width - 110}" y="{top + 16 * n + 10}" fill="{COLORS[n]}">{level}</text>')
        for k, count in enumerate(cells):
            dash = ' stroke-dasharray="4 3"' if k else ''
            out.append(f'<path d="{path_of(curves[level, count], x, y)}" fill="none" stroke="{COLORS[n]}" stroke-opacity=".8"{dash}/>')
    with open(file, 'w') as svg:
        svg.write('\n'.join(out + ['</svg>', '']))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', default='build/bench/train_losses')
    parser.add_argument('--model', default='densenet-bc-22-12')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--cells', default='2,3')
    parser.add_argument('--results', help='folder where losses are kept, and taken from if they are there')
    parser.add_argument('--svg', help='draw the curves into this file')
    args = parser.parse_args()
    args.program = os.path.abspath(args.program)
    cells = [int(c) for c in args.cells.split(',')]
    with tempfile.TemporaryDirectory() as folder:
        raw = {(level, count): losses(args, level, count, folder) for count in cells for level in LEVELS}
    curves = {key: smooth(curve) for key, curve in raw.items()}

    def apart(a, b): return (p - q for p, q in zip(curves[a], curves[b]))
    noise = rms(d for level in LEVELS for d in apart((level, cells[0]), (level, cells[1])))
    print(f'between {cells[0]} and {cells[1]} cells: {noise:.5f}')
    print('\n| level | difference from `layerwise` | over that between cells | loss, last 20 steps |\n| --- | ---: | ---: | ---: |')
    worst = 0
    for level in LEVELS:
        difference = rms(d for count in cells for d in apart((level, count), ('layerwise', count)))
        worst = max(worst, difference / noise)
        last = ', '.join(f'{curves[level, count][-1]:.3f}' for count in cells)
        print(f'| `{level}` | {difference:.5f} | {difference / noise:.2f} | {last} |')
    if args.svg:
        draw(curves, cells, args.svg)
    print(f'\nthe most: {worst:.2f} times, {"as" if worst <= 2 else "more than"} allowed (2)')
    return worst > 2


if __name__ == '__main__':
    sys.exit(main())
