/* The errors of convolution algorithms against float64, as JSON lines for numerics.py.
 *     numerics layers                          of single 3x3 convolutions: output, input gradient, weight gradient
 *     numerics gradients MODEL BATCH SIZE N [smooth]   of a model's whole gradient, median over N inputs; smooth: without kinks
 * Errors are relative, in the Euclidean norm. "tf32" is what rounding the operands to 11 significant bits alone does, as tensor cores do by
 * default: a simulation, the sums being exact. */
#include <bnff/bnff.h>

#include "model.h"
#include "support.h"

/* -- Layers -- */

typedef struct layer {
    const char *name;
    int images, c, oc, size;
} layer;

/* The 3x3 convolutions of stride 1 in DenseNet-121 and ResNet-50. How far a direct weight gradient is off grows with the pixels that are
 * summed, so some are also taken with few images. */
static const layer layers[] = {
    {"densenet121 block 1", 8, 128, 32, 56},  {"densenet121 block 2", 32, 128, 32, 28}, {"densenet121 block 3", 32, 128, 32, 14},
    {"densenet121 block 4", 32, 128, 32, 7},  {"resnet50 layer 1", 8, 64, 64, 56},      {"resnet50 layer 2", 16, 128, 128, 28},
    {"resnet50 layer 3", 32, 256, 256, 14},   {"resnet50 layer 4", 32, 512, 512, 7},    {"densenet121 block 3", 2, 128, 32, 14},
    {"densenet121 block 4", 2, 128, 32, 7},
};

static const bnff_conv_options options_of = {.kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .dilation = {1, 1}, .groups = 1};

typedef struct tensors {
    ref_tensor x, w, dy, y, dx, dw;
} tensors;

static void reference(tensors *t)
{
    bnff_conv_options o = options_of;
    o.out_channels = t->y.c;
    memset(t->dx.v, 0, ref_count(&t->dx) * sizeof *t->dx.v);
    memset(t->dw.v, 0, ref_count(&t->dw) * sizeof *t->dw.v);
    conv64(&t->x, t->w.v, NULL, &o, &t->y);
    conv64_backward(&t->x, t->w.v, &o, &t->dy, &t->dx, t->dw.v, NULL);
}

/* x as after a batch normalization and a ReLU, w and dy normal. */
static tensors make(const layer *l)
{
    tensors t = {ref_new(l->images, l->size, l->size, l->c), ref_new(l->oc, l->c, 3, 3), ref_new(l->images, l->size, l->size, l->oc),
                 ref_new(l->images, l->size, l->size, l->oc), ref_new(l->images, l->size, l->size, l->c), ref_new(l->oc, l->c, 3, 3)};
    for (size_t i = 0; i < ref_count(&t.x); i++) t.x.v[i] = fmax(0, (double)(float)random_normal());
    for (size_t i = 0; i < ref_count(&t.w); i++) t.w.v[i] = (double)(float)(random_normal() / sqrt(9.0 * l->c));
    for (size_t i = 0; i < ref_count(&t.dy); i++) t.dy.v[i] = (double)(float)random_normal();
    return t;
}

static void free_tensors(tensors *t) { ref_free(&t->x), ref_free(&t->w), ref_free(&t->dy), ref_free(&t->y), ref_free(&t->dx), ref_free(&t->dw); }

static double difference(const ref_tensor *want, const float *single, const double *twice)
{
    double off = 0, norm = 0;
    for (size_t i = 0; i < ref_count(want); i++) {
        const double d = (single ? (double)single[i] : twice[i]) - want->v[i];
        off += d * d, norm += want->v[i] * want->v[i];
    }
    return sqrt(off / norm);
}

static float *floats(const ref_tensor *t)
{
    float *f = calloc(ref_count(t), sizeof *f);
    for (size_t i = 0; i < ref_count(t); i++) f[i] = (float)t->v[i];
    return f;
}

static void print_layer(const layer *l, const char *algorithm, double y, double dx, double dw)
{
    printf("{\"layer\": \"%s\", \"images\": %d, \"channels\": [%d, %d], \"size\": %d, \"algorithm\": \"%s\", \"y\": %.4g, \"dx\": %.4g, \"dw\": %.4g}\n", l->name, l->images, l->c,
           l->oc, l->size, algorithm, y, dx, dw);
    fflush(stdout);
}

