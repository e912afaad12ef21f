#include "runtime/program.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

static const float zeros[BF_BLOCK] __attribute__((aligned(64)));
static const float ones[BF_BLOCK] __attribute__((aligned(64))) = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* A piece: n <= BF_PIECE_PIXELS pixels from `pixel` of block `block`. */
typedef struct piece {
    const bf_cell *cell;
    int over, block, n, lanes;
    size_t pixel;
    float *tile, *result, *temps;
    ptrdiff_t tile_ld, result_ld;
} piece;

typedef struct matrix {
    float *at;
    ptrdiff_t ld;
} matrix;

static matrix operand(const piece *p, const bf_operand *o)
{
    switch (o->kind) {
    case BF_VALUE: {
        const int b = p->block + o->shift;
        const ptrdiff_t ld = p->cell->plan->layouts[o->index].blocks[b].ld;
        return (matrix){bf_block_at(p->cell->run, o->index, b) + p->pixel * (size_t)ld, ld};
    }
    case BF_TEMP:   return (matrix){p->temps + (size_t)o->index * BF_PIECE_PIXELS * BF_BLOCK, p->lanes};
    case BF_TILE:   return (matrix){p->tile, p->tile_ld};
    case BF_RESULT: return (matrix){p->result, p->result_ld};
    default:        return (matrix){NULL, 0};
    }
}

static const float *coef(const piece *p, int value, int row)
{
    return bf_row_at(p->cell->run, value, row, p->block);
}

/* Statistics of a piece into the cell's sums. The pivot is the mean of the cell's first piece, so that float sums of
 * deviations keep their digits when |mean| >> std (math.md 3); sums of pieces are added in double. */
static void add_stats(const piece *p, const bf_step *step)
{
    const matrix x = operand(p, &step->a);
    const bf_layout *layout = &p->cell->plan->layouts[step->sums];
    double *row = bf_sums_at(p->cell->run, step->sums, BF_STATS_ROWS, p->cell->index) + layout->blocks[p->block].lane;
    double *count = row + BF_STATS_COUNT * layout->lanes, *pivot = row + BF_STATS_PIVOT * layout->lanes;
    double *total1 = row + BF_STATS_S1 * layout->lanes, *total2 = row + BF_STATS_S2 * layout->lanes;
    if (count[0] == 0 && !step->pivot_given) {
        double s1[BF_BLOCK] = {0}, s2[BF_BLOCK] = {0};
        for (int i = 0; i < p->lanes; i++) pivot[i] = (double)x.at[i];
        p->cell->k->sum_stats(x.at, x.ld, p->n, p->lanes, pivot, s1, s2);
        for (int i = 0; i < p->lanes; i++) {
            const float mean = x.at[i] + (float)s1[i] / (float)p->n;
            pivot[i] = isfinite(mean) ? (double)mean : 0;
        }
    }
    p->cell->k->sum_stats(x.at, x.ld, p->n, p->lanes, pivot, total1, total2);
    for (int i = 0; i < p->lanes; i++) count[i] += p->n;
}

/* Sums of dy and of dy * (x - p) of a piece's block, in the cell's sums; the second a row behind the first. */
static double *bn_sums(const piece *p, const bf_step *step)
{
    return bf_sums_at(p->cell->run, step->sums, BF_SUMS_ROWS, p->cell->index) + p->cell->plan->layouts[step->sums].blocks[p->block].lane;
}

static void run_dropout(const piece *p, const bf_step *step, matrix dst, matrix a)
{
    const bf_value *over = &p->cell->plan->graph.values[p->over];
    const bf_block *block = &p->cell->plan->layouts[p->over].blocks[p->block];
    const uint64_t key = bf_random_key(bf_random_key(p->cell->run->seed, p->cell->run->step), (uint64_t)step->dropout);
    const uint64_t first = p->pixel * (uint64_t)over->c + (uint64_t)block->first;
    const double threshold = (double)step->p * 4294967296.0;
    p->cell->k->dropout(dst.at, dst.ld, a.at, a.ld, p->n, p->lanes, key, first, over->c, threshold >= 4294967295.0 ? UINT32_MAX : (uint32_t)threshold, 1 / (1 - step->p));
}

