/* How the work of a convolution is divided: tiles, and which cells take them. */
#include "runtime/conv.h"

#include "runtime/program.h"

bf_tile bf_tile_at(const bf_grid *g, int index)
{
    if (g->images > 1) {
        const int first = index * g->images, last = first + g->images;
        return (bf_tile){first, last < g->image_count ? last : g->image_count, 0, g->height};
    }
    const int image = index / g->tiles_per_image, row = index % g->tiles_per_image * g->rows;
    return (bf_tile){image, image + 1, row, row + g->rows < g->height ? row + g->rows : g->height};
}

static void set_tiles(bf_grid *g, int rows, int images)
{
    g->rows = rows;
    g->images = images;
    g->tiles_per_image = (g->height - 1) / rows + 1;
    g->tiles = images > 1 ? (g->image_count - 1) / images + 1 : g->image_count * g->tiles_per_image;
}

/* Rows before a tile. */
static double rows_before(const bf_grid *g, int tile)
{
    const int image = g->images > 1 ? tile * g->images : tile / g->tiles_per_image, row = g->images > 1 ? 0 : tile % g->tiles_per_image * g->rows;
    if (image >= g->image_count) return (double)g->image_count * g->height;
    return (double)image * g->height + row;
}

/* The most rows that one of `cells` gets, over their mean. */
static double pixel_imbalance(const bf_grid *g, int cells)
{
    double most = 0;
    for (int i = 0; i < cells; i++) {
        const double rows = rows_before(g, bf_share(g->tiles, cells, i + 1)) - rows_before(g, bf_share(g->tiles, cells, i));
        if (rows > most) most = rows;
    }
    return most * cells / rows_before(g, g->tiles);
}

static double channel_imbalance(const bf_grid *g, int cells) { return (double)((g->units - 1) / cells + 1) * cells / g->units; }

/* What a tile costs, relative to its products alone; the figures were fitted to times of the layers of ResNet-50 on Zen 3. */
typedef struct tile_cost {
    double weights;      /* of one visit to all weights, in pixels' worth of products */
    size_t pixel_bytes;  /* of what every channel block reads again, or is fetched meanwhile ... */
    double spill;        /* ... and more for each half of L2 that this outgrows */
    double halo;         /* rows computed twice where a tile ends, in rows' worth */
    double merge;        /* of one more partial weight gradient */
    double split;        /* what each more channel cell does again */
    double partial;      /* bytes of a partial gradient where they are bounded; 0: they are not */
    int row_pixels, multiple; /* rows of a tile are a multiple of that */
} tile_cost;

enum { PARTIAL_BYTES = 32 << 20 }; /* most of partial gradients and weights of Winograd's algorithms, a cell */

/* Try a tile size with every split of cells into pixel and channel cells; keep the cheapest. */
static void try_tiles(bf_grid *best, double *best_cost, int cells, int rows, int images, size_t l2, const tile_cost *t)
{
    bf_grid g = *best;
    set_tiles(&g, rows, images);
    const double pixels = (double)rows * images * t->row_pixels, halves = pixels * (double)t->pixel_bytes / ((double)l2 / 2);
    if (halves > 16 && (images > 1 || rows > t->multiple)) return;
    const double overhead = 1 + t->weights / pixels + (halves > 1 ? t->spill * (halves - 1) : 0) + (rows < g.height ? t->halo / rows : 0);
    for (int channel = 1; channel <= cells && channel <= g.units; channel++) {
        const int pixel = cells / channel;
        if (pixel * channel < cells && channel > 1 && cells % channel) continue; /* leave no cell idle by rounding */
        if (t->partial * (1 + pixel) > (double)PARTIAL_BYTES * (cells > 2 ? cells : 2)) continue;
        const double cost = pixel_imbalance(&g, pixel) * channel_imbalance(&g, channel) * overhead * (1 + t->split * (channel - 1)) * (1 + t->merge * pixel);
        if (cost >= *best_cost) continue;
        *best = g;
        best->pixel_cells = pixel;
        best->channel_cells = channel;
        *best_cost = cost;
    }
}

