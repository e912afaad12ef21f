/* bnff bench serve: single steps and convolutions on request, so that another program can alternate them with somebody else's. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "bench_rig.h"

static const cli_option options[] = {
    BENCH_CONV,
    BENCH_THREADS,
    {0},
};

/* A plan of the network that is open. */
struct served_plan {
    char *level;
    bnff_plan *plan;
};

struct server {
    bnff_context *context;
    const bench_arguments *args;
    bool open;
    char *model;
    bench_network network;
    struct served_plan plans[BENCH_SIDES];
    int plan_count;
    bench_rig rig;  /* of the convolution asked for last, line; line NULL: none */
    char *line;
};

static void close_network(struct server *s)
{
    for (int i = 0; i < s->plan_count; i++) {
        bnff_plan_destroy(&s->plans[i].plan);
        free(s->plans[i].level);
    }
    s->plan_count = 0;
    if (s->open) bench_network_close(&s->network);
    s->open = false;
    free(s->model);
    s->model = NULL;
}

static void close_rig(struct server *s)
{
    if (s->line) bench_rig_close(&s->rig);
    free(s->line);
    s->line = NULL;
}

static bnff_status wrong(bnff_error *error, const char *why)
{
    *error = (bnff_error){.status = BNFF_E_ARG};
    snprintf(error->message, sizeof error->message, "%s", why);
    return BNFF_E_ARG;
}

/* The plan of a level, made at its first use. */
static bnff_status find_plan(struct server *s, const char *level, const bnff_plan **plan, bnff_error *error)
{
    if (!s->open) return wrong(error, "no network is open");
    for (int i = 0; i < s->plan_count; i++)
        if (!strcmp(s->plans[i].level, level)) return *plan = s->plans[i].plan, BNFF_OK;
    if (s->plan_count == BENCH_SIDES) return wrong(error, "too many levels");
    struct served_plan *made = &s->plans[s->plan_count];
    const bnff_status status = bench_network_plan(&s->network, level, s->args->algorithms, &made->plan, error);
    if (status) return status;
    made->level = cli_format("%s", level);
    s->plan_count++;
    return *plan = made->plan, BNFF_OK;
}

/* -- Requests: words behind the name of each; the answer, or NULL and the fault in *error --------------------------- */

static json_t *serve_probe(struct server *s, char *words, bnff_error *error)
{
    (void)words, (void)error;
    return json_pack("{s:f}", "fma_gflops", 1e-9 * bnff_measure_fma(s->context, 0.005));
}

static json_t *serve_machine(struct server *s, char *words, bnff_error *error)
{
    double read, copy;
    (void)words;
    if (bnff_measure_bandwidth(s->context, 0.3, &read, &copy, error)) return NULL;
    json_t *machine = bench_machine_json(s->context, bnff_measure_fma(s->context, 0.2), copy);
    json_object_set_new(machine, "read_gbs", json_real(1e-9 * read));
    json_object_set_new(machine, "version", json_string(bnff_version()));
    return machine;
}

/* network MODEL BATCH SIZE */
static json_t *serve_network(struct server *s, char *words, bnff_error *error)
{
    char *rest = NULL, why[160];
    const char *model = strtok_r(words, " ", &rest), *batch = strtok_r(NULL, " ", &rest), *size = strtok_r(NULL, " ", &rest);
    bench_arguments shape = {0};
    close_network(s);
    if (!model || !batch || !size) return wrong(error, "network MODEL BATCH SIZE"), NULL;
    if (!bench_parse_batch(&shape, batch, why, sizeof why) || !bench_parse_size(&shape, size, why, sizeof why)) return wrong(error, why), NULL;
    s->model = cli_format("%s", model);
    if (bench_network_open(s->context, s->model, shape.batches[0], shape.height, shape.width, &s->network, error)) return NULL;
    s->open = true;
    return json_pack("{s:s, s:i}", "model", s->model, "batch", s->network.batch);
}

/* step LEVEL */
static json_t *serve_step(struct server *s, char *words, bnff_error *error)
{
    const bnff_plan *plan;
    bench_times t;
    if (find_plan(s, words, &plan, error) || bench_plan_step(&s->network, plan, &t, error)) return NULL;
    bnff_plan_info info = {.size = sizeof info};
    bnff_plan_describe(plan, &info);
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:f}", "step_s", t.step, "forward_s", t.forward, "backward_s", t.backward, "update_s", t.update,
                     "flops", info.forward_flops + info.backward_flops, "arena_bytes", (json_int_t)info.arena_bytes, "modelled_traffic_bytes",
                     info.traffic_bytes);
}

