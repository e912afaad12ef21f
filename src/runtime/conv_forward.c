#include <string.h>

#include "runtime/conv.h"
#include "runtime/program.h"

typedef struct memory {
    bf_sight x;
    float *x_scratch, *gathered, *tile[2], *temps; /* two tiles: one is computed while the other is stored */
    bool late;              /* the result is stored meanwhile: the first step of the epilogue */
    bool late_x;            /* and what the prologue stores for others: its last step */
    size_t ready_first, ready_last; /* rows of x of all images that lie padded in scratch, row r in slot r % x_slots */
    size_t x_slots;
    bf_transformed in, out; /* of Winograd's algorithms: all of x, one block of y */
    bf_gemm_pair *pairs;
    struct tap_at *taps;
    bool owner;           /* of x, where the prologue stores it: the first of the cells that share its pixels */
    bf_prefetch prefetch; /* of the next tile's x, a share with each block of output channels; and the block before, to be stored */
} memory;

/* A filter tap, and the pixel of x that the first output of a run sees through it. */
typedef struct tap_at {
    int tap;
    size_t pixel;
} tap_at;

/* Most rows and pixels of x, and pixels of y, that a tile touches. */
static size_t tile_x_rows(const bf_conv *c, const bf_grid *g)
{
    int rows = (g->rows - 1) * c->sh + (c->kh - 1) * c->dh + 1;
    if (rows > c->h || g->images > 1) rows = c->h; /* several images are loaded whole, as they lie */
    return (size_t)rows * (size_t)(g->images > 1 ? g->images : 1);
}

static size_t tile_x_pixels(const bf_conv *c, const bf_grid *g)
{
    if (c->line) return (size_t)g->rows * (size_t)c->xstep;
    return tile_x_rows(c, g) * (c->padded_row ? c->padded_row : c->x_row);
}

static size_t tile_y_pixels(const bf_conv *c, const bf_grid *g)
{
    return c->line ? (size_t)g->rows : (size_t)g->rows * (size_t)c->ow * (size_t)(g->images > 1 ? g->images : 1);
}

/* Does an epilogue store the tile past the caches, and only sum besides? */
static bool stores_late(const bf_program *epilogue)
{
    const bf_step *first = epilogue->steps;
    if (!epilogue->count || first->kind != BF_STEP_COPY || !first->stream || first->a.kind != BF_TILE || first->dst.kind != BF_VALUE) return false;
    for (int i = 1; i < epilogue->count; i++)
        if (epilogue->steps[i].kind != BF_STEP_STATS) return false;
    return true;
}

static bool stores_x_late(const bf_program *load)
{
    if (!load->count) return false;
    const bf_step *last = &load->steps[load->count - 1];
    return last->owner && last->kind == BF_STEP_COPY && last->stream && last->a.kind == BF_RESULT && last->dst.kind == BF_VALUE;
}

static memory take(bf_scratch *s, const bnff_plan *plan, const bf_task *task)
{
    const bf_layout *x = &plan->layouts[task->x];
    const size_t load = bf_program_scratch(&task->load[0]), epilogue = bf_program_scratch(&task->epilogue);
    memory m = {.x = {.blocks = x->blocks, .count = x->count}};
    m.x.base = bf_take(s, (size_t)x->count * sizeof *m.x.base);
    m.taps = bf_take(s, (size_t)task->conv.taps * sizeof *m.taps);
    m.pairs = bf_take(s, (size_t)task->conv.taps * (size_t)x->count * sizeof *m.pairs);
    m.temps = bf_take(s, load > epilogue ? load : epilogue);
    const bool direct = task->conv.algorithm == BF_DIRECT;
    m.x_slots = tile_x_rows(&task->conv, &task->grid);
    if (task->load[0].count || task->conv.padded_row) m.x_scratch = bf_take(s, tile_x_pixels(&task->conv, &task->grid) * (size_t)(direct ? x->lanes : BF_BLOCK) * sizeof(float));
    if (!direct) {
        m.in = bf_take_transformed(s, task, x->count);
        m.out = bf_take_transformed(s, task, 1);
    }
    if (task->conv.gather) m.gathered = bf_take(s, tile_y_pixels(&task->conv, &task->grid) * (size_t)x->lanes * sizeof(float));
    m.late = stores_late(&task->epilogue);
    for (int i = 0; i < (task->epilogue.count ? 1 + m.late : 0); i++) m.tile[i] = bf_take(s, tile_y_pixels(&task->conv, &task->grid) * BF_BLOCK * sizeof(float));
    return m;
}

