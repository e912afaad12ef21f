#include "network.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

bool cli_is_weight_file(const char *what)
{
    bnff_model_info info;
    if (bnff_model_find(what, &info)) return false;
    return strchr(what, '/') || ends_with(what, ".safetensors") || ends_with(what, ".pth") || ends_with(what, ".pt") || access(what, F_OK) == 0;
}

/* A whole number of the file's metadata, in [1, most]; 0 if it has none. */
static int metadata_number(const bnff_weights *weights, const char *key, int most)
{
    const char *text = bnff_weights_metadata(weights, key);
    const long value = text ? strtol(text, NULL, 10) : 0;
    return value >= 1 && value <= most ? (int)value : 0;
}

/* "input_size" is "[channels, height, width]". */
static void metadata_input(const bnff_weights *weights, int *channels, int *size)
{
    const char *text = bnff_weights_metadata(weights, "input_size");
    int c, h, w;
    if (!text || sscanf(text, " [ %d , %d , %d", &c, &h, &w) != 3 || c < 1 || c > 65536 || h < 1 || h > 65536) return;
    if (!*channels) *channels = c;
    if (!*size) *size = h;
}

/* The number of classes that the head in the file has, 0 if it has no such head. */
static int head_classes(const bnff_weights *weights, const char *classifier)
{
    bnff_weights_entry entry;
    char *name = cli_format("%s.weight", classifier);
    const bool found = bnff_weights_get(weights, bnff_weights_find(weights, name), &entry);
    free(name);
    return found && entry.rank == 2 && entry.shape[0] >= 1 && entry.shape[0] <= 1 << 24 ? (int)entry.shape[0] : 0;
}

/* Has the file every parameter of this model, in its shape? Then *classes is what its head has. */
static bool fits(const bnff_weights *weights, const bnff_model_info *info, int *classes)
{
    bnff_graph *graph = NULL;
    const int head = head_classes(weights, info->classifier);
    const bnff_model_options options = {.classes = head, .channels = 3};
    bool good = head && bnff_graph_create(&graph, NULL) == BNFF_OK && bnff_model_build(graph, info->name, &options, NULL) == BNFF_OK;
    bnff_param_info param;
    bnff_weights_entry entry;
    for (int i = 0; good && bnff_graph_param(graph, i, &param); i++) {
        good = bnff_weights_get(weights, bnff_weights_find(weights, param.name), &entry) && entry.rank == param.rank;
        for (int d = 0; good && d < param.rank; d++) good = entry.shape[d] == param.shape[d];
    }
    bnff_graph_destroy(&graph);
    *classes = head;
    return good;
}

/* Files of other programs do not name their model; the shapes of the tensors tell. */
static bool recognise(const bnff_weights *weights, bnff_model_info *info, int *classes)
{
    for (int i = 0; bnff_model_list(i, info); i++)
        if (!info->pattern && fits(weights, info, classes)) return true;
    *info = (bnff_model_info){0};
    return false;
}

const char *cli_recognise(const char *path)
{
    bnff_weights *weights = NULL;
    bnff_model_info info = {0};
    int classes;
    if (bnff_weights_open(path, &weights, NULL)) return NULL;
    if (!bnff_weights_metadata(weights, "model") && recognise(weights, &info, &classes))
        fprintf(stderr, "bnff: %s is recognised as %s with %d classes\n", path, info.name, classes);
    bnff_weights_destroy(&weights);
    return info.name;
}

static bnff_status open_file(const char *path, int *classes, int *channels, int *size, cli_network *network, bnff_error *error)
{
    const bnff_status status = bnff_weights_open(path, &network->weights, error);
    if (status) return status;
    const char *model = bnff_weights_metadata(network->weights, "model");
    int head = 0;
    if (!model && !recognise(network->weights, &network->info, &head)) return BNFF_OK;
    if (!model) {
        model = network->info.name;
        if (!*classes) *classes = head;
    }
    network->model = cli_format("%s", model);
    if (!bnff_model_find(model, &network->info)) return BNFF_OK; /* a model of another program: its tensors can still be listed */
    metadata_input(network->weights, channels, size);
    if (!*classes) *classes = head_classes(network->weights, network->info.classifier);
    if (!*classes) *classes = metadata_number(network->weights, "num_classes", 1 << 24);
    return BNFF_OK;
}

bnff_status cli_network_open(const char *what, int classes, int channels, int size, cli_network *network, bnff_error *error)
{
    *network = (cli_network){0};
    bnff_status status = BNFF_OK;
    if (cli_is_weight_file(what)) {
        if ((status = open_file(what, &classes, &channels, &size, network, error))) goto fail;
        if (!network->info.name) return BNFF_OK;
    } else {
        network->model = cli_format("%s", what);
        bnff_model_find(what, &network->info); /* an unknown name fails below, with the nearest one as its hint */
    }
    network->size = size ? size : network->info.default_size;
    network->classes = classes ? classes : network->size <= 64 ? 10 : 1000;
    network->channels = channels ? channels : 3;
    const bnff_model_options options = {.classes = network->classes, .channels = network->channels};
    if ((status = bnff_graph_create(&network->graph, error))) goto fail;
    if ((status = bnff_model_build(network->graph, network->model, &options, error))) goto fail;
    return BNFF_OK;
fail:
    cli_network_close(network);
    return status;
}

void cli_network_close(cli_network *network)
{
    bnff_graph_destroy(&network->graph);
    bnff_weights_destroy(&network->weights);
    free(network->model);
    *network = (cli_network){0};
}

int64_t cli_network_params(const bnff_graph *graph)
{
    int64_t total = 0;
    bnff_param_info param;
    for (int i = 0; bnff_graph_param(graph, i, &param); i++)
        if (!param.is_buffer) total += param.elements;
    return total;
}
