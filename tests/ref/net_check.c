/* A net through the public API, compared with its reference. */
#include "net_private.h"
#include "support.h"

#include "base/context.h"

/* -- The caller's memory ------------------------------------------------------------------------------------------- */

/* A tensor of the shape of `like` in one of the layouts, all elements NaN, guarded. */
static bnff_tensor new_tensor(const ref_tensor *like, int layout)
{
    const ptrdiff_t h = like->h, w = like->w, c = like->c;
    if (layout == NET_NCHW) return bnff_nchw(guarded(ref_count(like)), like->h, like->w, like->c);
    if (layout == NET_NHWC) return bnff_nhwc(guarded(ref_count(like)), like->h, like->w, like->c);
    const ptrdiff_t pixel = c + 3, row = w * pixel + 5, image = h * row + 7; /* gaps everywhere */
    return (bnff_tensor){guarded((size_t)(like->n * image)), {image, row, pixel, 1}};
}

static float *element(const bnff_tensor *t, const ref_tensor *like, size_t i)
{
    const size_t c = i % (size_t)like->c, pixel = i / (size_t)like->c, w = pixel % (size_t)like->w, row = pixel / (size_t)like->w;
    const size_t h = row % (size_t)like->h, n = row / (size_t)like->h;
    return t->data + (ptrdiff_t)n * t->stride[0] + (ptrdiff_t)h * t->stride[1] + (ptrdiff_t)w * t->stride[2] + (ptrdiff_t)c * t->stride[3];
}

static void put(const bnff_tensor *t, const ref_tensor *from)
{
    for (size_t i = 0; i < ref_count(from); i++) *element(t, from, i) = (float)from->v[i];
}

/* Everything the caller holds for one step. */
typedef struct memory {
    bnff_tensor in[NET_OPS], out[NET_OPS], in_gradient[NET_OPS], out_gradient[NET_OPS];
    int ins, outs;
    const net_op *in_op[NET_OPS], *out_op[NET_OPS];
    float *param[NET_PARAMS], *gradient[NET_PARAMS];
} memory;

enum { ADDED_TO = 3 }; /* what gradients hold before an accumulating backward */

static void restore_params(const net *n, memory *m)
{
    for (int i = 0; i < n->params; i++)
        for (size_t k = 0; k < ref_count(&n->param[i].start); k++) m->param[i][k] = (float)n->param[i].start.v[k];
}

static void new_memory(net *n, const net_way *way, memory *m)
{
    *m = (memory){0};
    for (int i = 0; i < n->ops; i++) {
        const net_op *op = &n->op[i];
        if (op->kind != OP_INPUT) continue;
        m->in_op[m->ins] = op;
        m->in[m->ins] = new_tensor(&op->y, way->layout);
        m->in_gradient[m->ins] = new_tensor(&op->y, way->layout);
        put(&m->in[m->ins++], &op->y);
    }
    for (; m->outs < n->outs; m->outs++) {
        const net_op *op = &n->op[n->out[m->outs].op];
        m->out_op[m->outs] = op;
        m->out[m->outs] = new_tensor(&op->y, way->layout);
        m->out_gradient[m->outs] = new_tensor(&op->y, way->layout);
        put(&m->out_gradient[m->outs], &n->out[m->outs].given);
    }
    for (int i = 0; i < n->params; i++) {
        const net_param *p = &n->param[i];
        const size_t count = ref_count(&p->start);
        m->param[i] = guarded(count);
        const bool asked = p->wanted && !(way->some_gradients && i % 2);
        m->gradient[i] = asked ? guarded(count) : NULL;
        for (size_t k = 0; asked && way->accumulate && k < count; k++) m->gradient[i][k] = ADDED_TO;
    }
    restore_params(n, m);
}

/* -- Comparing ------------------------------------------------------------------------------------------------------ */

static void compare(const bnff_tensor *got, const ref_tensor *want, const char *what)
{
    for (size_t i = 0; i < ref_count(want); i++)
        support_close(*element(got, want, i), want->v[i], REF_SIGMAS * want->e[i] + FLT_MIN, what, (ptrdiff_t)i, __FILE__, __LINE__);
}

