#include "model/zoo.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const bf_family *const families[] = {&bf_densenet, &bf_resnet, &bf_resnet_cifar, &bf_vgg, &bf_mobilenet, &bf_mobilenet_v3, &bf_efficientnet, &bf_mnasnet, &bf_regnet,
                                          &bf_shufflenet, &bf_squeezenet, &bf_googlenet};
enum { FAMILIES = sizeof families / sizeof *families, MAX_NAMES = 128 };

bf_layer bf_layer_name(const char *format, ...)
{
    bf_layer name;
    va_list args;
    va_start(args, format);
    vsnprintf(name.text, sizeof name.text, format, args);
    va_end(args);
    return name;
}

static const bnff_model_info *member(const bf_family *family, int index)
{
    return (const bnff_model_info *)((const char *)family->members + (size_t)index * family->size);
}

bool bnff_model_list(int index, bnff_model_info *info)
{
    for (int f = 0; f < FAMILIES && index >= 0; index -= families[f++]->count)
        if (index < families[f]->count) return *info = *member(families[f], index), true;
    return false;
}

const bf_family *bf_family_of(const char *name, const bnff_model_info **info, bnff_model_info *matched)
{
    for (int f = 0; name && f < FAMILIES; f++) {
        const bf_family *family = families[f];
        for (int i = 0; i < family->count; i++) {
            *info = member(family, i);
            if (!(*info)->pattern && !strcmp(name, (*info)->name)) return family;
        }
        *info = matched;
        if (family->match && family->match(name, matched)) return family;
    }
    return NULL;
}

bool bnff_model_find(const char *name, bnff_model_info *info)
{
    const bnff_model_info *found;
    bnff_model_info matched;
    if (!bf_family_of(name, &found, &matched)) return false;
    if (info) *info = *found;
    return true;
}

const char *bnff_model_nearest(const char *name)
{
    const char *names[MAX_NAMES];
    char lower[64]; /* names are lower case, and bf_nearest compares no more than this */
    size_t length = 0;
    for (; name && name[length] && length < sizeof lower - 1; length++) lower[length] = (char)tolower((unsigned char)name[length]);
    lower[length] = '\0';

    int count = 0;
    bnff_model_info info;
    for (int i = 0; count < MAX_NAMES && bnff_model_list(i, &info); i++) {
        if (info.pattern) continue;
        if (!strncmp(info.name, lower, length)) return info.name; /* "resnext50" is the beginning of "resnext50_32x4d" */
        names[count++] = info.name;
    }
    return bf_nearest(lower, names, count);
}

static bnff_status unknown_model(const char *name, bnff_error *error)
{
    if (!name) return bf_fail(error, BNFF_E_ARG, "no model is named");
    for (int f = 0; f < FAMILIES; f++) {
        const char *reason = families[f]->reason ? families[f]->reason(name) : NULL;
        if (!reason) continue;
        bf_fail(error, BNFF_E_ARG, "model '%s': %s", name, reason);
        return bf_hint(error, BNFF_E_ARG, "a similar one is '%s'", bnff_model_nearest(name));
    }
    bf_fail(error, BNFF_E_ARG, "unknown model '%s'", name);
    return bf_hint(error, BNFF_E_ARG, "did you mean '%s'? 'bnff models' lists them all", bnff_model_nearest(name));
}

static bnff_status check_options(const char *name, const bf_family *family, const bnff_model_options *options, bnff_error *error)
{
    if (options->classes < 1) return bf_fail(error, BNFF_E_ARG, "model '%s': %d classes, there must be at least 1", name, options->classes);
    if (options->channels < 0) return bf_fail(error, BNFF_E_ARG, "model '%s': %d image channels", name, options->channels);
    if (!(options->dropout < 1)) return bf_fail(error, BNFF_E_ARG, "model '%s': dropout %g is not below 1", name, (double)options->dropout);
    if (options->dropout > 0 && !family->has_dropout) return bf_fail(error, BNFF_E_ARG, "model '%s' has no dropout", name);
    return BNFF_OK;
}

bnff_status bnff_model_build(bnff_graph *graph, const char *name, const bnff_model_options *options, bnff_error *error)
{
    const bnff_model_info *info;
    bnff_model_info matched;
    const bf_family *family = bf_family_of(name, &info, &matched);
    if (!family) return unknown_model(name, error);
    if (!options) return bf_fail(error, BNFF_E_ARG, "model '%s': the number of classes is not given", name);
    BF_TRY(check_options(name, family, options, error));
    BF_TRY(bnff_graph_status(graph, error));
    if (bnff_graph_param_count(graph)) return bf_fail(error, BNFF_E_ARG, "model '%s': the graph it is built into is not empty", name);
    const bnff_value image = bnff_input(graph, "input", options->channels ? options->channels : 3);
    bnff_output(graph, family->build(graph, info, image, options));
    return bnff_graph_status(graph, error);
}
