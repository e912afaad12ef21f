#include "bench_rig.h"

#include <string.h>

enum { STEM_CHANNELS = 4 }; /* with fewer input channels, it is the first layer, whose input needs no gradient */

/* What a run takes, tensors and arena, must be free: else the system would end some process, not this one's call. */
static bnff_status check_memory(const bench_problem *p, const bnff_plan *plan, bnff_error *error)
{
    bnff_plan_info info = {.size = sizeof info};
    bnff_plan_describe(plan, &info);
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    const double need = bench_tensors_bytes(p) + (double)info.arena_bytes, available = (double)machine.memory_available;
    if (!available || need <= available) return BNFF_OK;
    char needs[32], free_now[32];
    *error = (bnff_error){.status = BNFF_E_MEMORY, .hint = "take fewer images (mb), or smaller ones"};
    snprintf(error->message, sizeof error->message, "a convolution of %d x %d x %d x %d to %d channels needs %s, %s free", p->mb, p->ih, p->iw, p->ic, p->oc,
             cli_bytes(needs, need), cli_bytes(free_now, available));
    return BNFF_E_MEMORY;
}

bnff_status bench_rig_open(bnff_context *context, const bench_problem *p, const char *algorithm, bench_rig *rig, bnff_error *error)
{
    const bnff_conv_options conv = {.out_channels = p->oc, .kernel = {p->kh, p->kw}, .stride = {p->sh, p->sw}, .padding = {p->ph, p->pw ? p->pw : -1},
                                    .dilation = {p->dh, p->dw}, .groups = p->g};
    *rig = (bench_rig){.problem = *p, .want_dx = p->ic >= STEM_CHANNELS};
    bnff_status status = bnff_graph_create(&rig->graph, error);
    if (status) return status;
    bnff_output(rig->graph, bnff_conv2d(rig->graph, "conv", bnff_input(rig->graph, "x", p->ic), &conv));
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = p->mb, .height = p->ih, .width = p->iw, .mode = BNFF_TRAIN,
                                            .algorithm = algorithm, .input_gradients = rig->want_dx};
    if ((status = bnff_graph_status(rig->graph, error))) return status;
    if ((status = bnff_plan_create(context, rig->graph, &plan_options, &rig->plan, error))) return status;
    if ((status = check_memory(p, rig->plan, error))) return status;
    bench_tensors_make(&rig->t, p);
    if ((status = bnff_pool_create(context, &rig->pool, error))) return status;
    if ((status = bnff_run_acquire(rig->pool, rig->plan, &rig->run, error))) return status;
    bnff_run_profile(rig->run, true);
    return BNFF_OK;
}

void bench_rig_close(bench_rig *rig)
{
    bnff_run_release(&rig->run);
    bnff_pool_destroy(&rig->pool);
    bnff_plan_destroy(&rig->plan);
    bnff_graph_destroy(&rig->graph);
    bench_tensors_free(&rig->t);
}

static void add_up(const bnff_run *run, bench_rig_times *times)
{
    bnff_task_profile task;
    *times = (bench_rig_times){0};
    for (int i = 0; bnff_run_profile_get(run, i, &task); i++) {
        if (task.flops <= 0) continue;
        const bool backward = strstr(task.kind, "bwd") != NULL;
        *(backward ? &times->backward_s : &times->forward_s) += task.seconds;
        *(backward ? &times->backward_flops : &times->forward_flops) += task.flops;
    }
}

bnff_status bench_rig_step(bench_rig *rig, bench_rig_times *times, bnff_error *error)
{
    bench_tensors *t = &rig->t;
    const bench_problem *p = &rig->problem;
    float *params[] = {t->w}, *gradients[] = {t->dw};
    const bnff_tensor x = bnff_nhwc(t->x, p->ih, p->iw, p->ic), dy = bnff_nhwc(t->dy, t->oh, t->ow, p->oc);
    bnff_tensor y = bnff_nhwc(t->y, t->oh, t->ow, p->oc), dx = bnff_nhwc(t->dx, p->ih, p->iw, p->ic);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &x, .outputs = &y, .params = params};
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &dy, .param_gradients = gradients,
                                         .input_gradients = rig->want_dx ? &dx : NULL};
    bnff_status status = bnff_forward(rig->run, &forward, error);
    if (status == BNFF_OK) status = bnff_backward(rig->run, &backward, error);
    if (status == BNFF_OK) add_up(rig->run, times);
    return status;
}