size_t bf_conv_backward_scratch(const bnff_plan *plan, const bf_task *task);
size_t bf_conv_scratch(const bnff_plan *plan, const bf_task *task);

size_t bf_conv_scratch(const bnff_plan *plan, const bf_task *task)
{
    if (task->kind == BF_TASK_CONV_BWD) return bf_conv_backward_scratch(plan, task);
    bf_scratch s = {0};
    (void)take(&s, plan, task);
    return s.used;
}

/* Pixels of x that a tile reads. */
static void x_range(const bf_conv *c, const bf_tile *tile, size_t *first, size_t *last)
{
    if (c->line) {
        *first = (size_t)tile->row0 * (size_t)c->xstep;
        *last = (size_t)tile->row1 * (size_t)c->xstep;
        return;
    }
    int row0 = tile->row0 * c->sh - c->ph, row1 = (tile->row1 - 1) * c->sh - c->ph + (c->kh - 1) * c->dh + 1;
    if (row0 < 0 || tile->image1 - tile->image0 > 1) row0 = 0;
    if (row1 > c->h || tile->image1 - tile->image0 > 1) row1 = c->h;
    if (row1 <= row0) row0 = 0, row1 = 0;
    *first = ((size_t)tile->image0 * (size_t)c->h + (size_t)row0) * c->x_row;
    *last = ((size_t)(tile->image1 - 1) * (size_t)c->h + (size_t)row1) * c->x_row;
}

/* Block b of x, so that pixel q is at q*ld: in storage, or its pixels [first, last) computed into scratch by the prologue. */
static float *load_block(const bf_cell *cell, const memory *m, int b, size_t first, size_t last, float *scratch)
{
    const bf_task *task = cell->task;
    const ptrdiff_t ld = m->x.blocks[b].ld;
    if (!task->load[0].count) return bf_block_at(cell->run, task->x, b);
    if (last > first) {
        const bf_stretch s = {.block = b, .pixel = first, .count = last - first, .owner = m->owner, .result = scratch, .result_ld = ld};
        bf_program_run(cell, &task->load[0], &s, m->temps);
    }
    return scratch - (ptrdiff_t)first * ld;
}

/* Row `row` of all images, of block b, between zeros. */
static void load_padded_row(const bf_cell *cell, const memory *m, int b, size_t row, float *at)
{
    const bf_conv *c = &cell->task->conv;
    const int ld = m->x.blocks[b].ld, right = (int)c->padded_row - c->pw - c->w;
    float *const x = at + (ptrdiff_t)c->pw * ld;
    if (c->pw) cell->k->fill(at, ld, 0, c->pw, ld);
    if (right) cell->k->fill(x + (ptrdiff_t)c->w * ld, ld, 0, right, ld);
    if (cell->task->load[0].count) load_block(cell, m, b, row * c->x_row, (row + 1) * c->x_row, x);
    else cell->k->copy(x, ld, bf_block_at(cell->run, cell->task->x, b) + row * c->x_row * (size_t)ld, ld, c->w, ld);
}

/* Make the rows that the tile reads visible; those of the tile before are still there. */
static void load_padded(const bf_cell *cell, memory *m, const bf_tile *tile)
{
    const bf_conv *c = &cell->task->conv;
    size_t first, last;
    x_range(c, tile, &first, &last);
    first /= c->x_row, last /= c->x_row;
    const size_t from = first >= m->ready_first && first <= m->ready_last ? m->ready_last : first;
    float *at = m->x_scratch;
    for (int b = 0; b < m->x.count; b++) {
        const size_t row = c->padded_row * (size_t)m->x.blocks[b].ld;
        for (size_t r = from; r < last; r++) load_padded_row(cell, m, b, r, at + r % m->x_slots * row);
        m->x.base[b] = at;
        at += m->x_slots * row;
    }
    m->ready_first = first, m->ready_last = last;
}

