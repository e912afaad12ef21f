#include "model/state.h"

#include "base/error.h"
#include "base/memory.h"

enum { ALIGN_FLOATS = 16 }; /* 64 bytes: a cache line, and the widest vector */

/* Floats that `elements` of a parameter take in the block; false on overflow. */
static bool padded(int64_t elements, size_t *floats)
{
    if (elements < 0 || !bf_size_add((size_t)elements, ALIGN_FLOATS - 1, floats)) return false;
    *floats -= *floats % ALIGN_FLOATS;
    return true;
}

static bool block_floats(const bnff_graph *graph, int count, size_t *floats)
{
    bnff_param_info info;
    size_t more;
    *floats = 0;
    for (int i = 0; i < count && bnff_graph_param(graph, i, &info); i++)
        if (!padded(info.elements, &more) || !bf_size_add(*floats, more, floats)) return false;
    return true;
}

/* Lay the parameters out in the zeroed block; gamma and running_var begin at 1. */
static void lay_out(bnff_state *state)
{
    bnff_param_info info;
    float *next = state->block;
    size_t floats;
    for (int i = 0; i < state->count && bnff_graph_param(state->graph, i, &info) && padded(info.elements, &floats); i++) {
        state->params[i] = next;
        if (info.kind == BNFF_PARAM_BN_WEIGHT || info.kind == BNFF_PARAM_SCALE || info.kind == BNFF_PARAM_RUNNING_VAR)
            for (int64_t k = 0; k < info.elements; k++) next[k] = 1.0f;
        next += floats;
    }
}

bnff_status bnff_state_create(const bnff_graph *graph, bnff_state **state, bnff_error *error)
{
    *state = NULL;
    BF_TRY(bnff_graph_status(graph, error));
    const int count = bnff_graph_param_count(graph);
    size_t floats = 0, bytes = 0;
    if (!block_floats(graph, count, &floats) || !bf_size_mul(floats, sizeof(float), &bytes))
        return bf_fail(error, BNFF_E_MEMORY, "the parameters have more elements than can be addressed");
    bnff_state *s = bf_calloc(1, sizeof *s);
    if (s) {
        *s = (bnff_state){.graph = graph, .count = count, .bytes = bytes ? bytes : sizeof(float)};
        s->params = bf_calloc((size_t)count, sizeof *s->params);
        s->batches = bf_calloc((size_t)count, sizeof *s->batches);
        s->block = bf_pages_alloc(NULL, s->bytes);
    }
    if (!s || !s->params || !s->batches || !s->block) {
        bnff_state_destroy(&s);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for %zu bytes of parameters", bytes);
    }
    lay_out(s);
    *state = s;
    return BNFF_OK;
}

void bnff_state_destroy(bnff_state **state)
{
    bnff_state *s = *state;
    if (!s) return;
    bf_pages_free(NULL, s->block, s->bytes);
    bf_free(s->params);
    bf_free(s->batches);
    bf_free(s);
    *state = NULL;
}

float *const *bnff_state_params(bnff_state *state) { return state->params; }

int64_t *bnff_state_batches(bnff_state *state, int param)
{
    bnff_param_info info;
    if (!bnff_graph_param(state->graph, param, &info) || info.kind != BNFF_PARAM_RUNNING_MEAN) return NULL;
    return &state->batches[param];
}

void bnff_state_count_batch(bnff_state *state, const bool *frozen_stats)
{
    for (int i = 0; i < state->count; i++) {
        int64_t *batches = bnff_state_batches(state, i);
        if (batches && !(frozen_stats && frozen_stats[i])) ++*batches;
    }
}
