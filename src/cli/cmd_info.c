/* bnff info: what a model or a weight file consists of. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "network.h"

struct arguments { int size, classes, channels; bool json; };

static const cli_option options[] = {
    {"size,img-size,imgsz", CLI_INT, offsetof(struct arguments, size), "N", "Side of the images that shapes and MACs are for.", 1, 4096},
    {"classes", CLI_INT, offsetof(struct arguments, classes), "N", "Of a model: default 1000, or 10 for small images.", 1, 16777216},
    {"in-chans", CLI_INT, offsetof(struct arguments, channels), "N", "Channels of the images (3).", 1, 65536},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document."},
    {0},
};

/* -- Layers -------------------------------------------------------------------------------------------------------- */

struct totals {
    json_t *layers; /* NULL: print them */
    int64_t params;
    double macs;
    int count;
};

static void on_layer(void *user, const bnff_layer_info *layer)
{
    struct totals *t = user;
    t->params += layer->params;
    t->macs += layer->macs;
    t->count++;
    if (t->layers) {
        json_array_append_new(t->layers, json_pack("{s:s, s:s, s:[iii], s:I, s:I}", "name", layer->name ? layer->name : "", "op", layer->op, "shape",
                                                   layer->shape[1], layer->shape[2], layer->shape[3], "params", (json_int_t)layer->params, "macs", (json_int_t)layer->macs));
        return;
    }
    if (!layer->params && strcmp(layer->op, "input") && strcmp(layer->op, "output")) return; /* the table shows where parameters are */
    char shape[64], params[32] = "", macs[32] = "";
    snprintf(shape, sizeof shape, "%dx%dx%d", layer->shape[1], layer->shape[2], layer->shape[3]);
    if (layer->params) cli_count(params, layer->params);
    if (layer->macs > 0) snprintf(macs, sizeof macs, "%9s", cli_si((char[32]){0}, layer->macs));
    if (!*params) printf("%-44s %-8s %14s\n", layer->name ? layer->name : "", layer->op, shape);
    else printf("%-44s %-8s %14s %12s%s%s\n", layer->name ? layer->name : "", layer->op, shape, params, *macs ? "  " : "", macs);
}

/* -- Tensors of a file --------------------------------------------------------------------------------------------- */

static const char *dtype_name(bnff_dtype dtype)
{
    static const char *const names[] = {[BNFF_F32] = "F32", [BNFF_F64] = "F64", [BNFF_F16] = "F16", [BNFF_BF16] = "BF16",
                                        [BNFF_I64] = "I64", [BNFF_I32] = "I32", [BNFF_U8] = "U8", [BNFF_BOOL] = "BOOL"};
    return (size_t)dtype < sizeof names / sizeof *names && names[dtype] ? names[dtype] : "?";
}

static void print_tensors(const bnff_weights *weights)
{
    bnff_weights_entry entry;
    printf("%-52s %-5s %s\n", "tensor", "type", "shape");
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) {
        printf("%-52s %-5s [", entry.name, dtype_name(entry.dtype));
        for (int d = 0; d < entry.rank; d++) printf("%s%lld", d ? ", " : "", (long long)entry.shape[d]);
        printf("]\n");
    }
}

static json_t *json_tensors(const bnff_weights *weights)
{
    json_t *tensors = json_array();
    bnff_weights_entry entry;
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) {
        json_t *shape = json_array();
        for (int d = 0; d < entry.rank; d++) json_array_append_new(shape, json_integer(entry.shape[d]));
        json_array_append_new(tensors, json_pack("{s:o, s:s, s:o}", "name", cli_json_string(entry.name), "dtype", dtype_name(entry.dtype), "shape",
                                                 shape));
    }
    return tensors;
}

static int64_t stored_numbers(const bnff_weights *weights)
{
    int64_t total = 0;
    bnff_weights_entry entry;
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) total += entry.elements;
    return total;
}

static void print_metadata(const bnff_weights *weights)
{
    const char *key, *value;
    for (int i = 0; bnff_weights_metadata_at(weights, i, &key, &value); i++) {
        const bool cut = strlen(value) > 72;
        printf("  %-16s %.72s%s\n", key, value, cut ? "..." : "");
    }
}