/* The first pixel of a row of x that the tile reads, as seen from its base. */
static size_t row_of_x(const bf_conv *c, const memory *m, int image, int ih)
{
    const size_t row = (size_t)image * (size_t)c->h + (size_t)ih;
    return c->padded_row ? row % m->x_slots * c->padded_row : row * c->x_row;
}

/* Make all pixels of x that the tile reads visible. */
static void load_x(const bf_cell *cell, memory *m, const bf_tile *tile)
{
    size_t first, last;
    x_range(&cell->task->conv, tile, &first, &last);
    float *at = m->x_scratch;
    for (int b = 0; b < m->x.count; b++) {
        m->x.base[b] = load_block(cell, m, b, first, last, at);
        if (at) at += (ptrdiff_t)(last - first) * m->x.blocks[b].ld;
    }
}

/* The same for Winograd's algorithms: block by block into positions. */
static void transform_x(const bf_cell *cell, memory *m, const bf_tile *tile)
{
    const bf_conv *c = &cell->task->conv;
    size_t first, last;
    x_range(c, tile, &first, &last);
    const size_t image = (size_t)(tile->image1 - 1) * (size_t)c->h; /* rows before the last image of the tile */
    bf_plane plane = {.height = c->h, .width = c->w, .ph = c->ph, .pw = c->pw};
    if (last > first) plane.first = tile->image1 - tile->image0 > 1 ? 0 : (int)(first / c->x_row - image), plane.last = (int)(last / c->x_row - image);
    for (int b = 0; b < m->x.count; b++) {
        plane.pixels = load_block(cell, m, b, first, last, m->x_scratch);
        plane.ld = m->x.blocks[b].ld;
        bf_winograd_over(cell->task, tile, cell->k->winograd_input, &plane, &m->in, b, NULL);
    }
}

/* The pixels of x that a tile reads side by side, numbered as those of y. */
static void gather_x(const bf_cell *cell, memory *m, const bf_tile *tile)
{
    const bf_conv *c = &cell->task->conv;
    const bf_gathering g = bf_gathered(c, tile->image0, tile->image1, tile->row0 * c->sh, (tile->row1 - 1) * c->sh + 1);
    float *at = m->gathered;
    for (int b = 0; b < m->x.count; b++) {
        const int ld = m->x.blocks[b].ld;
        bf_gather(cell, &g, tile->image0, tile->image1, m->x.base[b], ld, at);
        m->x.base[b] = at - (ptrdiff_t)g.first * ld;
        at += (ptrdiff_t)g.count * ld;
    }
}

/* Where one block of output channels of a tile goes. */
typedef struct target {
    float *at;      /* pixel `pixel` of y */
    ptrdiff_t ld;
    size_t pixel, pixels;
    int block, lanes;
    int first, last; /* input blocks taken now */
    const float *packed, *bias;
} target;

/* n output pixels from `pixel` on get their bias (or zero), so that all products can be added. */
static void begin_run(const bf_cell *cell, const target *t, size_t pixel, int n)
{
    float *at = t->at + (ptrdiff_t)(pixel - t->pixel) * t->ld;
    if (t->bias) cell->k->copy(at, t->ld, t->bias, 0, n, t->lanes);
    else cell->k->fill(at, t->ld, 0, n, t->lanes);
}

/* y[pixel .. pixel + n) += the products of all taps and the input blocks of t; the inputs of neighbouring outputs lie `step` pixels
 * apart. The blocks of one pixel stride make one GEMM. */
