/* The table of task kinds. */
#include "runtime/tasks.h"

#include "base/memory.h"
#include "runtime/conv.h"
#include "runtime/depthwise.h"
#include "runtime/windows.h"

static const struct { const char *text; void (*run)(bnff_run *, const bf_task *); } kinds[BF_TASK_KIND_COUNT] = {
    [BF_TASK_IMPORT] = {"import", bf_import},
    [BF_TASK_EXPORT] = {"export", bf_export},
    [BF_TASK_SWEEP] = {"sweep", bf_sweep},
    [BF_TASK_CONV] = {"conv_fwd", bf_conv_forward},
    [BF_TASK_CONV_BWD] = {"conv_bwd", bf_conv_backward},
    [BF_TASK_DEPTHWISE] = {"depthwise_fwd", bf_depthwise_forward},
    [BF_TASK_DEPTHWISE_BWD] = {"depthwise_bwd", bf_depthwise_backward},
    [BF_TASK_POOL] = {"pool_fwd", bf_windows_run},
    [BF_TASK_POOL_BWD] = {"pool_bwd", bf_windows_run},
    [BF_TASK_RESIZE] = {"resize_fwd", bf_resize_forward},
    [BF_TASK_RESIZE_BWD] = {"resize_bwd", bf_resize_backward},
    [BF_TASK_SHUFFLE] = {"shuffle", bf_shuffle},
    [BF_TASK_GATE_REDUCE] = {"gate_reduce", bf_gate_reduce},
    [BF_TASK_STATS_MEAN] = {"stats_mean", bf_stats_mean},
    [BF_TASK_FINALIZE] = {"finalize", bf_bn_finalize},
    [BF_TASK_GRAD_FINALIZE] = {"grad_finalize", bf_bn_grad_finalize},
    [BF_TASK_COLLECT] = {"collect", bf_bn_collect},
    [BF_TASK_CONST] = {"const", bf_bn_const},
};

const char *bf_task_kind_text(bf_task_kind kind) { return kinds[kind].text; }

void bf_task_run(bnff_run *run, const bf_task *task) { kinds[task->kind].run(run, task); }

bnff_status bf_task_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    switch (task->kind) {
    case BF_TASK_CONV:
    case BF_TASK_CONV_BWD:
        BF_TRY(bf_conv_setup(plan, task, error));
        bf_conv_book(plan, task);
        return BNFF_OK;
    case BF_TASK_DEPTHWISE: case BF_TASK_DEPTHWISE_BWD:
        BF_TRY(bf_depthwise_setup(plan, task, error));
        bf_depthwise_divide(plan, task);
        return BNFF_OK;
    case BF_TASK_POOL: case BF_TASK_POOL_BWD:
        BF_TRY(bf_windows_setup(plan, task, error));
        bf_windows_divide(plan, task);
        return BNFF_OK;
    case BF_TASK_RESIZE: case BF_TASK_RESIZE_BWD: return bf_resize_setup(plan, task, error);
    case BF_TASK_SHUFFLE:
        bf_shuffle_divide(plan, task);
        return BNFF_OK;
    default:
        bf_sweep_divide(plan, task);
        return BNFF_OK;
    }
}

void bf_task_free(bf_task *task)
{
    bf_conv_free(&task->conv);
    bf_free(task->windows.rows);
    bf_free(task->windows.columns);
    bf_free(task->resize.rows);
    bf_free(task->resize.columns);
    bf_free(task->depthwise.phases);
    bf_program *programs[3] = {&task->load[0], &task->load[1], &task->epilogue};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < programs[i]->count; k++) bf_free(programs[i]->steps[k].add_block);
        bf_free(programs[i]->steps);
    }
    bf_free(task->add_block);
    bf_free(task->name);
}