static json_t *json_metadata(const bnff_weights *weights)
{
    json_t *metadata = json_object();
    const char *key, *value;
    for (int i = 0; bnff_weights_metadata_at(weights, i, &key, &value); i++) {
        json_t *text = cli_json_string(value);
        if (json_object_set(metadata, key, text)) json_object_set(metadata, "?", text); /* a key that is not UTF-8 */
        json_decref(text);
    }
    return metadata;
}

/* -- The command --------------------------------------------------------------------------------------------------- */

static int print_json(const char *what, const cli_network *network, const struct totals *totals, int64_t bytes)
{
    json_t *document = json_pack("{s:o}", "name", cli_json_string(what));
    if (network->model) json_object_set_new(document, "model", cli_json_string(network->model));
    if (network->graph) {
        json_object_update_new(document, json_pack("{s:i, s:[iii], s:I, s:I, s:o}", "classes", network->classes, "input", network->channels, network->size,
                                                   network->size, "params", (json_int_t)totals->params, "macs", (json_int_t)totals->macs, "layers", totals->layers));
    }
    if (network->weights) {
        json_object_update_new(document, json_pack("{s:I, s:I, s:o, s:o}", "bytes", (json_int_t)bytes, "numbers",
                                                   (json_int_t)stored_numbers(network->weights),
                                                   "metadata", json_metadata(network->weights), "tensors", json_tensors(network->weights)));
    }
    return cli_json_print(document);
}

static void print_summary(const cli_network *network, const struct totals *totals)
{
    char params[32], macs[32], bytes[32];
    printf("\n%s: %d layers, %s parameters (%s as float32), %s MACs an image of %dx%dx%d, %d classes\n", network->model, totals->count,
           cli_count(params, totals->params), cli_bytes(bytes, 4.0 * (double)totals->params), cli_si(macs, totals->macs), network->size, network->size,
           network->channels, network->classes);
}

static bnff_status show(const char *what, const struct arguments *args, int *code, bnff_error *error)
{
    cli_network network;
    bnff_status status = cli_network_open(what, args->classes, args->channels, args->size, &network, error);
    if (status) return status;
    struct stat file = {0};
    if (network.weights) stat(what, &file);
    struct totals totals = {.layers = args->json && network.graph ? json_array() : NULL};
    if (!args->json && network.weights) {
        char numbers[32], bytes[32];
        printf("%s: %s, %d tensors, %s numbers\n", what, cli_bytes(bytes, (double)file.st_size), bnff_weights_count(network.weights),
               cli_count(numbers, stored_numbers(network.weights)));
        print_metadata(network.weights);
        printf("\n");
    }
    if (network.graph) {
        if (!args->json) printf("%-44s %-8s %14s %12s %9s\n", "layer", "kind", "output HxWxC", "parameters", "MACs");
        status = bnff_graph_layers(network.graph, 1, network.size, network.size, on_layer, &totals, error);
    }
    if (status == BNFF_OK && args->json) *code = print_json(what, &network, &totals, (int64_t)file.st_size);
    else if (status == BNFF_OK && network.graph) print_summary(&network, &totals);
    else if (status == BNFF_OK) print_tensors(network.weights);
    else json_decref(totals.layers);
    cli_network_close(&network);
    return status;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {0};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 1, 1);
    if (code >= 0) return code;
    bnff_error error;
    code = EXIT_DONE;
    return show(words.items[0], &args, &code, &error) ? cli_fail(&error) : code;
}

const cli_command cli_info = {
    .name = "info", .usage = "MODEL|WEIGHTS [options]", .summary = "Describe a model or a weight file", .options = options, .run = run,
    .text = "Layers with their output shapes, parameters and multiply-adds (what torchvision's tables call GFLOPS),\n"
            "or the tensors and metadata of any .safetensors or .pth file.",
    .examples = "  bnff info densenet121\n  bnff info resnet50 --size 320 --json\n  bnff info runs/train/weights/best.safetensors\n",
};