/* Per-channel gate of the image this piece lies in. */
static const float *gate_of(const piece *p, const bf_step *step)
{
    const bf_value *over = &p->cell->plan->graph.values[p->over];
    const size_t image = p->pixel / ((size_t)over->h * (size_t)over->w);
    const int ld = p->cell->plan->layouts[step->gate].blocks[p->block].ld;
    return bf_block_at(p->cell->run, step->gate, p->block) + image * (size_t)ld;
}

/* The kernel, or its twin that stores past the caches. */
#define STREAMED(name) (step->stream ? k->name##_stream : k->name)
#define COEF(row) coef(p, step->coefs, BF_COEF_##row)
#define NEXT_SUMS p->cell->plan->layouts[step->sums].lanes
#define GRAD_COEF(row) coef(p, step->grad_coefs, BF_GRAD_##row)

static void run_step(const piece *p, const bf_step *step)
{
    const bf_kernels *k = p->cell->k;
    const bf_act no_act = {BNFF_IDENTITY, 0};
    const int n = p->n, c = p->lanes;
    const matrix d = operand(p, &step->dst), a = operand(p, &step->a), b = operand(p, &step->b);
    double *sums;
    switch (step->kind) {
    case BF_STEP_COPY: STREAMED(copy)(d.at, d.ld, a.at, a.ld, n, c); break;
    case BF_STEP_ACT: STREAMED(act)(d.at, d.ld, a.at, a.ld, n, c, step->act); break;
    case BF_STEP_ADD_ACT: STREAMED(add_act)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, step->act); break;
    case BF_STEP_AFFINE_ACT: STREAMED(affine_act)(d.at, d.ld, a.at, a.ld, n, c, COEF(S), COEF(P), COEF(T), step->act); break;
    case BF_STEP_AFFINE_ADD_ACT: STREAMED(affine_add_act)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, COEF(S), COEF(P), COEF(T), step->act); break;
    case BF_STEP_ACT_GRAD: STREAMED(act_grad)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, step->act); break;
    case BF_STEP_AFFINE_ACT_GRAD:
        if (step->sums < 0) STREAMED(affine_act_grad)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, COEF(S), COEF(P), COEF(T), step->act);
        else {
            sums = bn_sums(p, step);
            k->affine_act_grad_sums(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, COEF(S), COEF(P), COEF(T), step->act, sums, sums + NEXT_SUMS);
        }
        break;
    case BF_STEP_AFFINE_ACT_BN_DX:
        STREAMED(affine_act_bn_dx)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, COEF(S), COEF(P), COEF(T), step->act, GRAD_COEF(C1), GRAD_COEF(C0));
        break;
    case BF_STEP_BN_DX: STREAMED(bn_dx)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, COEF(S), COEF(P), GRAD_COEF(C1), GRAD_COEF(C0)); break;
    case BF_STEP_DEFERRED: STREAMED(bn_dx)(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c, ones, COEF(P), GRAD_COEF(C1), GRAD_COEF(C0)); break;
    case BF_STEP_SCALE: STREAMED(affine_act)(d.at, d.ld, a.at, a.ld, n, c, COEF(S), zeros, zeros, no_act); break;
    case BF_STEP_MUL: k->mul(d.at, d.ld, a.at, a.ld, b.at, b.ld, n, c); break;
    case BF_STEP_GATE: STREAMED(affine_act)(d.at, d.ld, a.at, a.ld, n, c, gate_of(p, step), zeros, zeros, no_act); break;
    case BF_STEP_DROPOUT: run_dropout(p, step, d, a); break;
    case BF_STEP_SCALE_TO:
        if (step->add_block[p->block]) k->affine_add_act(d.at, d.ld, a.at, a.ld, d.at, d.ld, n, c, COEF(S), zeros, zeros, no_act);
        else STREAMED(affine_act)(d.at, d.ld, a.at, a.ld, n, c, COEF(S), zeros, zeros, no_act);
        break;
    case BF_STEP_STORE:
        if (step->add_block[p->block]) k->add_act(d.at, d.ld, d.at, d.ld, a.at, a.ld, n, c, no_act);
        else STREAMED(copy)(d.at, d.ld, a.at, a.ld, n, c);
        break;
    case BF_STEP_COMPLETE: /* the tile is the last contribution: add what was stored before */
        if (step->add_block[p->block]) k->add_act(d.at, d.ld, d.at, d.ld, a.at, a.ld, n, c, no_act);
        break;
    case BF_STEP_ZERO:
        if (!step->add_block[p->block]) k->fill(d.at, d.ld, 0, n, c);
        break;
    case BF_STEP_STATS: add_stats(p, step); break;
    case BF_STEP_BN_SUMS:
        sums = bn_sums(p, step);
        k->sum_bn_grad(a.at, a.ld, b.at, b.ld, n, c, COEF(P), sums, sums + NEXT_SUMS);
        break;
    }
}

