/* The caller's tensors, of any strides, into blocks and back. */
#include <string.h>

#include "runtime/program.h"
#include "runtime/tasks.h"

static const bnff_tensor zero_tensor;

/* The tensor an import reads or an export writes; data NULL: zeros in, nothing out. */
static bnff_tensor tensor_of(const bnff_run *run, const bf_node *node)
{
    switch (node->op) {
    case BF_OP_INPUT:       return run->inputs[node->a.io.index];
    case BF_OP_OUTPUT:      return run->outputs ? run->outputs[node->a.io.index] : zero_tensor;
    case BF_OP_OUTPUT_GRAD: return run->output_gradients[node->a.io.index];
    case BF_OP_INPUT_GRAD:  return run->input_gradients ? run->input_gradients[node->a.io.index] : zero_tensor;
    default:                return zero_tensor;
    }
}

/* Rows of pixels of one image row: the unit that cells share. */
static void import_row(const bf_cell *cell, const bnff_tensor *from, int image, int h)
{
    const bf_task *task = cell->task;
    const bf_value *v = &cell->plan->graph.values[task->out];
    const bf_layout *layout = &cell->plan->layouts[task->out];
    const float *row = from->data ? from->data + image * from->stride[0] + h * from->stride[1] : NULL;
    const size_t width = (size_t)v->w + 2 * (size_t)layout->pad_w, first = ((size_t)image * (size_t)v->h + (size_t)h) * width;
    for (int b = 0; b < layout->count; b++) {
        const bf_block *block = &layout->blocks[b];
        const bool add = task->add_block && task->add_block[b];
        float *to = bf_block_at(cell->run, task->out, b) + first * (size_t)block->ld;
        memset(to, 0, add ? 0 : (size_t)layout->pad_w * (size_t)block->ld * sizeof *to);
        to += layout->pad_w * block->ld;
        for (int w = 0; w < v->w; w++, to += block->ld)
            for (int c = 0; c < block->ld; c++) {
                const float x = row && c < block->channels ? row[w * from->stride[2] + (block->first + c) * from->stride[3]] : 0;
                to[c] = add ? to[c] + x : x;
            }
        memset(to, 0, add ? 0 : (size_t)layout->pad_w * (size_t)block->ld * sizeof *to);
    }
}

static void import_cell(const bf_cell *cell)
{
    const bf_value *v = &cell->plan->graph.values[cell->task->out];
    const bnff_tensor from = tensor_of(cell->run, &cell->plan->graph.nodes[cell->task->node]);
    const int rows = v->n * v->h;
    for (int row = bf_share(rows, cell->plan->cells, cell->index); row < bf_share(rows, cell->plan->cells, cell->index + 1); row++)
        import_row(cell, &from, row / v->h, row % v->h);
}

void bf_import(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, import_cell); }

static void export_block(const bf_cell *cell, const bnff_tensor *to, int block, size_t first, size_t count)
{
    const bf_task *task = cell->task;
    const bf_value *v = &cell->plan->graph.values[task->x];
    const bf_block *b = &cell->plan->layouts[task->x].blocks[block];
    float *result = (float *)cell->scratch, *temps = result + 3 * BF_PIECE_PIXELS * BF_BLOCK;
    for (size_t done = 0; done < count; done += BF_PIECE_PIXELS) {
        const size_t n = count - done < BF_PIECE_PIXELS ? count - done : BF_PIECE_PIXELS, pixel = first + done;
        const float *from = bf_block_at(cell->run, task->x, block) + pixel * (size_t)b->ld;
        if (task->load[0].count) {
            const bf_stretch s = {.block = block, .pixel = pixel, .count = n, .result = result, .result_ld = b->ld};
            bf_program_run(cell, &task->load[0], &s, temps);
            from = result;
        }
        for (size_t i = 0; i < n; i++, from += b->ld) {
            const size_t q = pixel + i, w = q % (size_t)v->w, h = q / (size_t)v->w % (size_t)v->h, image = q / (size_t)v->w / (size_t)v->h;
            float *at = to->data + (ptrdiff_t)image * to->stride[0] + (ptrdiff_t)h * to->stride[1] + (ptrdiff_t)w * to->stride[2];
            for (int c = 0; c < b->channels; c++) at[(b->first + c) * to->stride[3]] = from[c];
        }
    }
}

static void export_cell(const bf_cell *cell)
{
    const bnff_tensor to = tensor_of(cell->run, &cell->plan->graph.nodes[cell->task->node]);
    if (!to.data) return;
    const size_t pixels = bf_pixels(&cell->plan->graph.values[cell->task->x]), cells = (size_t)cell->plan->cells;
    const size_t first = pixels * (size_t)cell->index / cells, last = pixels * (size_t)(cell->index + 1) / cells;
    for (int b = 0; b < cell->plan->layouts[cell->task->x].count; b++) export_block(cell, &to, b, first, last - first);
}

void bf_export(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, export_cell); }
