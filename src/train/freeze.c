#include "train/freeze.h"

#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

static bool in_layer(const char *param, const char *layer)
{
    const size_t length = strlen(layer);
    return !strncmp(param, layer, length) && param[length] == '.';
}

/* Length of the name of the model's child that a parameter belongs to; the container "features" is looked into. */
static size_t child_length(const char *param)
{
    const size_t container = strncmp(param, "features.", 9) ? 0 : 9;
    return container + strcspn(param + container, ".");
}

static void freeze_backbone(const bnff_graph *graph, const char *classifier, bf_freeze *freeze)
{
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(graph, i, &info); i++) freeze->params[i] = !info.is_buffer && !in_layer(info.name, classifier);
}

static bnff_status freeze_leading(const bnff_graph *graph, const char *what, bf_freeze *freeze, bnff_error *error)
{
    const long wanted = strtol(what, NULL, 10); /* saturates, which the count below refuses */
    const char *last = "";
    size_t last_length = 0;
    long layers = 0;
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(graph, i, &info); i++) {
        const size_t length = child_length(info.name);
        if (length != last_length || strncmp(info.name, last, length)) layers++, last = info.name, last_length = length;
        freeze->params[i] = !info.is_buffer && layers <= wanted;
    }
    if (wanted < layers) return BNFF_OK;
    return bf_fail(error, BNFF_E_ARG, "--freeze %s: the model has %ld layers with parameters, and one must be left to train", what, layers);
}

static bnff_status freeze_matching(const bnff_graph *graph, const char *what, bf_freeze *freeze, bnff_error *error)
{
    regex_t regex;
    const int code = regcomp(&regex, what, REG_EXTENDED | REG_NOSUB);
    if (code) {
        char reason[128];
        regerror(code, &regex, reason, sizeof reason);
        return bf_fail(error, BNFF_E_ARG, "--freeze '%s': neither backbone nor a number, and as a regular expression: %s", what, reason);
    }
    int matches = 0;
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(graph, i, &info); i++) {
        freeze->params[i] = !info.is_buffer && !regexec(&regex, info.name, 0, NULL, 0);
        matches += freeze->params[i];
    }
    regfree(&regex);
    if (matches) return BNFF_OK;
    const bool named = bnff_graph_param(graph, 0, &info);
    bf_fail(error, BNFF_E_ARG, "--freeze '%s': no parameter's name matches", what);
    return bf_hint(error, BNFF_E_ARG, "names look like '%s'; `bnff info MODEL` lists them", named ? info.name : "");
}

static bool is_number(const char *text)
{
    if (!*text) return false;
    for (; *text; text++)
        if (!isdigit((unsigned char)*text)) return false;
    return true;
}

static void freeze_batchnorms(const bnff_graph *graph, bool affine, bf_freeze *freeze)
{
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(graph, i, &info); i++) {
        freeze->stats[i] = info.kind == BNFF_PARAM_RUNNING_MEAN;
        freeze->bn_frozen += freeze->stats[i];
        if (affine && (info.kind == BNFF_PARAM_BN_WEIGHT || info.kind == BNFF_PARAM_BN_BIAS)) freeze->params[i] = freeze->lasting[i] = true;
    }
}

static bnff_status choose(const bnff_graph *graph, const char *what, const char *bn, const char *classifier, bf_freeze *freeze, bnff_error *error)
{
    if (what && !strcmp(what, "backbone")) freeze_backbone(graph, classifier, freeze);
    else if (what && is_number(what)) BF_TRY(freeze_leading(graph, what, freeze, error));
    else if (what) BF_TRY(freeze_matching(graph, what, freeze, error));
    if (bn) freeze_batchnorms(graph, !strcmp(bn, "all"), freeze);
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(graph, i, &info); i++) {
        freeze->total += !info.is_buffer;
        freeze->frozen += freeze->params[i];
    }
    if (freeze->frozen < freeze->total) return BNFF_OK;
    return bf_fail(error, BNFF_E_ARG, "--freeze '%s' leaves no parameter to train", what ? what : "");
}

bnff_status bf_freeze_create(const bnff_graph *graph, const char *what, const char *bn, const char *classifier, bf_freeze *freeze, bnff_error *error)
{
    *freeze = (bf_freeze){0};
    const size_t count = (size_t)bnff_graph_param_count(graph);
    freeze->params = bf_calloc(count, sizeof *freeze->params);
    freeze->lasting = bf_calloc(count, sizeof *freeze->lasting);
    freeze->stats = bf_calloc(count, sizeof *freeze->stats);
    bnff_status status;
    if (freeze->params && freeze->lasting && freeze->stats) status = choose(graph, what, bn, classifier, freeze, error);
    else status = bf_fail(error, BNFF_E_MEMORY, "no memory for %zu parameters' flags", count);
    if (status != BNFF_OK) bf_freeze_destroy(freeze);
    return status;
}

void bf_freeze_destroy(bf_freeze *freeze)
{
    bf_free(freeze->params);
    bf_free(freeze->lasting);
    bf_free(freeze->stats);
    *freeze = (bf_freeze){0};
}

void bf_freeze_thaw(bf_freeze *freeze, int count)
{
    memcpy(freeze->params, freeze->lasting, (size_t)count * sizeof *freeze->params);
}
