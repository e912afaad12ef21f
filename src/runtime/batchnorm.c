/* Between the sums of a batch normalization and their use: merging cells in order and in double (math.md 1 and 3). */
#include <math.h>
#include <string.h>

#include "runtime/program.h"
#include "runtime/tasks.h"

/* -- two-sweep statistics, first sweep: the mean, left as the pivot of the second -- */

static void mean_cell(const bf_cell *cell)
{
    const bf_layout *layout = &cell->plan->layouts[cell->task->x];
    const int stats = cell->plan->graph.nodes[cell->task->node].out[0];
    const size_t pixels = bf_pixels(&cell->plan->graph.values[cell->task->x]), cells = (size_t)cell->plan->cells;
    const size_t first = pixels * (size_t)cell->index / cells, last = pixels * (size_t)(cell->index + 1) / cells;
    double *sums = bf_sums_at(cell->run, stats, BF_STATS_ROWS, cell->index) + BF_STATS_S1 * layout->lanes;
    memset(sums, 0, (size_t)layout->lanes * sizeof *sums);
    for (int b = 0; b < layout->count; b++)
        for (size_t pixel = first; pixel < last; pixel += BF_STATS_PIXELS) {
            const int ld = layout->blocks[b].ld, n = last - pixel < BF_STATS_PIXELS ? (int)(last - pixel) : BF_STATS_PIXELS;
            cell->k->sum(bf_block_at(cell->run, cell->task->x, b) + pixel * (size_t)ld, ld, n, ld, sums + layout->blocks[b].lane);
        }
}

void bf_stats_mean(bnff_run *run, const bf_task *task)
{
    bf_parallel_cells(run, task, mean_cell);
    const bnff_plan *plan = run->plan;
    const int stats = plan->graph.nodes[task->node].out[0], lanes = plan->layouts[stats].lanes;
    const double pixels = (double)bf_pixels(&plan->graph.values[task->x]);
    for (int i = 0; i < lanes; i++) {
        double sum = 0;
        for (int cell = 0; cell < plan->cells; cell++) sum += bf_sums_at(run, stats, BF_STATS_ROWS, cell)[BF_STATS_S1 * lanes + i];
        for (int cell = 0; cell < plan->cells; cell++) bf_sums_at(run, stats, BF_STATS_ROWS, cell)[BF_STATS_PIVOT * lanes + i] = (double)(float)(sum / pixels);
    }
}

/* -- statistics to coefficients -- */

typedef struct moments {
    double count, mean, m2;
} moments;

/* Chan, Golub & LeVeque: the moments of two samples together. */
static moments merge(moments a, moments b)
{
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    const double n = a.count + b.count, delta = b.mean - a.mean;
    return (moments){n, a.mean + delta * b.count / n, a.m2 + b.m2 + delta * delta * a.count * b.count / n};
}

/* Channel i of block b; the statistics may be a view of those of several feature maps. */
static moments channel_moments(const bnff_run *run, int view, int b, int i)
{
    const bf_block *block = &run->plan->layouts[view].blocks[b];
    const int stats = block->owner, lanes = run->plan->layouts[stats].lanes, lane = (int)block->offset + i;
    moments all = {0};
    for (int cell = 0; cell < run->plan->cells; cell++) {
        const double *row = bf_sums_at(run, stats, BF_STATS_ROWS, cell) + lane;
        const double n = row[BF_STATS_COUNT * lanes], s1 = row[BF_STATS_S1 * lanes], s2 = row[BF_STATS_S2 * lanes];
        if (n == 0) continue;
        double m2 = s2 - s1 * s1 / n;
        if (m2 < 0) m2 = 0; /* rounding; a NaN stays one */
        all = merge(all, (moments){n, row[BF_STATS_PIVOT * lanes] + s1 / n, m2});
    }
    return all;
}

/* Coefficients of one channel, in double until they are stored. */
static void write_coefs(const bnff_run *run, int coefs, int b, int i, double mean, double var, double gamma, double beta, double eps)
{
    const double r = 1 / sqrt(var + eps);
    const float p = (float)mean, s = (float)(gamma * r);
    bf_row_at(run, coefs, BF_COEF_P, b)[i] = p;
    bf_row_at(run, coefs, BF_COEF_S, b)[i] = s;
    bf_row_at(run, coefs, BF_COEF_T, b)[i] = (float)(beta - (double)s * (mean - (double)p));
    bf_row_at(run, coefs, BF_COEF_R, b)[i] = (float)r;
    bf_row_at(run, coefs, BF_COEF_DM, b)[i] = (float)(mean - (double)p);
}

static double param_at(const bnff_run *run, int param, int channel, double otherwise)
{
    return param >= 0 ? (double)run->params[param][channel] : otherwise;
}