void bf_program_run(const bf_cell *cell, const bf_program *program, const bf_stretch *s, float *temps)
{
    const bf_value *over = &cell->plan->graph.values[program->over];
    const size_t image = (size_t)over->h * (size_t)over->w;
    piece p = {.cell = cell, .over = program->over, .block = s->block, .temps = temps, .tile_ld = s->tile_ld, .result_ld = s->result_ld};
    p.lanes = cell->plan->layouts[program->over].blocks[s->block].ld;
    for (size_t done = 0; done < s->count; done += (size_t)p.n) {
        size_t n = s->count - done;
        p.pixel = s->pixel + done;
        if (n > BF_PIECE_PIXELS) n = BF_PIECE_PIXELS;
        if (program->by_image && n > image - p.pixel % image) n = image - p.pixel % image;
        p.n = (int)n;
        p.tile = s->tile ? s->tile + (ptrdiff_t)done * s->tile_ld : NULL;
        p.result = s->result ? s->result + (ptrdiff_t)done * s->result_ld : NULL;
        for (int i = s->skipped; i < program->count; i++)
            if (s->owner || !program->steps[i].owner) run_step(&p, &program->steps[i]);
    }
}

void bf_program_clear_sums(const bf_cell *cell, const bf_program *program)
{
    for (int i = 0; i < program->count; i++) {
        const bf_step *step = &program->steps[i];
        const int rows = step->kind == BF_STEP_STATS ? BF_STATS_ROWS : BF_SUMS_ROWS;
        if (step->sums < 0) continue;
        const size_t lanes = (size_t)cell->plan->layouts[step->sums].lanes;
        double *at = bf_sums_at(cell->run, step->sums, rows, cell->index);
        for (int row = 0; row < rows; row++)
            if (!(step->pivot_given && row == BF_STATS_PIVOT)) memset(at + (size_t)row * lanes, 0, lanes * sizeof *at);
    }
}

bool bf_begin_portion(const bf_cell *cell, bf_portion *portion)
{
    const bf_grid *g = &cell->task->grid;
    bf_program_clear_sums(cell, &cell->task->epilogue);
    if (cell->index >= g->pixel_cells * g->channel_cells) return false;
    const int p = cell->index / g->channel_cells, o = cell->index % g->channel_cells;
    *portion = (bf_portion){.pixel_cell = p, .channel_cell = o,
                            .tile = bf_share(g->tiles, g->pixel_cells, p), .tile_end = bf_share(g->tiles, g->pixel_cells, p + 1),
                            .unit = bf_share(g->units, g->channel_cells, o), .unit_end = bf_share(g->units, g->channel_cells, o + 1)};
    return true;
}