static void compare_param(const float *got, const ref_tensor *want, double offset, const char *what)
{
    for (size_t i = 0; i < ref_count(want); i++) {
        const double sum = want->v[i] + offset, e = hypot(want->e[i], offset != 0 ? REF_U * sum : 0);
        support_close(got[i], sum, REF_SIGMAS * e + FLT_MIN, what, (ptrdiff_t)i, __FILE__, __LINE__);
    }
}

static void compare_forward(const net *n, const memory *m)
{
    char what[64];
    for (int i = 0; i < m->outs; i++) {
        snprintf(what, sizeof what, "output %d", i);
        compare(&m->out[i], &m->out_op[i]->y, what);
    }
    for (int i = 0; i < n->params; i++) {
        snprintf(what, sizeof what, "%s after the forward", n->param[i].name);
        compare_param(m->param[i], &n->param[i].value, 0, what);
    }
}

static void compare_backward(const net *n, const net_way *way, const memory *m)
{
    char what[64];
    for (int i = 0; i < n->params; i++) {
        snprintf(what, sizeof what, "gradient of %s", n->param[i].name);
        if (m->gradient[i]) compare_param(m->gradient[i], &n->param[i].gradient, way->accumulate ? ADDED_TO : 0, what);
    }
    for (int i = 0; !way->some_gradients && i < m->ins; i++) {
        snprintf(what, sizeof what, "gradient of input %d", i);
        compare(&m->in_gradient[i], &m->in_op[i]->dy, what);
    }
}

/* -- Running --------------------------------------------------------------------------------------------------------- */

typedef struct machine {
    bnff_context *context;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
} machine;

static machine new_machine(net *n, const net_setup *setup, const net_way *way)
{
    machine m;
    bnff_error error;
    const bnff_context_options context = {.size = sizeof context, .threads = way->threads ? way->threads : 2, .max_isa = way->isa};
    check_ok(bnff_context_create(&context, &m.context, &error), &error);
    if (way->small_caches) m.context->target.l1 = 1 << 10, m.context->target.l2 = 16 << 10, m.context->target.l3 = 1 << 10;
    bool frozen_params[NET_PARAMS] = {false}, frozen_stats[NET_PARAMS] = {false};
    for (int i = 0; i < n->params; i++) frozen_params[i] = !n->param[i].wanted;
    for (int i = 0; i < n->ops; i++)
        if (n->op[i].frozen_stats) frozen_stats[n->op[i].mean] = true;
    int sizes[NET_OPS][2] = {{0}}, inputs = 0;
    for (int i = 0; i < n->ops; i++) {
        if (n->op[i].kind != OP_INPUT) continue;
        if (n->op[i].planned) memcpy(sizes[inputs], n->op[i].size, sizeof *sizes);
        inputs++;
    }
    const bnff_plan_options plan = {
        .size = sizeof plan, .batch = setup->batch, .height = setup->height, .width = setup->width,
        .mode = setup->evaluate ? BNFF_EVALUATE : BNFF_TRAIN, .level = way->level, .algorithm = setup->algorithm, .cells = way->cells,
        .frozen_params = frozen_params, .frozen_stats = frozen_stats, .input_gradients = !way->some_gradients && !setup->evaluate, .input_sizes = sizes,
    };
    check_ok(bnff_plan_create(m.context, n->graph, &plan, &m.plan, &error), &error);
    check_ok(bnff_pool_create(m.context, &m.pool, &error), &error);
    check_ok(bnff_run_acquire(m.pool, m.plan, &m.run, &error), &error);
    return m;
}

static void free_machine(machine *m)
{
    bnff_run_release(&m->run);
    bnff_pool_destroy(&m->pool);
    bnff_plan_destroy(&m->plan);
    bnff_context_destroy(&m->context);
}

