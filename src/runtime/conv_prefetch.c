/* Fetching what the next visit loads while the products of this one are computed: a burst of loads between GEMMs fills the
 * miss buffers and stalls, a line every few k-steps inside them does not. */
#include "runtime/conv.h"

/* One stored operand: a range for each block, as far as there is room. */
static void add_value(const bf_cell *cell, bf_prefetch *p, int value, int first_block, int last_block, size_t first, size_t last)
{
    const bf_layout *layout = &cell->plan->layouts[value];
    const int room = (int)(sizeof p->range / sizeof *p->range);
    for (int b = first_block; b < last_block && b < layout->count && p->count < room; b++) {
        const size_t pixel = (size_t)layout->blocks[b].ld * sizeof(float);
        const char *at = (const char *)bf_block_at(cell->run, value, b) + first * pixel;
        bool there = false;
        for (int i = 0; i < p->count; i++) there |= p->range[i].at == at;
        if (there) continue;
        p->range[p->count].at = at;
        p->range[p->count++].end = at + (last - first) * pixel;
    }
}

static void add_operand(const bf_cell *cell, bf_prefetch *p, const bf_operand *o, int first_block, int last_block, size_t first, size_t last)
{
    if (o->kind == BF_VALUE) add_value(cell, p, o->index, first_block + o->shift, last_block + o->shift, first, last);
}

void bf_prefetch_load(const bf_cell *cell, bf_prefetch *p, const bf_program *load, int value, int first_block, int last_block, size_t first, size_t last)
{
    if (last <= first) return;
    if (!load->count) add_value(cell, p, value, first_block, last_block, first, last);
    for (int i = 0; i < load->count; i++) {
        add_operand(cell, p, &load->steps[i].a, first_block, last_block, first, last);
        add_operand(cell, p, &load->steps[i].b, first_block, last_block, first, last);
    }
}

void bf_prefetch_epilogue(const bf_cell *cell, bf_prefetch *p, const bf_program *epilogue, int block, size_t first, size_t last)
{
    for (int i = 0; i < epilogue->count && first < last; i++) {
        const bf_step *step = &epilogue->steps[i];
        add_operand(cell, p, &step->a, block, block + 1, first, last);
        add_operand(cell, p, &step->b, block, block + 1, first, last);
        if (step->add_block && step->add_block[block] && step->kind != BF_STEP_ZERO) add_operand(cell, p, &step->dst, block, block + 1, first, last);
    }
}

/* As many as spread the lines over all steps, and one with every k at most. A residual join before few channels wants about that: memory
 * is what takes the time there. */
static int lines_per_step(double lines, double steps)
{
    enum { MOST = 16 };
    return lines < (MOST - 1) * steps ? (int)(lines / steps) + 1 : MOST;
}

void bf_prefetch_pace(const bf_cell *cell, bf_prefetch *p, double products)
{
    size_t lines = 0;
    for (int i = 0; i < p->count; i++) lines += (size_t)(p->range[i].end - p->range[i].at) / 64 + 1;
    const double steps = products / (16.0 * cell->k->gemm_tile);
    p->current = 0;
    p->lines_per_step = lines_per_step((double)lines, steps);
}

void bf_store_add(const bf_cell *cell, bf_prefetch *p, const float *from, float *to, size_t floats)
{
    if (p->stores == (int)(sizeof p->store / sizeof *p->store)) bf_store_rest(cell, p);
    p->store[p->stores].from = from;
    p->store[p->stores].to = to;
    p->store[p->stores++].end = to + floats;
}

void bf_store_pace(const bf_cell *cell, bf_prefetch *p, double products)
{
    double lines = 0;
    for (int i = p->storing; i < p->stores; i++) lines += (double)(p->store[i].end - p->store[i].to) / BF_LANES;
    const double steps = products / (16.0 * cell->k->gemm_tile);
    p->stores_per_step = lines_per_step(lines, steps);
}

void bf_store_rest(const bf_cell *cell, bf_prefetch *p)
{
    for (int i = p->storing; i < p->stores; i++)
        cell->k->copy_stream(p->store[i].to, BF_LANES, p->store[i].from, BF_LANES, (int)((p->store[i].end - p->store[i].to) / BF_LANES), BF_LANES);
    p->stores = p->storing = 0;
    cell->k->copy_stream(NULL, 0, NULL, 0, 0, BF_LANES); /* nothing, but all that was stored is seen from here on */
}
