/* bnff models: the zoo, with what each model costs. */
#include "cli.h"

#include <fnmatch.h>
#include <string.h>

#include "network.h"

struct arguments { int batch, size, threads; const char *level; bool json; };

static const cli_option options[] = {
    {"batch-size,batch,b", CLI_INT, offsetof(struct arguments, batch), "N", "Images a training step, for the planned memory (32).", 1, 65536},
    {"size,img-size", CLI_INT, offsetof(struct arguments, size), "N", "Side of the images. Default: what each model was published for.", 1, 4096},
    {"level", CLI_STRING, offsetof(struct arguments, level), "NAME", "Plan at this level of restructuring."},
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", "Plan for N threads.", 1, 4096},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document."},
    {0},
};

struct row {
    int size, classes;
    int64_t params;
    double macs;
    size_t memory;  /* of a training step; 0: it cannot be planned at this size */
};

static bnff_status examine(bnff_context *context, const char *name, const struct arguments *args, struct row *row, bnff_error *error)
{
    cli_network network;
    bnff_status status = cli_network_open(name, 0, 0, args->size, &network, error);
    if (status) return status;
    *row = (struct row){.size = network.size, .classes = network.classes, .params = cli_network_params(network.graph)};
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = args->batch, .height = row->size, .width = row->size,
                                            .mode = BNFF_TRAIN, .level = args->level};
    bnff_plan *plan = NULL;
    status = bnff_plan_create(context, network.graph, &plan_options, &plan, error);
    if (status == BNFF_OK) {
        bnff_plan_info info = {.size = sizeof info};
        bnff_plan_describe(plan, &info);
        row->macs = info.forward_flops / 2 / args->batch;
        row->memory = info.arena_bytes + info.weight_bytes;
    } else if (status == BNFF_E_SHAPE) {
        status = BNFF_OK; /* images too small for this one */
    }
    bnff_plan_destroy(&plan);
    cli_network_close(&network);
    return status;
}

static void print_row(const char *name, const struct row *row)
{
    char params[32], macs[32] = "-", memory[32] = "-";
    if (row->memory) cli_si(macs, row->macs), cli_bytes(memory, (double)row->memory);
    printf("%-18s %5d %12s %8s %10s\n", name, row->size, cli_count(params, row->params), macs, memory);
}

static json_t *json_row(const char *name, const struct row *row)
{
    return json_pack("{s:s, s:i, s:i, s:I, s:o, s:o}", "name", name, "size", row->size, "classes", row->classes, "params", (json_int_t)row->params,
                     "macs", row->memory ? json_integer((json_int_t)row->macs) : json_null(), "planned_bytes",
                     row->memory ? json_integer((json_int_t)row->memory) : json_null());
}

/* Print or collect every model that matches. Returns the number found, -1 after a failure. */
static int list(bnff_context *context, const char *glob, const struct arguments *args, json_t *models, bnff_error *error)
{
    int found = 0;
    bnff_model_info info;
    for (int i = 0; bnff_model_list(i, &info); i++) {
        if (fnmatch(glob, info.name, 0)) continue;
        if (!found++ && !models) printf("%-18s %5s %12s %8s %10s\n", "model", "size", "parameters", "MACs", "memory");
        if (info.pattern) {
            if (models) json_array_append_new(models, json_pack("{s:s, s:b}", "name", info.name, "family", true));
            else printf("%-18s %5d   any depth L and growth k\n", info.name, info.default_size);
            continue;
        }
        struct row row;
        if (examine(context, info.name, args, &row, error)) return -1;
        if (models) json_array_append_new(models, json_row(info.name, &row));
        else print_row(info.name, &row);
    }
    return found;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.batch = 32};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 0, 1);
    if (code >= 0) return code;
    const char *glob = words.count ? words.items[0] : "*";
    bnff_error error;
    bnff_context *context = NULL;
    if (cli_context(args.threads, &context, &error)) return cli_fail(&error);
    json_t *models = args.json ? json_array() : NULL;
    const int found = list(context, glob, &args, models, &error);
    bnff_context_destroy(&context);
    if (found <= 0) {
        json_decref(models);
        return found < 0 ? cli_fail(&error) : cli_fail_text("bnff models lists them all", "no model matches '%s'", glob);
    }
    if (args.json) return cli_json_print(json_pack("{s:i, s:o}", "batch", args.batch, "models", models));
    printf("\nMACs: multiply-adds of one image's forward. memory: planned, of a training step with %d images.\n", args.batch);
    return EXIT_DONE;
}

const cli_command cli_models = {
    .name = "models", .usage = "[GLOB] [options]", .summary = "List the models, and what each costs", .options = options, .run = run,
    .text = "Names, structure and parameter names are torchvision's; the small ones, for 32-pixel images, are the\npapers'.",
    .examples = "  bnff models\n  bnff models 'densenet*' -b 64\n  bnff models --json\n",
};