/* Rows of an image, or whole images, or pixels of a line: the cheapest tile. Parts are as equal as they can be; where there are many,
 * a multiple of the cells. Returns the cost of the whole over that of its products. */
static double choose_grid(bf_grid *g, int cells, size_t l2, const tile_cost *t)
{
    double cost = 1e30;
    const int images = g->image_count < 64 ? g->image_count : 64;
    for (int n = images; n > 1; n--) try_tiles(g, &cost, cells, g->height, n, l2, t);
    for (int parts = 1; parts <= g->height; parts = parts < 32 ? parts + 1 : (parts + parts / 16 + cells) / cells * cells)
        try_tiles(g, &cost, cells, ((g->height - 1) / parts / t->multiple + 1) * t->multiple, 1, l2, t);
    if (!g->rows) try_tiles(g, &cost, cells, t->multiple, 1, l2, t); /* every tile tried outgrew L2 many times, and the steps passed this one by */
    return cost;
}

/* The weights are read, and in the backward their gradients too, and written, once a tile, from as far as they spread. */
static double visit(size_t bytes, size_t l2, double most)
{
    const double pixels = (double)bytes / (double)l2;
    return pixels < 0.5 ? 0.5 : pixels < most ? pixels : most;
}

/* Stored operands of a prologue. */
static size_t operands_of(const bf_program *load)
{
    size_t count = load->count == 0;
    for (int i = 0; i < load->count; i++) count += (size_t)(load->steps[i].a.kind == BF_VALUE) + (load->steps[i].b.kind == BF_VALUE);
    return count;
}

static tile_cost forward_cost(const bnff_plan *plan, const bf_task *task, size_t weights)
{
    const bf_conv *c = &task->conv;
    const size_t block = BF_BLOCK * sizeof(float), x_pixel = (size_t)plan->layouts[task->x].lanes * sizeof(float);
    size_t pixel = x_pixel * (size_t)(c->gather ? 1 : c->sh * c->sw);
    if (c->line) pixel = x_pixel * (size_t)c->xstep * (1 + operands_of(&task->load[0])) + 2 * block; /* in scratch, fetched meanwhile; tiles of y */
    if (c->padded_row) pixel *= 2;
    return (tile_cost){.weights = visit(weights, plan->context->target.l2, 12), .pixel_bytes = pixel, .spill = 0.01,
                       .split = 0.02, .row_pixels = c->line ? 1 : c->ow, .multiple = 1,
                       .halo = !c->line && !c->padded_row && task->load[0].count ? 0.1 * (c->kh - 1) * c->dh / c->sh : 0.02};
}

/* Stored blocks that a program reads or adds to. */
static size_t blocks_of(const bf_program *program)
{
    size_t blocks = 0;
    for (int i = 0; i < program->count; i++)
        blocks += (size_t)(program->steps[i].a.kind == BF_VALUE) + (program->steps[i].b.kind == BF_VALUE) + (program->steps[i].dst.kind == BF_VALUE);
    return blocks;
}

static tile_cost backward_cost(const bnff_plan *plan, const bf_task *task, size_t weights)
{
    const bf_conv *c = &task->conv;
    const int strides = c->line ? 1 : c->sh * c->sw; /* pixels of x to one of dy */
    /* beside dy: a block of x, of dx, and of what prologue and epilogue read, fetched while the products go on */
    const size_t dy_pixel = (size_t)plan->layouts[task->dy].lanes * sizeof(float), block = BF_BLOCK * sizeof(float);
    const size_t blocks = (2 + blocks_of(&task->load[0]) + blocks_of(&task->epilogue)) * block;
    return (tile_cost){.weights = strides * visit(2 * weights, plan->context->target.l2, 32), .pixel_bytes = dy_pixel / (size_t)strides + blocks, .spill = 0.01,
                       .merge = 48 / ((double)c->n * c->oh * c->ow), .split = 0.02, .row_pixels = c->line ? 1 : (int)c->x_row, .multiple = 1,
                       .halo = !c->line && task->load[1].count ? 0.1 * (c->kh - 1) * c->dh / c->sh : 0.02};
}