void bf_bn_finalize(bnff_run *run, const bf_task *task)
{
    const bf_node *node = &run->plan->graph.nodes[task->node];
    const int stats = node->in[0], coefs = node->out[0];
    const bf_layout *layout = &run->plan->layouts[coefs];
    float *mean_to = run->params[node->param[2]], *var_to = run->params[node->param[3]];
    const double momentum = (double)node->a.bn.momentum;
    for (int b = 0; b < layout->count; b++)
        for (int i = 0; i < layout->blocks[b].channels; i++) {
            const int channel = layout->blocks[b].first + i;
            const moments m = channel_moments(run, stats, b, i);
            const double var = m.m2 / m.count, unbiased = m.m2 / (m.count - 1);
            write_coefs(run, coefs, b, i, m.mean, var, param_at(run, node->param[0], channel, 1), param_at(run, node->param[1], channel, 0), (double)node->a.bn.eps);
            mean_to[channel] = (float)((1 - momentum) * (double)mean_to[channel] + momentum * m.mean);
            var_to[channel] = (float)((1 - momentum) * (double)var_to[channel] + momentum * unbiased);
        }
}

void bf_bn_const(bnff_run *run, const bf_task *task)
{
    const bf_node *node = &run->plan->graph.nodes[task->node];
    const bf_layout *layout = &run->plan->layouts[node->out[0]];
    const double factor = node->a.bn.scale ? (double)node->a.bn.factor : 1, offset = node->a.bn.scale ? (double)node->a.bn.offset : 0;
    for (int b = 0; b < layout->count; b++)
        for (int i = 0; i < layout->blocks[b].channels; i++) {
            const int channel = layout->blocks[b].first + i;
            write_coefs(run, node->out[0], b, i, param_at(run, node->param[2], channel, 0), param_at(run, node->param[3], channel, 1),
                        param_at(run, node->param[0], channel, factor), param_at(run, node->param[1], channel, offset), (double)node->a.bn.eps);
        }
}

/* -- sums to gradients: dbeta = sum dy, dgamma = r (sum dy (x - p) - (mean - p) sum dy), and
 *    dx = s (dy - dbeta/M - xhat dgamma/M) = fma(s, dy, fma(c1, x - p, c0)) -- */

static void add_gradient(const bnff_run *run, int param, int channel, double value)
{
    float *to = param >= 0 ? run->param_gradients[param] : NULL;
    if (to) to[channel] = run->accumulate ? to[channel] + (float)value : (float)value;
}

void bf_bn_grad_finalize(bnff_run *run, const bf_task *task)
{
    const bf_node *node = &run->plan->graph.nodes[task->node];
    const int sums = node->in[0], coefs = node->in[1], out = node->out[0];
    const bf_layout *layout = &run->plan->layouts[out];
    const bool want = node->a.bn.want_affine;
    const double pixels = task->pixels;
    for (int b = 0; b < layout->count; b++)
        for (int i = 0; i < layout->blocks[b].channels; i++) {
            const int lane = layout->blocks[b].lane + i, channel = layout->blocks[b].first + i;
            double dy = 0, dyx = 0;
            for (int cell = 0; cell < run->plan->cells; cell++) {
                const double *row = bf_sums_at(run, sums, BF_SUMS_ROWS, cell) + lane;
                dy += row[BF_SUMS_DY * layout->lanes];
                dyx += row[BF_SUMS_DYX * layout->lanes];
            }
            const double s = (double)bf_row_at(run, coefs, BF_COEF_S, b)[i], r = (double)bf_row_at(run, coefs, BF_COEF_R, b)[i];
            const double dm = (double)bf_row_at(run, coefs, BF_COEF_DM, b)[i], dgamma = r * (dyx - dm * dy), c1 = -s * r * dgamma / pixels;
            bf_row_at(run, out, BF_GRAD_C0, b)[i] = (float)(-s * dy / pixels - c1 * dm);
            bf_row_at(run, out, BF_GRAD_C1, b)[i] = (float)c1;
            if (!want) continue;
            add_gradient(run, node->param[0], channel, dgamma);
            add_gradient(run, node->param[1], channel, dy);
        }
}

/* The BNs that read one feature map defer their constants to it: dx = G + fma(sum c1, x - p, sum c0), G = sum s dy (math.md 4).
 * They share its statistics, hence p. */
void bf_bn_collect(bnff_run *run, const bf_task *task)
{
    const bf_node *node = &run->plan->graph.nodes[task->node];
    const bf_layout *layout = &run->plan->layouts[node->out[0]];
    for (int b = 0; b < layout->count; b++)
        for (int row = 0; row < BF_GRAD_ROWS; row++)
            for (int i = 0; i < layout->blocks[b].channels; i++) {
                double sum = 0;
                for (int k = 0; k < node->in_count; k++) sum += (double)bf_row_at(run, node->in[k], row, b)[i];
                bf_row_at(run, node->out[0], row, b)[i] = (float)sum;
            }
}
