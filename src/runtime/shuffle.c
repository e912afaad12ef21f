/* Channel shuffle: channel j * (C / groups) + i becomes i * groups + j. Some pixels of all blocks are laid side by side in scratch, pixel by
 * pixel; every block of the result takes its channels from there. */
#include "runtime/program.h"
#include "runtime/tasks.h"

enum { SLACK = 2 * BF_BLOCK }; /* floats after a pixel that the permute kernel may read */

typedef struct memory {
    float *pixels, *loaded, *tile, *temps;
} memory;

static ptrdiff_t pixel_floats(const bnff_plan *plan, const bf_task *task) { return plan->graph.values[task->x].c + SLACK; }

static memory take(bf_scratch *s, const bnff_plan *plan, const bf_task *task)
{
    const size_t load = bf_program_scratch(&task->load[0]), epilogue = bf_program_scratch(&task->epilogue), piece = BF_PIECE_PIXELS * BF_BLOCK * sizeof(float);
    memory m = {.pixels = bf_take(s, BF_PIECE_PIXELS * (size_t)pixel_floats(plan, task) * sizeof(float))};
    m.loaded = bf_take(s, piece);
    m.tile = bf_take(s, piece);
    m.temps = bf_take(s, load > epilogue ? load : epilogue);
    return m;
}

void bf_shuffle_divide(const bnff_plan *plan, bf_task *task)
{
    bf_scratch s = {0};
    (void)take(&s, plan, task);
    task->scratch = s.used;
    task->grid.pixel_cells = plan->cells;
    task->grid.channel_cells = task->grid.units = 1;
    task->grid.tiles = (int)((bf_pixels(&plan->graph.values[task->x]) - 1) / BF_PIECE_PIXELS) + 1;
}

/* n pixels from `pixel` on, all channels side by side. The lanes past a block's channels are overwritten by the next block, or are slack. */
static void lay_out(const bf_cell *cell, const memory *m, size_t pixel, int n)
{
    const bf_task *task = cell->task;
    const bf_layout *x = &cell->plan->layouts[task->x];
    for (int b = 0; b < x->count; b++) {
        const ptrdiff_t ld = x->blocks[b].ld;
        const float *from = bf_block_at(cell->run, task->x, b) + (ptrdiff_t)pixel * ld;
        if (task->load[0].count) {
            const bf_stretch s = {.block = b, .pixel = pixel, .count = (size_t)n, .result = m->loaded, .result_ld = ld};
            bf_program_run(cell, &task->load[0], &s, m->temps);
            from = m->loaded;
        }
        cell->k->copy(m->pixels + x->blocks[b].first, pixel_floats(cell->plan, task), from, ld, n, (int)ld);
    }
}

static void shuffle_pixels(const bf_cell *cell, const memory *m, size_t pixel, int n)
{
    const bf_task *task = cell->task;
    const bf_layout *y = &cell->plan->layouts[task->out];
    const int groups = cell->plan->graph.nodes[task->node].a.shuffle.groups, each = cell->plan->graph.values[task->x].c / groups;
    lay_out(cell, m, pixel, n);
    for (int b = 0; b < y->count; b++) {
        const int ld = y->blocks[b].ld;
        float *to = task->epilogue.count ? m->tile : bf_block_at(cell->run, task->out, b) + (ptrdiff_t)pixel * ld;
        int index[BF_BLOCK];
        for (int lane = 0; lane < ld; lane++) index[lane] = (y->blocks[b].first + lane) % groups * each + (y->blocks[b].first + lane) / groups; /* past the last: slack */
        cell->k->permute(to, ld, m->pixels, pixel_floats(cell->plan, task), n, ld, index);
        if (!task->epilogue.count) continue;
        const bf_stretch s = {.block = b, .pixel = pixel, .count = (size_t)n, .tile = m->tile, .tile_ld = ld};
        bf_program_run(cell, &task->epilogue, &s, m->temps);
    }
}

static void shuffle_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const size_t pixels = bf_pixels(&cell->plan->graph.values[task->x]);
    bf_scratch s = {.at = cell->scratch};
    const memory m = take(&s, cell->plan, task);
    bf_program_clear_sums(cell, &task->epilogue);
    for (int tile = bf_share(task->grid.tiles, cell->plan->cells, cell->index); tile < bf_share(task->grid.tiles, cell->plan->cells, cell->index + 1); tile++) {
        const size_t pixel = (size_t)tile * BF_PIECE_PIXELS;
        shuffle_pixels(cell, &m, pixel, pixels - pixel < BF_PIECE_PIXELS ? (int)(pixels - pixel) : BF_PIECE_PIXELS);
    }
}

void bf_shuffle(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, shuffle_cell); }