static void run_library(bnff_context *context, const layer *l, const char *algorithm, const tensors *t)
{
    bnff_error error;
    bnff_graph *graph;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    bnff_conv_options o = options_of;
    o.out_channels = l->oc;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_output(graph, bnff_conv2d(graph, "conv", bnff_input(graph, "x", l->c), &o));
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = l->images, .height = l->size, .width = l->size, .mode = BNFF_TRAIN,
                                            .algorithm = algorithm, .input_gradients = true};
    check_ok(bnff_plan_create(context, graph, &plan_options, &plan, &error), &error);
    check_ok(bnff_pool_create(context, &pool, &error), &error);
    check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
    float *x = floats(&t->x), *w = floats(&t->w), *dy = floats(&t->dy), *y = floats(&t->y), *dx = floats(&t->dx), *dw = floats(&t->dw);
    float *params[] = {w}, *gradients[] = {dw};
    const bnff_tensor in = bnff_nhwc(x, l->size, l->size, l->c), given = bnff_nhwc(dy, l->size, l->size, l->oc);
    bnff_tensor out = bnff_nhwc(y, l->size, l->size, l->oc), back = bnff_nhwc(dx, l->size, l->size, l->c);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &in, .outputs = &out, .params = params};
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &given, .param_gradients = gradients, .input_gradients = &back};
    check_ok(bnff_forward(run, &forward, &error), &error);
    check_ok(bnff_backward(run, &backward, &error), &error);
    print_layer(l, algorithm, difference(&t->y, y, NULL), difference(&t->dx, dx, NULL), difference(&t->dw, dw, NULL));
    free(x), free(w), free(dy), free(y), free(dx), free(dw);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    bnff_graph_destroy(&graph);
}

/* The nearest number of 11 significant bits. */
static void round_to_tf32(ref_tensor *t)
{
    for (size_t i = 0; i < ref_count(t); i++) {
        int exponent;
        const double mantissa = frexp(t->v[i], &exponent);
        t->v[i] = ldexp(nearbyint(ldexp(mantissa, 11)), exponent - 11);
    }
}

static void simulate_tf32(const layer *l, const tensors *exact)
{
    tensors t = make(l);
    memcpy(t.x.v, exact->x.v, ref_count(&t.x) * sizeof *t.x.v);
    memcpy(t.w.v, exact->w.v, ref_count(&t.w) * sizeof *t.w.v);
    memcpy(t.dy.v, exact->dy.v, ref_count(&t.dy) * sizeof *t.dy.v);
    round_to_tf32(&t.x), round_to_tf32(&t.w), round_to_tf32(&t.dy);
    reference(&t);
    print_layer(l, "tf32", difference(&exact->y, NULL, t.y.v), difference(&exact->dx, NULL, t.dx.v), difference(&exact->dw, NULL, t.dw.v));
    free_tensors(&t);
}

static void compare_layers(void)
{
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(NULL, &context, &error), &error);
    FOR_EACH(l, layers) {
        tensors t = make(&l);
        reference(&t);
        for (int a = 0; bnff_algorithm_name(a); a++) run_library(context, &l, bnff_algorithm_name(a), &t);
        simulate_tf32(&l, &t);
        free_tensors(&t);
    }
    bnff_context_destroy(&context);
}

/* -- Whole models -- */

static void compare_gradients(const char *model, int batch, int size, int inputs, bool smooth)
{
    ref_way ways[REF_WAYS];
    const int count = ref_model_compare(model, batch, size, inputs, smooth, ways);
    for (int w = 0; w < count; w++)
        printf("{\"model\": \"%s\", \"batch\": %d, \"size\": %d, \"inputs\": %d, \"smooth\": %s, \"level\": \"%s\", \"algorithm\": \"%s\", \"error\": %.4g}\n",
               model, batch, size, inputs, smooth ? "true" : "false", ways[w].level, ways[w].algorithm, ways[w].error);
}

int main(int argc, char **argv)
{
    test_case("numerics");
    if (argc == 2 && !strcmp(argv[1], "layers")) return compare_layers(), 0;
    if (argc >= 6 && !strcmp(argv[1], "gradients"))
        return compare_gradients(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), argc > 6 && !strcmp(argv[6], "smooth")), 0;
    fprintf(stderr, "usage: numerics layers | gradients MODEL BATCH SIZE INPUTS [smooth]\n");
    return 2;
}