static void multiply(const bf_cell *cell, memory *m, const target *t, const tap_at *taps, int tap_count, int step, size_t pixel, int n, bool accumulate)
{
    const bf_packing *p = &cell->task->conv.forward;
    const size_t *inner = p->inner + (size_t)t->block * (size_t)p->inner_count;
    const int strides[2] = {m->x.blocks[0].ld, m->x.blocks[0].ld == BF_LANES ? BF_BLOCK : BF_LANES};
    for (int s = 0; s < 2; s++) {
        bf_gemm g = {.m = t->lanes, .n = n, .pairs = m->pairs, .lda = BF_LANES, .a_panel = (ptrdiff_t)bf_panel_floats(p, &cell->task->conv, t->block, t->lanes), .bk = 1, .bn = (ptrdiff_t)step * strides[s],
                     .c = t->at + (ptrdiff_t)(pixel - t->pixel) * t->ld, .ldc = t->ld, .accumulate = accumulate,
                     .prefetch = bf_meanwhile(&m->prefetch)};
        for (int b = t->first; b < t->last; b++) {
            const int channels = m->x.blocks[b].channels;
            for (int i = 0; i < tap_count && m->x.blocks[b].ld == strides[s] && inner[b] != SIZE_MAX; i++)
                m->pairs[g.count++] = (bf_gemm_pair){bf_packed_at(p, t->packed, t->block, t->lanes, inner[b], channels, taps[i].tap),
                                                     m->x.base[b] + (ptrdiff_t)taps[i].pixel * strides[s], channels};
        }
        if (!g.count) continue;
        cell->k->gemm(&g);
        accumulate = true;
    }
}

/* The dense image input: the taps of a filter row lie side by side in x and in the packed weights, one long product each. */
static void multiply_dense(const bf_cell *cell, memory *m, const target *t, const tap_at *taps, int tap_count, int step, size_t pixel, int n, bool accumulate)
{
    const bf_conv *c = &cell->task->conv;
    const int ld = m->x.blocks[0].ld, run = c->dw == 1 ? c->kw : 1;
    bf_gemm g = {.m = t->lanes, .n = n, .pairs = m->pairs, .lda = BF_LANES, .a_panel = (ptrdiff_t)bf_panel_floats(&c->forward, c, t->block, t->lanes), .bk = 1, .bn = (ptrdiff_t)step * ld,
                 .c = t->at + (ptrdiff_t)(pixel - t->pixel) * t->ld, .ldc = t->ld, .accumulate = accumulate,
                     .prefetch = bf_meanwhile(&m->prefetch)};
    for (int i = 0; i < tap_count; i += run)
        m->pairs[g.count++] = (bf_gemm_pair){bf_packed_at(&c->forward, t->packed, t->block, t->lanes, 0, m->x.blocks[0].channels, taps[i].tap),
                                             m->x.base[0] + (ptrdiff_t)taps[i].pixel * ld, run * ld};
    cell->k->gemm(&g);
}

/* One row of outputs. */
static void forward_row(const bf_cell *cell, memory *m, const target *t, int image, int oh)
{
    const bf_conv *c = &cell->task->conv;
    tap_at *taps = m->taps;
    const size_t row = ((size_t)image * (size_t)c->oh + (size_t)oh) * (size_t)c->ow;
    int kh0 = c->kh, kh1 = 0;
    for (int kh = 0; kh < c->kh; kh++) {
        const int ih = oh * c->sh - c->ph + kh * c->dh;
        if (ih < 0 || ih >= c->h) continue;
        if (kh < kh0) kh0 = kh;
        kh1 = kh + 1;
    }
    bool begun = t->first > 0 || !c->covers || t->bias || kh1 <= kh0;
    if (begun && t->first == 0) begin_run(cell, t, row, c->ow);
    for (int r = 0; kh0 < kh1 && r < c->column_count; r++) {
        const bf_columns *run = &c->columns[r];
        int count = 0;
        for (int kh = kh0; kh < kh1; kh++) {
            const int ih = oh * c->sh - c->ph + kh * c->dh;
            const size_t in_row = row_of_x(c, m, image, ih);
            for (int i = 0; i < run->taps; i++) taps[count++] = (tap_at){kh * c->kw + run->kw[i], in_row + (size_t)run->from[i]};
        }
        const bool dense = c->dense && run->taps == c->kw;
        (dense ? multiply_dense : multiply)(cell, m, t, taps, count, c->sw, row + (size_t)run->first, run->count, begun || r > 0);
    }
}

