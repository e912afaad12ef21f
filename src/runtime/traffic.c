/* Modelled main-memory traffic: every task reads each stored operand once and writes each result once (adding reads it as well);
 * values that fit the share of the last-level cache that their neighbours leave (a quarter) stay there and count nothing. */
#include "runtime/plan.h"

static double value_bytes(const bnff_plan *plan, int value)
{
    if (value < 0 || plan->graph.values[value].kind != BF_TENSOR) return 0;
    const bf_layout *layout = &plan->layouts[value];
    const double bytes = (double)bf_pixels(&plan->graph.values[value]) * layout->lanes * (double)sizeof(float);
    return bytes > (double)plan->context->target.l3 / 4 ? bytes : 0;
}

static bool adds(const bnff_plan *plan, const bf_program *program, const bf_step *s)
{
    const int count = s->add_block && s->kind != BF_STEP_ZERO ? plan->layouts[program->over].count : 0;
    for (int b = 0; b < count; b++)
        if (s->add_block[b]) return true;
    return false;
}

static double program_bytes(const bnff_plan *plan, const bf_program *program)
{
    double bytes = 0;
    int seen[16], count = 0;
    for (int i = 0; i < program->count; i++) {
        const bf_step *s = &program->steps[i];
        const bf_operand *operands[3] = {&s->dst, &s->a, &s->b};
        for (int k = 0; k < 3; k++) {
            if (operands[k]->kind != BF_VALUE) continue;
            bool known = false;
            for (int j = 0; j < count; j++) known |= seen[j] == operands[k]->index;
            if (known) continue;
            if (count < 16) seen[count++] = operands[k]->index;
            bytes += value_bytes(plan, operands[k]->index) * (k == 0 && adds(plan, program, s) ? 2 : 1);
        }
    }
    return bytes;
}

void bf_model_traffic(bnff_plan *plan)
{
    for (int t = 0; t < plan->task_count; t++) {
        bf_task *task = &plan->tasks[t];
        task->bytes = program_bytes(plan, &task->load[0]) + program_bytes(plan, &task->load[1]) + program_bytes(plan, &task->epilogue);
        if (task->kind != BF_TASK_SWEEP) {
            if (!task->load[0].count) task->bytes += value_bytes(plan, task->x);
            if (!task->load[1].count) task->bytes += value_bytes(plan, task->dy);
            if (!task->epilogue.count) task->bytes += value_bytes(plan, task->out);
        }
        plan->traffic_bytes += task->bytes;
    }
}
