#include <string.h>

#include "runtime/program.h"
#include "runtime/tasks.h"

/* Sweeps divide the pixels of their value evenly among cells; blocks outermost within a cell, so that a block's vectors stay in L1. */
void bf_sweep_divide(const bnff_plan *plan, bf_task *task)
{
    const size_t load = bf_program_scratch(&task->load[0]) + bf_program_scratch(&task->load[1]), epilogue = bf_program_scratch(&task->epilogue);
    task->scratch = load + epilogue + 3 * BF_PIECE_PIXELS * BF_BLOCK * sizeof(float);
    task->grid.pixel_cells = plan->cells;
    task->grid.channel_cells = 1;
}

static void sweep_cell(const bf_cell *cell)
{
    const bf_program *program = &cell->task->epilogue;
    const bf_layout *layout = &cell->plan->layouts[program->over];
    const size_t pixels = bf_pixels(&cell->plan->graph.values[program->over]), cells = (size_t)cell->plan->cells;
    const size_t first = pixels * (size_t)cell->index / cells, last = pixels * (size_t)(cell->index + 1) / cells;
    bf_program_clear_sums(cell, program);
    if (first >= last) return;
    for (int b = 0; b < layout->count; b++) {
        const bf_stretch s = {.block = b, .pixel = first, .count = last - first};
        bf_program_run(cell, program, &s, (float *)cell->scratch);
    }
}

void bf_sweep(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, sweep_cell); }

/* -- gradient of a gate: sum over the pixels of each image of dy * x -- */

/* A piece of a tensor that may be virtual. */
static const float *see(const bf_cell *cell, const bf_program *program, int value, int block, size_t pixel, size_t n, float *result, float *temps)
{
    const ptrdiff_t ld = cell->plan->layouts[value].blocks[block].ld;
    if (!program->count) return bf_block_at(cell->run, value, block) + (ptrdiff_t)pixel * ld;
    const bf_stretch s = {.block = block, .pixel = pixel, .count = n, .result = result, .result_ld = ld};
    bf_program_run(cell, program, &s, temps);
    return result;
}

static void gate_cell(const bf_cell *cell)
{
    static const float zeros[BF_BLOCK] __attribute__((aligned(64)));
    const bf_task *task = cell->task;
    const bf_value *x = &cell->plan->graph.values[task->x];
    const bf_layout *layout = &cell->plan->layouts[task->x];
    const size_t pixels = (size_t)x->h * (size_t)x->w;
    float *results = (float *)cell->scratch, *temps = results + 3 * BF_PIECE_PIXELS * BF_BLOCK;
    for (int image = bf_share(x->n, cell->plan->cells, cell->index); image < bf_share(x->n, cell->plan->cells, cell->index + 1); image++)
        for (int b = 0; b < layout->count; b++) {
            const int ld = layout->blocks[b].ld;
            double total[BF_BLOCK] = {0}, unused[BF_BLOCK] = {0};
            for (size_t done = 0; done < pixels; done += BF_PIECE_PIXELS) {
                const size_t n = pixels - done < BF_PIECE_PIXELS ? pixels - done : BF_PIECE_PIXELS, pixel = (size_t)image * pixels + done;
                const float *xs = see(cell, &task->load[0], task->x, b, pixel, n, results, temps);
                const float *dy = see(cell, &task->load[1], task->dy, b, pixel, n, results + BF_PIECE_PIXELS * BF_BLOCK, temps);
                cell->k->sum_bn_grad(dy, ld, xs, ld, (int)n, ld, zeros, unused, total);
            }
            float *result = task->epilogue.count ? results + 2 * BF_PIECE_PIXELS * BF_BLOCK : bf_block_at(cell->run, task->out, b) + (ptrdiff_t)image * ld;
            for (int i = 0; i < ld; i++) result[i] = (float)total[i];
            if (!task->epilogue.count) continue;
            const bf_stretch s = {.block = b, .pixel = (size_t)image, .count = 1, .tile = result, .tile_ld = ld};
            bf_program_run(cell, &task->epilogue, &s, temps);
        }
}

void bf_gate_reduce(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, gate_cell); }