static void forward_blocks(const bf_cell *cell, memory *m, const target *t, const bf_tile *tile)
{
    const bf_conv *c = &cell->task->conv;
    tap_at *taps = m->taps;
    if (!c->line && !c->gather) {
        for (int image = tile->image0; image < tile->image1; image++)
            for (int oh = tile->row0; oh < tile->row1; oh++) forward_row(cell, m, t, image, oh);
        return;
    }
    const int n = (int)t->pixels;
    for (int i = 0; i < c->taps; i++) taps[i] = (tap_at){i, t->pixel * (size_t)(c->line ? c->xstep : 1) + (size_t)i};
    if (t->bias && t->first == 0) begin_run(cell, t, t->pixel, n);
    multiply(cell, m, t, taps, c->taps, c->line ? c->xstep : 1, t->pixel, n, t->bias || t->first > 0);
}

/* One block of output channels of a tile. Input blocks are taken in portions whose weights stay in L2 while the rows go by. */
static void forward_block(const bf_cell *cell, memory *m, target *t, const bf_tile *tile)
{
    const int portion = cell->task->conv.forward.portion;
    for (t->first = 0; t->first < m->x.count; t->first = t->last) {
        t->last = t->first + portion < m->x.count ? t->first + portion : m->x.count;
        forward_blocks(cell, m, t, tile);
    }
}

/* The same by one of Winograd's algorithms. */
static void winograd_block(const bf_cell *cell, memory *m, const target *t, const bf_tile *tile)
{
    const bf_task *task = cell->task;
    const bf_conv *c = &task->conv;
    const int tiles = bf_winograd_tiles(task, tile->image1 - tile->image0, tile->row1 - tile->row0);
    bf_winograd_multiply(cell, &c->forward, t->block, t->packed, t->lanes, &cell->plan->layouts[task->x], &m->in, &m->out, tiles, m->pairs, &m->prefetch);
    const bf_plane plane = {.pixels = t->at - (ptrdiff_t)t->pixel * t->ld, .height = c->oh, .width = c->ow, .ld = t->ld, .first = tile->row0, .last = tile->row1};
    bf_winograd_over(task, tile, cell->k->winograd_output, &plane, &m->out, 0, t->bias);
}

/* Fetch a share of the next tile's x while block b of [first, last) is computed. */
static void fetch_next(const bf_cell *cell, memory *m, const bf_tile *next, int b, int first, int last, double products)
{
    const bf_task *task = cell->task;
    m->prefetch.count = 0;
    if (!next) return;
    size_t from, to;
    x_range(&task->conv, next, &from, &to);
    if (task->conv.padded_row && from < m->ready_last * task->conv.x_row && from >= m->ready_first * task->conv.x_row) from = m->ready_last * task->conv.x_row;
    if ((to - from) * (size_t)cell->plan->layouts[task->x].lanes * sizeof(float) > cell->plan->context->target.l2) return;
    bf_prefetch_load(cell, &m->prefetch, &task->load[0], task->x, bf_share(m->x.count, last - first, b - first), bf_share(m->x.count, last - first, b - first + 1), from, to);
    bf_prefetch_pace(cell, &m->prefetch, products);
}

/* Blocks [first, last) of what the prologue made of x are stored while a block of y is computed. */
static void store_x(const bf_cell *cell, memory *m, const bf_tile *tile, int first, int last)
{
    size_t from, to;
    x_range(&cell->task->conv, tile, &from, &to);
    for (int b = first; b < last; b++) {
        const size_t ld = (size_t)m->x.blocks[b].ld;
        bf_store_add(cell, &m->prefetch, m->x.base[b] + from * ld, bf_block_at(cell->run, cell->task->x, b) + from * ld, (to - from) * ld);
    }
}

