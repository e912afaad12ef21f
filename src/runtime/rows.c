#include "runtime/rows.h"

#include "runtime/conv.h"
#include "runtime/program.h"

bf_rows bf_rows_of(const bf_cell *cell, const bf_program *program, int value, int block, int image, float *ring, int capacity, float *temps)
{
    const bf_value *v = &cell->plan->graph.values[value];
    const ptrdiff_t ld = cell->plan->layouts[value].blocks[block].ld;
    bf_rows r = {.cell = cell, .program = program, .block = block, .capacity = capacity, .first = (size_t)image * (size_t)v->h * (size_t)v->w,
                 .width = (size_t)v->w, .ld = ld, .at = ring, .temps = temps};
    if (program->count) return r;
    r.at = bf_block_at(cell->run, value, block) + (ptrdiff_t)r.first * ld;
    r.capacity = r.ready = v->h;
    return r;
}

void bf_rows_until(bf_rows *r, int last)
{
    while (r->ready < last) {
        const int slot = r->ready % r->capacity, room = r->capacity - slot, count = last - r->ready < room ? last - r->ready : room;
        const bf_stretch s = {.block = r->block, .pixel = r->first + (size_t)r->ready * r->width, .count = (size_t)count * r->width,
                              .result = bf_row(r, r->ready), .result_ld = r->ld};
        bf_program_run(r->cell, r->program, &s, r->temps);
        r->ready += count;
    }
}

void bf_ahead_rows(const bf_cell *cell, bf_ahead *ahead, int which, int block, size_t first, size_t last)
{
    const bf_task *task = cell->task;
    const int value = which ? task->dy : task->x;
    const size_t all = bf_pixels(&cell->plan->graph.values[value]);
    if (first < ahead->fetched[which]) first = ahead->fetched[which];
    if (last > all) last = all;
    if (first >= last) return;
    bf_prefetch_load(cell, &ahead->prefetch, &task->load[which], value, block, block + 1, first, last);
    ahead->fetched[which] = last;
}

void bf_ahead_pace(bf_ahead *ahead, size_t steps)
{
    enum { MOST = 64 }; /* lines with a step: a window of a whole image would ask for all of the next at once */
    bf_prefetch *p = &ahead->prefetch;
    size_t lines = 0;
    for (int i = 0; i < p->count; i++) lines += (size_t)(p->range[i].end - p->range[i].at) / 64 + 1;
    p->current = 0;
    if (lines > MOST * steps) p->count = 0;
    p->lines_per_step = (int)(lines / steps) + 1;
}

void bf_divide_images(const bnff_plan *plan, bf_grid *g, int images, int height, int units)
{
    *g = (bf_grid){.image_count = images, .tiles = images, .height = height, .rows = height, .tiles_per_image = 1, .images = 1, .units = units};
    double best = 1e30;
    for (int channel = 1; channel <= plan->cells && channel <= units; channel++) {
        const int pixel = plan->cells / channel;
        const double share = (double)((images - 1) / pixel + 1) / images * ((units - 1) / channel + 1) / units;
        if (share > best * 0.999) continue;
        best = share;
        g->pixel_cells = pixel;
        g->channel_cells = channel;
    }
}