/* Winograd's algorithms: the same in tiles' worth of products; a pixel has positions / (mh mw) values, and the halo of what is virtual
 * weighs more beside fewer products. */
static tile_cost winograd_cost(const bnff_plan *plan, const bf_task *task, bf_algorithm algorithm, size_t weights)
{
    const bf_conv *c = &task->conv;
    const bf_winograd_shape shape = bf_winograd_shape_of(algorithm);
    const bool backward = task->kind == BF_TASK_CONV_BWD, gradient = backward && plan->graph.nodes[task->node].a.conv.want_dw;
    const bf_layout *x = &plan->layouts[task->x], *y = &plan->layouts[backward ? task->dy : task->out], *in = backward ? y : x, *out = backward ? x : y;
    const int results = shape.mh * shape.mw;
    return (tile_cost){.weights = results * visit(2 * weights, plan->context->target.l2, gradient ? 6 : 4), .spill = 0.01,
                       .pixel_bytes = (size_t)in->lanes * sizeof(float) * (size_t)shape.positions / (size_t)results,
                       .merge = gradient ? 12 * results / ((double)c->n * c->h * c->w) : 0, .partial = gradient ? (double)weights : 0, .split = 0.05,
                       .row_pixels = backward ? c->w : c->ow, .multiple = shape.mh, .halo = task->load[backward].count ? 10.0 / out->lanes : 0.02};
}

double bf_conv_grid(const bnff_plan *plan, const bf_task *task, bf_algorithm algorithm, bf_grid *g)
{
    const bf_conv *c = &task->conv;
    const bool backward = task->kind == BF_TASK_CONV_BWD;
    const bf_layout *x = &plan->layouts[task->x], *y = &plan->layouts[backward ? task->dy : task->out];
    const size_t taps = (size_t)(algorithm == BF_DIRECT ? c->taps : bf_winograd_shape_of(algorithm).positions);
    const size_t weights = taps * (size_t)x->lanes * (size_t)y->lanes / (size_t)c->groups * sizeof(float);
    const tile_cost t = algorithm != BF_DIRECT ? winograd_cost(plan, task, algorithm, weights) : (backward ? backward_cost : forward_cost)(plan, task, weights);
    *g = (bf_grid){.units = backward ? x->count : y->count, .image_count = c->line ? 1 : c->n, .height = c->line ? c->ow : backward ? c->h : c->oh};
    return choose_grid(g, plan->cells, plan->context->target.l2, &t);
}

/* Scratch of one cell, by the same code that hands it out in the step. */
size_t bf_conv_scratch(const bnff_plan *plan, const bf_task *task);

void bf_conv_book(const bnff_plan *plan, bf_task *task)
{
    const bf_conv *c = &task->conv;
    const bf_grid *g = &task->grid;
    const bool backward = task->kind == BF_TASK_CONV_BWD;
    const bf_layout *y = &plan->layouts[backward ? task->dy : task->out];
    task->scratch = bf_conv_scratch(plan, task);
    size_t shared = c->forward.floats;
    if (backward) {
        shared = c->transposed.floats;
        if (plan->graph.nodes[task->node].a.conv.want_dw) {
            shared += c->forward.floats * (size_t)g->pixel_cells;
            shared += 2 * (size_t)y->lanes * (size_t)g->pixel_cells; /* bias gradient, in doubles */
        }
    } else shared += (size_t)y->lanes; /* bias */
    task->shared = shared * sizeof(float) + 256;
}
