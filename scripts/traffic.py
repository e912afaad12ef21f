#!/usr/bin/env python3
"""Count the main-memory traffic of training steps with valgrind and set it beside the plan's model (make traffic).

Callgrind simulates cachegrind's caches: 32 KiB L1, and a last level of 4 MiB, 16 ways, lines of 64 bytes. The plan is made for those
sizes (BNFF_CACHES), one cell, and an avx2 build without fused multiply-adds, which valgrind emulates slowly. A task is what runs
between two entries of bf_task_run. Two counts, both of the step alone:

  lines   last-level read misses + write misses, x 64: every line that enters the cache. A result counts when it is first written,
          whether by an ordinary or a streaming store, which the simulator does not tell apart. What is written back counts nothing.
  bus     last-level read misses + dirty lines written back, x 64: what crosses the bus if no store reads its line first.

The plan models both: "lines" and "bytes" in the JSON of `bnff plan`.
"""
import argparse, json, os, re, subprocess, sys, tempfile
from pathlib import Path

LEVELS = ['layerwise', 'mvf', 'rcf', 'bnff', 'icf', 'tuned']
CACHES = {'--I1': '32768,8,64', '--D1': '32768,8,64', '--LL': '4194304,16,64'}
BEGIN, END = '<!-- traffic: begin -->', '<!-- traffic: end -->'


def part_counts(path):
    """Read misses, write misses and write-backs of one part of callgrind's output."""
    for line in open(path):
        if line.startswith('events:'):
            events = line.split()[1:]
        if line.startswith('summary:'):
            values = dict(zip(events, map(int, line.split()[1:])))
            return [sum(values.get(e, 0) for e in names) for names in (('DLmr',), ('DLmw',), ('ILdmr', 'DLdmr', 'DLdmw'))]
    raise ValueError(f'{path}: no summary')


def environment():
    return {**os.environ, 'BNFF_CACHES': '32K,256K,4M'}


def step(program, model, batch, size, level):
    return [str(program), model, str(batch), str(size), level]


def count(program, model, batch, size, level):
    """[read misses, write misses, write-backs] of every task."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(['valgrind', '-q', '--tool=callgrind', '--instr-atstart=no', '--cache-sim=yes', '--simulate-wb=yes', '--dump-before=bf_task_run',
                        *map('='.join, CACHES.items()), f'--callgrind-out-file={folder}/out', *step(program, model, batch, size, level)],
                       check=True, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        parts = sorted((p for p in Path(folder).glob('out.*')), key=lambda p: int(p.suffix[1:]))
        return [part_counts(p) for p in parts[1:]]  # the first part ends where the first task begins


def counted(program, args, model, level):
    """The counts, from the folder of results if they were taken before."""
    path = args.results / f'{model}-{args.batch}-{args.size}-{level}.json'
    if not path.exists() or args.again:
        print(f'traffic: counting {model} {level}', file=sys.stderr, flush=True)
        args.results.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(count(program, model, args.batch, args.size, level)))
    return json.loads(path.read_text())


def plan_of(program, args, model, level):
    return json.loads(subprocess.run(step(program, model, args.batch, args.size, level), check=True, env=environment(), capture_output=True).stdout)


def compare(plan, counts):
    """Per task: name, kind, modelled lines, counted lines, modelled bytes, counted bytes."""
    if len(plan['tasks']) != len(counts):
        sys.exit(f"traffic: {len(plan['tasks'])} tasks planned, {len(counts)} counted")
    return [(t['name'], t['kind'], t['line_bytes'], 64 * (reads + writes), t['bytes'], 64 * (reads + back))
            for t, (reads, writes, back) in zip(plan['tasks'], counts)]


def off(model, count):
    return f'{100 * (model / count - 1):+.1f} %' if count else '-'


def print_tasks(model, level, rows, most):
    """The tasks whose modelled lines differ most from the counted ones."""
    print(f'{model} {level}: modelled and counted lines, MB')
    for name, kind, lines, counted_lines, _, _ in sorted(rows, key=lambda r: -abs(r[2] - r[3]))[:most]:
        print(f'  {name:58} {kind:14} {lines / 1e6:9.1f} {counted_lines / 1e6:9.1f} {(lines - counted_lines) / 1e6:+9.1f}')
    kinds = {}
    for _, kind, lines, counted_lines, size, back in rows:
        sums = kinds.setdefault(kind, [0, 0, 0, 0])
        for i, x in enumerate((lines, counted_lines, size, back)):
            sums[i] += x
    for kind, sums in kinds.items():
        print(f'  all {kind:54} {"":14} {sums[0] / 1e6:9.1f} {sums[1] / 1e6:9.1f} {(sums[0] - sums[1]) / 1e6:+9.1f}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', type=Path, default='build-traffic', help='build folder, made with -Dfma=false')
    parser.add_argument('--models', default='densenet121,resnet50')
    parser.add_argument('--levels', default=','.join(LEVELS))
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--size', type=int, default=112)
    parser.add_argument('--again', action='store_true', help='count again what was counted before')
    parser.add_argument('--tasks', type=int, default=0, metavar='N', help='also print the N tasks that the model misses most')
    parser.add_argument('--results', type=Path, help='folder of counts (BUILD/traffic)')
    parser.add_argument('--write', type=Path, metavar='FILE', help='put the table between the marks in FILE')
    args = parser.parse_args()
    args.results = args.results or args.build / 'traffic'
    program = (args.build / 'bench' / 'count_traffic').resolve()
    table = ['| model | level | lines: model, GB | count | off | bus: model, GB | count | off |', '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |']
    for model in args.models.split(','):
        for level in args.levels.split(','):
            rows = compare(plan_of(program, args, model, level), counted(program, args, model, level))
            if args.tasks:
                print_tasks(model, level, rows, args.tasks)
            lines, counted_lines, size, bus = (sum(r[i] for r in rows) for i in (2, 3, 4, 5))
            table.append(f'| {model} | `{level}` | {lines / 1e9:.2f} | {counted_lines / 1e9:.2f} | {off(lines, counted_lines)} '
                         f'| {size / 1e9:.2f} | {bus / 1e9:.2f} | {off(size, bus)} |')
    print('\n'.join(table))
    if args.write:
        text = args.write.read_text()
        before, after = text[:text.index(BEGIN) + len(BEGIN)], text[text.index(END):]
        args.write.write_text('\n'.join([before, *table, after]))


if __name__ == '__main__':
    main()
