/* bnff plan: how a training step of a network would run here. */
#include "cli.h"

#include <jansson.h>
#include <string.h>

#include "network.h"

struct arguments {
    int batch, height, width, classes, channels, threads, cells;
    const char *level, *algorithm, *svg;
    bool evaluate, json;
};

static bool parse_size(void *arguments, const char *text, char *why, size_t size)
{
    struct arguments *args = arguments;
    return cli_parse_sides(text, &args->height, &args->width, why, size);
}

#define FIELD(name) offsetof(struct arguments, name)
static const cli_option options[] = {
    {"batch-size,batch,b", CLI_INT, FIELD(batch), "N", "Images a step (32).", 1, 65536},
    {"size,img-size,imgsz", CLI_CUSTOM, 0, "N|HxW", "Side of the images, or height x width. Default: of the weights or the model.", .parse = parse_size},
    {"classes", CLI_INT, FIELD(classes), "N", "Default: of the weights, else 1000, or 10 for small images.", 1, 16777216},
    {"in-chans", CLI_INT, FIELD(channels), "N", "Channels of the images (3).", 1, 65536},
    {"level", CLI_STRING, FIELD(level), "NAME", "How far batch normalization is restructured."},
    {"conv", CLI_STRING, FIELD(algorithm), "NAME", CLI_CONV_HELP},
    {"cells", CLI_INT, FIELD(cells), "N", "Parts the work is cut into (threads).", 1, 4096},
    {"threads,t", CLI_INT, FIELD(threads), "N", "Plan for N threads, which need not be there.", 1, 4096},
    {"svg", CLI_STRING, FIELD(svg), "FILE", "Also draw the plan beside the unrestructured one, with their sweeps over memory."},
    {"eval", CLI_FLAG, FIELD(evaluate), NULL, "Plan an evaluation instead of a training step."},
    {"json", CLI_FLAG, FIELD(json), NULL, "One JSON document."},
    {0},
};

static bnff_plan_options options_of(const struct arguments *args, const cli_network *network, const char *level)
{
    return (bnff_plan_options){.size = sizeof(bnff_plan_options), .batch = args->batch,
                               .height = args->height ? args->height : network->size, .width = args->width ? args->width : network->size,
                               .mode = args->evaluate ? BNFF_EVALUATE : BNFF_TRAIN, .level = level, .algorithm = args->algorithm, .cells = args->cells};
}

/* The same at every level: memory and modelled traffic, as lines or JSON objects. */
static bnff_status compare_levels(bnff_context *context, const cli_network *network, const struct arguments *args, json_t *json, bnff_error *error)
{
    const char *level;
    if (!json) printf("\nEvery level, this one and the others\n  %-10s %14s %16s\n", "level", "memory", "main memory");
    for (int i = 0; (level = bnff_level_name(i)) != NULL; i++) {
        const bnff_plan_options plan_options = options_of(args, network, level);
        bnff_plan *plan = NULL;
        const bnff_status status = bnff_plan_create(context, network->graph, &plan_options, &plan, error);
        if (status) return status;
        bnff_plan_info info = {.size = sizeof info};
        bnff_plan_describe(plan, &info);
        bnff_plan_destroy(&plan);
        if (json)
            json_array_append_new(json, json_pack("{s:s, s:I, s:f, s:f, s:i}", "level", level, "arena_bytes", (json_int_t)info.arena_bytes, "modelled_traffic_bytes",
                                                  info.traffic_bytes, "modelled_line_bytes", info.line_bytes, "batchnorms_fused", info.batchnorms_fused));
        else printf("  %-10s %10.1f MiB %10.2f GB/step\n", level, (double)info.arena_bytes / 1048576, info.traffic_bytes / 1e9);
    }
    return BNFF_OK;
}

static int draw(bnff_context *context, const cli_network *network, const struct arguments *args, const bnff_plan *plan, bnff_error *error)
{
    const bnff_plan_options before = options_of(args, network, bnff_level_name(0));
    bnff_plan *layerwise = NULL;
    char *svg = NULL;
    cli_output output;
    bnff_status status = bnff_plan_create(context, network->graph, &before, &layerwise, error);
    if (status == BNFF_OK) status = bnff_plan_draw(layerwise, plan, &svg, error);
    bnff_plan_destroy(&layerwise);
    int code = status ? cli_fail(error) : cli_output_open(&output, args->svg);
    if (code == EXIT_DONE) {
        fputs(svg, output.file);
        code = cli_output_close(&output, true);
    }
    bnff_free(svg);
    return code;
}

static int print(bnff_context *context, const cli_network *network, const struct arguments *args, const bnff_plan *plan, bnff_error *error)
{
    char *text = NULL;
    int code = EXIT_DONE;
    bnff_status status = bnff_plan_print(plan, args->json, &text, error);
    if (status == BNFF_OK && args->json) {
        json_t *document = json_loads(text, 0, NULL), *levels = json_array();
        status = compare_levels(context, network, args, levels, error);
        json_object_set_new(document, "levels", levels);
        if (status == BNFF_OK) code = cli_json_print(document);
        else json_decref(document);
    } else if (status == BNFF_OK) {
        fputs(text, stdout);
        status = compare_levels(context, network, args, NULL, error);
    }
    bnff_free(text);
    return status ? cli_fail(error) : code;
}

static int show(bnff_context *context, const char *what, const struct arguments *args, bnff_error *error)
{
    cli_network network;
    if (cli_network_open(what, args->classes, args->channels, 0, &network, error)) return cli_fail(error);
    bnff_plan *plan = NULL;
    int code;
    if (!network.graph) {
        error->status = BNFF_E_ARG;
        snprintf(error->message, sizeof error->message, "%s: does not say which model it is", what);
        snprintf(error->hint, sizeof error->hint, "name the model instead: 'bnff models' lists them");
        code = cli_fail(error);
    } else {
        const bnff_plan_options plan_options = options_of(args, &network, args->level);
        code = bnff_plan_create(context, network.graph, &plan_options, &plan, error) ? cli_fail(error) : EXIT_DONE;
        if (code == EXIT_DONE && args->svg) code = draw(context, &network, args, plan, error);
        if (code == EXIT_DONE && !(args->svg && !strcmp(args->svg, "-"))) code = print(context, &network, args, plan, error);
    }
    bnff_plan_destroy(&plan);
    cli_network_close(&network);
    return code;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.batch = 32};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 1, 1);
    if (code >= 0) return code;
    bnff_error error = {0};
    bnff_context *context = NULL;
    code = cli_context(args.threads, &context, &error) ? cli_fail(&error) : show(context, words.items[0], &args, &error);
    bnff_context_destroy(&context);
    return code;
}

const cli_command cli_plan = {
    .name = "plan", .usage = "MODEL|WEIGHTS [options]", .summary = "Show how a training step would run", .options = options, .run = run,
    .text = "Every batch normalization: where its pieces run, or why they need a sweep of their own. Every task in order,\n"
            "with what is computed as it loads and stores. The memory of the step and the main-memory traffic it is\n"
            "modelled to cause, at this level and the others. BNFF_DUMP=DIR: the graph before and after each pass.",
    .examples = "  bnff plan densenet121 -b 32\n  bnff plan resnet50 -b 8 --size 320x256 --level layerwise\n  bnff plan resnet50 --svg resnet50.svg\n  bnff plan runs/train/weights/best.safetensors --json\n",
};
