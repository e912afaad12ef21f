/* bnff plan: how a training step of a network would run here. */
#include "cli.h"

#include "network.h"

struct arguments {
    int batch, size, classes, channels, threads, cells;
    const char *level, *algorithm;
    bool evaluate, json;
};

#define FIELD(name) offsetof(struct arguments, name)
static const cli_option options[] = {
    {"batch-size,batch,b", CLI_INT, FIELD(batch), "N", "Images a step (32).", 1, 65536},
    {"size,img-size,imgsz", CLI_INT, FIELD(size), "N", "Side of the images. Default: of the weights or the model.", 1, 4096},
    {"classes", CLI_INT, FIELD(classes), "N", "Default: of the weights, else 1000, or 10 for small images.", 1, 16777216},
    {"in-chans", CLI_INT, FIELD(channels), "N", "Channels of the images (3).", 1, 65536},
    {"level", CLI_STRING, FIELD(level), "NAME", "How far batch normalization is restructured."},
    {"conv", CLI_STRING, FIELD(algorithm), "NAME", CLI_CONV_HELP},
    {"cells", CLI_INT, FIELD(cells), "N", "Parts the work is cut into (threads).", 1, 4096},
    {"threads,t", CLI_INT, FIELD(threads), "N", "Plan for N threads, which need not be there.", 1, 4096},
    {"eval", CLI_FLAG, FIELD(evaluate), NULL, "Plan an evaluation instead of a training step."},
    {"json", CLI_FLAG, FIELD(json), NULL, "One JSON document."},
    {0},
};

static bnff_status print_plan(bnff_context *context, const char *what, const struct arguments *args, bnff_error *error)
{
    cli_network network;
    bnff_status status = cli_network_open(what, args->classes, args->channels, args->size, &network, error);
    if (status) return status;
    bnff_plan *plan = NULL;
    char *text = NULL;
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = args->batch, .height = network.size, .width = network.size,
                                            .mode = args->evaluate ? BNFF_EVALUATE : BNFF_TRAIN, .level = args->level,
                                            .algorithm = args->algorithm, .cells = args->cells};
    if (!network.graph) {
        error->status = status = BNFF_E_ARG;
        snprintf(error->message, sizeof error->message, "%s: does not say which model it is", what);
        snprintf(error->hint, sizeof error->hint, "name the model instead: 'bnff models' lists them");
    } else {
        status = bnff_plan_create(context, network.graph, &plan_options, &plan, error);
        if (status == BNFF_OK) status = bnff_plan_print(plan, args->json, &text, error);
    }
    if (status == BNFF_OK) fputs(text, stdout);
    bnff_free(text);
    bnff_plan_destroy(&plan);
    cli_network_close(&network);
    return status;
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
    bnff_status status = cli_context(args.threads, &context, &error);
    if (status == BNFF_OK) status = print_plan(context, words.items[0], &args, &error);
    bnff_context_destroy(&context);
    return status ? cli_fail(&error) : EXIT_DONE;
}

const cli_command cli_plan = {
    .name = "plan", .usage = "MODEL|WEIGHTS [options]", .summary = "Show how a training step would run", .options = options, .run = run,
    .text = "Every task in order, what was fused into it or why not, the memory of the step and the main-memory\n"
            "traffic it is modelled to cause.",
    .examples = "  bnff plan densenet121 -b 32\n  bnff plan resnet50 -b 8 --size 320 --level layerwise\n  bnff plan runs/train/weights/best.safetensors --json\n",
};
