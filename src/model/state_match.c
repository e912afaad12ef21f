#include "model/state_match.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

char *bf_batches_name(const char *running)
{
    bf_text text = {0};
    const char *dot = strrchr(running, '.');
    bf_text_append(&text, running, dot ? (size_t)(dot + 1 - running) : 0);
    bf_text_add(&text, "num_batches_tracked");
    return bf_text_take(&text);
}

/* -- Names -------------------------------------------------------------------------------------------------------- */

/* The file's tensor of this name, or without the prefix that bnff_weights_open strips; -1 if there is none. */
static int find_tensor(const bf_match *m, const char *name)
{
    const int entry = bnff_weights_find(m->weights, name);
    return entry < 0 && !strncmp(name, "module.", 7) ? bnff_weights_find(m->weights, name + 7) : entry;
}

static bool belongs_to(const char *name, const char *layer)
{
    const size_t length = layer ? strlen(layer) : 0;
    return layer && !strncmp(name, layer, length) && name[length] == '.' && !strchr(name + length + 1, '.');
}

/* -- Shapes ------------------------------------------------------------------------------------------------------- */

static bool same_but(const bnff_param_info *param, const bnff_weights_entry *entry, int ignored)
{
    if (param->rank != entry->rank) return false;
    for (int i = 0; i < param->rank; i++)
        if (i != ignored && param->shape[i] != entry->shape[i]) return false;
    return true;
}

static bf_fit judge(const bnff_param_info *param, const bnff_weights_entry *entry, const char *classifier, bool stem)
{
    if (same_but(param, entry, -1)) return BF_FIT_EXACT;
    if (belongs_to(param->name, classifier) && same_but(param, entry, 0) && entry->shape[0] > 0) return BF_FIT_HEAD;
    if (stem && same_but(param, entry, 1) && (entry->shape[1] == 3 || entry->shape[1] == 1)) return BF_FIT_STEM;
    return BF_FIT_SHAPE;
}

static bnff_status match_batches(bf_match *m, int index, const char *running_mean, bnff_error *error)
{
    char *name = bf_batches_name(running_mean);
    if (!name) return bf_fail(error, BNFF_E_MEMORY, "no memory to look for num_batches_tracked");
    m->batches[index] = find_tensor(m, name);
    bf_free(name);
    bnff_weights_entry entry;
    if (bnff_weights_get(m->weights, m->batches[index], &entry)) {
        m->taken[m->batches[index]] = true;
        m->misshaped += entry.elements != 1;
    }
    return BNFF_OK;
}

/* The head's weight and bias must have the same number of classes in the file; if not, neither is of use. */
static void check_head(bf_match *m, const char *classifier)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    int64_t classes = -1;
    bool agree = true;
    for (int i = 0; i < m->params && bnff_graph_param(m->graph, i, &param); i++) {
        if (!belongs_to(param.name, classifier) || !bnff_weights_get(m->weights, m->entry[i], &entry) || !entry.rank) continue;
        if (classes >= 0 && entry.shape[0] != classes) agree = false;
        classes = entry.shape[0];
    }
    for (int i = 0; i < m->params && !agree; i++)
        if (m->fit[i] == BF_FIT_HEAD) m->fit[i] = BF_FIT_SHAPE, m->misshaped++;
}

static bnff_status match_params(bf_match *m, const char *classifier, bnff_error *error)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    bool first = true;
    for (int i = 0; i < m->params && bnff_graph_param(m->graph, i, &param); i++) {
        const bool stem = first && param.kind == BNFF_PARAM_CONV_WEIGHT;
        if (stem) first = false;
        m->batches[i] = -1;
        if (param.kind == BNFF_PARAM_RUNNING_MEAN) BF_TRY(match_batches(m, i, param.name, error));
        m->entry[i] = find_tensor(m, param.name);
        m->fit[i] = BF_FIT_MISSING;
        if (bnff_weights_get(m->weights, m->entry[i], &entry)) {
            m->taken[m->entry[i]] = true;
            m->fit[i] = judge(&param, &entry, classifier, stem);
        }
        m->missing += m->fit[i] == BF_FIT_MISSING;
        m->misshaped += m->fit[i] == BF_FIT_SHAPE;
    }
    check_head(m, classifier);
    for (int i = 0; i < m->entries; i++) m->unexpected += !m->taken[i];
    return BNFF_OK;
}

void bf_match_free(bf_match *match)
{
    bf_free(match->entry);
    bf_free(match->batches);
    bf_free(match->fit);
    bf_free(match->taken);
    *match = (bf_match){0};
}

bnff_status bf_match_make(bf_match *match, const bnff_graph *graph, const bnff_weights *weights, const char *classifier, bnff_error *error)
{
    const int params = bnff_graph_param_count(graph), entries = bnff_weights_count(weights);
    *match = (bf_match){.graph = graph, .weights = weights, .params = params, .entries = entries};
    match->entry = bf_calloc((size_t)params, sizeof *match->entry);
    match->batches = bf_calloc((size_t)params, sizeof *match->batches);
    match->fit = bf_calloc((size_t)params, sizeof *match->fit);
    match->taken = bf_calloc((size_t)entries, sizeof *match->taken);
    const bool memory = match->entry && match->batches && match->fit && match->taken;
    const bnff_status status = memory ? match_params(match, classifier, error)
                                      : bf_fail(error, BNFF_E_MEMORY, "no memory to compare names");
    if (status != BNFF_OK) bf_match_free(match);
    return status;
}