static void forward_tile(const bf_cell *cell, memory *m, const bf_tile *tile, const bf_tile *next, const float *packed, const float *bias, int first, int last)
{
    const bf_task *task = cell->task;
    const bf_conv *c = &task->conv;
    const bf_layout *y = &cell->plan->layouts[task->out];
    const size_t width = c->line ? 1 : (size_t)c->ow, height = c->line ? (size_t)c->ow : (size_t)c->oh;
    const size_t pixel = ((size_t)tile->image0 * height + (size_t)tile->row0) * width;
    const size_t pixels = ((size_t)(tile->image1 - tile->image0 - 1) * height + (size_t)tile->row1) * width - (size_t)tile->row0 * width;
    const bool direct = c->algorithm == BF_DIRECT;
    const int results = direct ? 1 : bf_winograd_shape_of(c->algorithm).mh * bf_winograd_shape_of(c->algorithm).mw; /* of one product */
    (c->padded_row ? load_padded : direct ? load_x : transform_x)(cell, m, tile);
    if (c->gather) gather_x(cell, m, tile);
    for (int b = first; b < last; b++) {
        const int ld = y->blocks[b].ld;
        target t = {.ld = ld, .pixel = pixel, .pixels = pixels, .block = b, .lanes = ld, .packed = packed, .bias = bias ? bias + y->blocks[b].lane : NULL};
        float *const stored = bf_block_at(cell->run, task->out, b) + pixel * (size_t)ld;
        const double products = (double)pixels * (double)(c->forward.tap[b] * (size_t)c->products) / results;
        t.at = m->tile[0] ? m->tile[0] : stored;
        fetch_next(cell, m, next, b, first, last, products);
        if (m->late_x) store_x(cell, m, tile, bf_share(m->x.count, last - first, b - first), bf_share(m->x.count, last - first, b - first + 1));
        bf_store_pace(cell, &m->prefetch, products);
        if (direct) forward_block(cell, m, &t, tile);
        else winograd_block(cell, m, &t, tile);
        if (m->prefetch.storing < m->prefetch.stores) bf_store_rest(cell, &m->prefetch);
        m->prefetch.stores = m->prefetch.storing = 0;
        if (!m->tile[0]) continue;
        const bf_stretch s = {.block = b, .pixel = pixel, .count = pixels, .tile = t.at, .tile_ld = ld, .skipped = m->late};
        bf_program_run(cell, &task->epilogue, &s, m->temps);
        if (!m->late) continue;
        bf_store_add(cell, &m->prefetch, t.at, stored, pixels * (size_t)ld); /* while the next block is computed, into the other tile */
        m->tile[0] = m->tile[1];
        m->tile[1] = t.at;
    }
}

static float *packed_at(const bnff_run *run, const bf_task *task) { return (float *)(run->arena + task->shared_arena); }

static void pack_cell(const bf_cell *cell)
{
    const bf_layout *y = &cell->plan->layouts[cell->task->out];
    const int first = bf_share(y->count, cell->plan->cells, cell->index), last = bf_share(y->count, cell->plan->cells, cell->index + 1);
    float *packed = packed_at(cell->run, cell->task);
    bf_pack_forward(cell->run, cell->task, packed, first, last);
    const int bias = cell->plan->graph.nodes[cell->task->node].param[1];
    for (int b = first; bias >= 0 && b < last; b++) {
        float *to = packed + cell->task->conv.forward.floats + y->blocks[b].lane;
        memset(to, 0, (size_t)y->blocks[b].ld * sizeof *to);
        memcpy(to, cell->run->params[bias] + y->blocks[b].first, (size_t)y->blocks[b].channels * sizeof *to);
    }
}

static void forward_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_grid *g = &task->grid;
    bf_portion part;
    if (!bf_begin_portion(cell, &part)) return;
    bf_scratch s = {.at = cell->scratch};
    memory m = take(&s, cell->plan, task);
    m.owner = part.channel_cell == 0;
    m.late_x = m.owner && stores_x_late(&task->load[0]);
    if (m.late_x) m.owner = false;
    const float *packed = packed_at(cell->run, task), *bias = cell->plan->graph.nodes[task->node].param[1] >= 0 ? packed + task->conv.forward.floats : NULL;
    const int end = part.tile_end;
    for (int i = part.tile; i < end; i++) {
        const bf_tile tile = bf_tile_at(g, i), next = i + 1 < end ? bf_tile_at(g, i + 1) : tile;
        forward_tile(cell, &m, &tile, i + 1 < end ? &next : NULL, packed, bias, part.unit, part.unit_end);
    }
    bf_store_rest(cell, &m.prefetch);
}

void bf_conv_forward(bnff_run *run, const bf_task *task)
{
    bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, forward_cell);
}