static void step(const net_setup *setup, const net_way *way, machine *on, memory *m)
{
    bnff_error error;
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = m->in, .outputs = m->out, .params = m->param, .seed = NET_SEED, .step = NET_STEP};
    check_ok(bnff_forward(on->run, &forward, &error), &error);
    if (setup->evaluate) return;
    const bnff_backward_args backward = {
        .size = sizeof backward, .output_gradients = m->out_gradient, .param_gradients = m->gradient,
        .input_gradients = way->some_gradients ? NULL : m->in_gradient, .accumulate = way->accumulate,
    };
    check_ok(bnff_backward(on->run, &backward, &error), &error);
}

void net_check_way(net *n, const net_setup *setup, const net_way *way)
{
    static const char *const layouts[] = {"nhwc", "nchw", "strided"};
    char name[400];
    snprintf(name, sizeof name, "%s", test_case_name());
    test_case("%s; level=%s conv=%s isa=%s threads=%d cells=%d %s%s%s%s", name, way->level ? way->level : "default",
              setup->algorithm ? setup->algorithm : "default", way->isa ? way->isa : "best", way->threads, way->cells, layouts[way->layout],
              way->small_caches ? " small caches" : "", way->accumulate ? " accumulate" : "", way->some_gradients ? " some gradients" : "");
    machine on = new_machine(n, setup, way);
    memory m;
    new_memory(n, way, &m);
    step(setup, way, &on, &m);
    compare_forward(n, &m);
    if (!setup->evaluate) compare_backward(n, way, &m);
    if (!way->accumulate) { /* a run can be used again, and the same step gives the same bits */
        memory again;
        new_memory(n, way, &again);
        step(setup, way, &on, &again);
        for (int i = 0; i < m.outs; i++)
            for (size_t k = 0; k < ref_count(&m.out_op[i]->y); k++) check_same_bits(element(&again.out[i], &m.out_op[i]->y, k), element(&m.out[i], &m.out_op[i]->y, k), 1);
        for (int i = 0; !setup->evaluate && i < n->params; i++)
            if (m.gradient[i]) check_same_bits(again.gradient[i], m.gradient[i], ref_count(&n->param[i].start));
    }
    free_machine(&on);
    check_guards();
    test_case("%s", name);
}

/* All ways, or one half of them. */
static void check_ways(net *n, const net_setup *setup, int half, int halves)
{
    static const char *const isas[] = {NULL, "plain", "avx2", "avx512", "neon"};
    static const int cells[] = {1, 2, 3, 7, 64};
    net_reference(n, setup);
#ifdef __SANITIZE_ADDRESS__
    enum { EVERY = 4 }; /* instrumented code is slow: a part of the ways */
#else
    enum { EVERY = 1 };
#endif
    int turn = 0;
    for (int l = -1; l < 0 || bnff_level_name(l); l++)
        FOR_EACH(isa, isas) {
            const bnff_context_options options = {.size = sizeof options, .threads = 1, .max_isa = isa};
            bnff_context *probe;
            if (bnff_context_create(&options, &probe, NULL) != BNFF_OK) continue; /* not one of this machine's */
            bnff_context_destroy(&probe);
            const net_way way = {
                .level = l < 0 ? NULL : bnff_level_name(l), .isa = isa, .threads = 2,
                .cells = cells[turn % COUNT_OF(cells)], .layout = turn % 3, .accumulate = turn % 4 == 1, .some_gradients = turn % 7 == 3,
                .small_caches = turn % 2,
            };
            if (turn % EVERY == 0 && turn / EVERY / 2 % halves == half) net_check_way(n, setup, &way);
            turn++;
        }
    FOR_EACH(c, cells)
        if (c_at % EVERY == 0 && c % halves == half) net_check_way(n, setup, &(net_way){.threads = c % 3 + 1, .cells = c});
}

void net_check(net *n, const net_setup *setup)
{
    static const char *const algorithms[] = {"direct", "auto"};
    if (setup->algorithm) check_ways(n, setup, 0, 1);
    for (int half = 0; !setup->algorithm && half < 2; half++) {
        net_setup by = *setup;
        by.algorithm = algorithms[half];
        check_ways(n, &by, half, 2);
    }
}
