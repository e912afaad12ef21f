#!/usr/bin/env python3
"""Plant mistakes in a copy of the sources, one at a time, and see that a test fails.

    tests/mutants.py [NAME...]     all, or the named ones; prints which test caught each

Each is a mistake of the mathematics that restructuring invites (docs/math.md): no test may pass over it. The copy is built in a temporary folder
with the compiler of `meson setup`; a mistake whose line is gone is an error, so that this list cannot rot.
"""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ['runtime/test_statistics', 'runtime/test_golden', 'runtime/test_networks', 'runtime/test_structures', 'runtime/test_operators']

# name: (file, what is there, what is put there)
MUTANTS = {
    'wrong sign in dgamma': ('src/runtime/batchnorm.c', '(dyx - dm * dy)', '(dyx + dm * dy)'),
    'dgamma negated': ('src/runtime/batchnorm.c', 'add_gradient(run, node->param[0], channel, dgamma)', 'add_gradient(run, node->param[0], channel, -dgamma)'),
    'a segment missing from the deferred gradient': ('src/passes/share.c', 'if (s->g->values[root].grad >= 0) {', 'if (s->g->values[root].grad >= 0 && (i + 1 < s->root_count || i == 0)) {'),
    'a reader missing from the deferred gradient': ('src/runtime/batchnorm.c', 'for (int k = 0; k < node->in_count; k++) sum +=', 'for (int k = 0; k < node->in_count - (node->in_count > 1); k++) sum +='),
    'a segment of the input not multiplied': ('src/runtime/conv_forward.c', 'for (int b = t->first; b < t->last; b++) {', 'for (int b = t->first; b < t->last - (t->last - t->first > 1); b++) {'),
    'statistics off by one pixel': ('src/runtime/program.c', 'p->cell->k->sum_stats(x.at, x.ld, p->n, p->lanes, pivot, total1, total2);', 'p->cell->k->sum_stats(x.at, x.ld, p->n - (p->n > 1), p->lanes, pivot, total1, total2);'),
    'gradient sums off by one pixel': ('src/runtime/program.c', 'k->sum_bn_grad(a.at, a.ld, b.at, b.ld, n, c,', 'k->sum_bn_grad(a.at, a.ld, b.at, b.ld, n - (n > 1), c,'),
    'sums taken before the last contribution': ('src/runtime/program_build.c', 'if ((s->kind != BF_STEP_COPY && s->kind != BF_STEP_STORE) || !same(&s->a, &sums->a)) return NULL;', '(void)s;'),
    'no pivot': ('src/runtime/program.c', 'pivot[i] = isfinite(mean) ? (double)mean : 0;', 'pivot[i] = 0;'),
    'cells merged as if their means were equal': ('src/runtime/batchnorm.c', 'a.m2 + b.m2 + delta * delta * a.count * b.count / n', 'a.m2 + b.m2'),
    'the last cell not merged': ('src/runtime/batchnorm.c', 'for (int cell = 0; cell < run->plan->cells; cell++) {\n        const double *row = bf_sums_at(run, stats', 'for (int cell = 0; cell < run->plan->cells - (run->plan->cells > 1); cell++) {\n        const double *row = bf_sums_at(run, stats'),
    'biased running variance': ('src/runtime/batchnorm.c', 'unbiased = m.m2 / (m.count - 1)', 'unbiased = m.m2 / m.count'),
    'a halo row short': ('src/runtime/conv_forward.c', '(tile->row1 - 1) * c->sh - c->ph + (c->kh - 1) * c->dh + 1;', '(tile->row1 - 1) * c->sh - c->ph + (c->kh - 1) * c->dh;'),
    'wrong sign of the term through the variance': ('src/runtime/batchnorm.c', 'c1 = -s * r * dgamma / pixels', 'c1 = s * r * dgamma / pixels'),
    'the scale of a shared gradient left out': ('src/passes/share.c', 'node->op = BF_OP_BN_SCALE;', 'node->op = BF_OP_COPY, node->a.slice.first = 0, node->a.slice.channels = s->g->values[node->out[0]].c;'),
}


def build(folder):
    return subprocess.run(['ninja', '-C', str(folder / 'build'), *('tests/' + t for t in TESTS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode == 0


def first_failure(folder):
    """The first test program that fails, and the first of its cases that does."""
    for test in TESTS:
        run = subprocess.run([str(folder / 'build' / 'tests' / test)], capture_output=True, text=True, errors='replace', env={**os.environ, 'CMOCKA_MESSAGE_OUTPUT': 'TAP'})
        if run.returncode:
            bad = [line for line in run.stdout.splitlines() if line.startswith('not ok')]
            return f"{test}: {bad[0][9:] if bad else 'died'}"
    return None


def main():
    wanted = sys.argv[1:] or list(MUTANTS)
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / 'bnff'
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns('build', 'build-*', '.git', 'runs'))
        subprocess.run(['meson', 'setup', 'build'], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        failure = first_failure(folder) if build(folder) else 'does not build'
        if failure:
            sys.exit(f'mutants: the sources as they are: {failure}')
        for mutant in wanted:
            path, old, new = MUTANTS[mutant]
            source = (folder / path).read_text()
            if source.count(old) != 1:
                sys.exit(f'mutants: {mutant}: {source.count(old)} places in {path} to plant it in, not 1')
            (folder / path).write_text(source.replace(old, new))
            failure = first_failure(folder) if build(folder) else 'does not build'
            print(f"{mutant}: {failure or 'NOT CAUGHT'}", flush=True)
            if not failure or failure == 'does not build':
                missed.append(mutant)
            (folder / path).write_text(source)
    print(f'{len(wanted) - len(missed)} of {len(wanted)} caught')
    sys.exit(bool(missed))


if __name__ == '__main__':
    main()