/* memory LEVEL: the peak of two steps in a process of its own */
static json_t *serve_memory(struct server *s, char *words, bnff_error *error)
{
    const bnff_plan *plan;
    if (find_plan(s, words, &plan, error)) return NULL;
    const size_t peak = bench_child_peak(s->model, words, s->args->algorithms, &s->network, s->args->threads);
    return json_pack("{s:I}", "peak_rss_bytes", (json_int_t)peak);
}

/* The rig of this line, made where the last one was another. */
static bnff_status find_rig(struct server *s, const char *line, bnff_error *error)
{
    bench_problem problem;
    char why[160];
    if (s->line && !strcmp(s->line, line)) return BNFF_OK;
    close_rig(s);
    if (!bench_problem_parse(line, &problem, why, sizeof why)) return wrong(error, why);
    s->line = cli_format("%s", line);
    const bnff_status status = bench_rig_open(s->context, &problem, s->args->algorithms, &s->rig, error);
    if (status) close_rig(s);
    return status;
}

/* conv ROUNDS LINE: one to warm up, then so many */
static json_t *serve_conv(struct server *s, char *words, bnff_error *error)
{
    bench_rig_times times = {0};
    char *line;
    const long rounds = strtol(words, &line, 10);
    if (rounds < 1 || rounds > 1000) return wrong(error, "conv ROUNDS LINE, 1 to 1000 rounds"), NULL;
    bnff_status status = find_rig(s, line, error);
    if (status) return NULL;
    json_t *forward = json_array(), *backward = json_array();
    for (long i = -1; status == BNFF_OK && i < rounds; i++) {
        status = bench_rig_step(&s->rig, &times, error);
        if (i < 0) continue;
        json_array_append_new(forward, json_real(times.forward_s));
        json_array_append_new(backward, json_real(times.backward_s));
    }
    if (status) return json_decref(forward), json_decref(backward), NULL;
    return json_pack("{s:o, s:o, s:f, s:f}", "forward_s", forward, "backward_s", backward, "forward_flops", times.forward_flops, "backward_flops",
                     times.backward_flops);
}

static const struct { const char *name; json_t *(*serve)(struct server *s, char *words, bnff_error *error); } requests[] = {
    {"probe", serve_probe}, {"machine", serve_machine}, {"network", serve_network}, {"step", serve_step}, {"memory", serve_memory}, {"conv", serve_conv},
};

/* One line in, one line out. */
static void serve_line(struct server *s, char *line)
{
    bnff_error error = {.status = BNFF_E_ARG, .message = "requests are probe, machine, network, step, memory and conv"};
    json_t *answer = NULL;
    const size_t length = strcspn(line, " ");
    char *words = line + length + (line[length] == ' ');
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        if (strlen(requests[i].name) == length && !strncmp(line, requests[i].name, length)) answer = requests[i].serve(s, words, &error);
    if (!answer) answer = json_pack("{s:o}", "error", cli_json_string(error.message));
    json_dumpf(answer, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(answer);
    putchar('\n');
    fflush(stdout);
}

static int run(const cli_command *self, int argc, char **argv)
{
    bench_arguments args = {.algorithms = bnff_default_algorithm()};
    struct server server = {.args = &args};
    const int code = bench_begin(self, argc, argv, &args, &server.context);
    if (code >= 0) return code;
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        serve_line(&server, line);
    }
    free(line);
    close_rig(&server);
    close_network(&server);
    bnff_context_destroy(&server.context);
    return EXIT_DONE;
}

const cli_command bench_serve = {
    .name = "bench serve", .usage = "[options]", .summary = "Run single steps and convolutions on request", .options = options, .run = run,
    .text = "Reads requests from stdin, a line each, and answers each with a line of JSON, until the end of its input:\n"
            "  probe                      multiply-adds of 5 ms\n"
            "  machine                    what bench peak measures\n"
            "  network MODEL BATCH SIZE   open a network\n"
            "  step LEVEL                 one training step of it; the first of a level plans it and pages it in\n"
            "  memory LEVEL               peak memory of two steps in a process of its own\n"
            "  conv ROUNDS LINE           a convolution, as bench conv takes it: one to warm up, then ROUNDS\n"
            "So another program can alternate them with its own, as bench/run.py does with PyTorch.",
    .examples = "  echo 'conv 3 mb32_ic64_oc64_ih56_kh3_ph1' | bnff bench serve\n",
};
