/* Between a state and a file of weights. */
#include <string.h>

#include <bnff/weights.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/state.h"
#include "model/state_match.h"

/* Entries of weights are little-endian, and are given and taken as this machine's numbers here. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "state dicts need a little-endian machine");

/* -- Loading ------------------------------------------------------------------------------------------------------ */

/* One number of any dtype as an integer. */
static int64_t to_integer(const bnff_weights_entry *entry)
{
    int64_t whole;
    float value;
    if (entry->dtype == BNFF_I64) return memcpy(&whole, entry->data, sizeof whole), whole;
    bnff_weights_to_f32(entry, &value);
    return value > 0 && value < 0x1p62f ? (int64_t)value : 0;
}

/* The first convolution's weight for another number of image channels, from C to D:
 *     D = 1: w'[o,0,k] = sum_c w[o,c,k]        the answer to a gray image whose three channels are equal is the same
 *     else:  w'[o,d,k] = w[o,d mod C,k] C / D  and so is its scale for other D
 * from: [OC,C,K], to: [OC,D,K] with K = KH*KW. */
static void adapt_stem(const float *from, float *to, int64_t OC, int64_t C, int64_t D, int64_t K)
{
    const float scale = (float)C / (float)D;
    for (int64_t o = 0; o < OC; o++)
        for (int64_t d = 0; d < D; d++)
            for (int64_t k = 0; k < K; k++) {
                float sum = 0;
                for (int64_t c = 0; D == 1 && c < C; c++) sum += from[(o * C + c) * K + k];
                to[(o * D + d) * K + k] = D == 1 ? sum : from[(o * C + d % C) * K + k] * scale;
            }
}

/* Room for the file's weight of the first convolution, if it is to be adapted. The only allocation of a load: made before
 * anything is changed. */
static bnff_status stem_room(const bf_match *m, float **room, bnff_error *error)
{
    bnff_weights_entry entry;
    *room = NULL;
    for (int i = 0; i < m->params; i++) {
        if (m->fit[i] != BF_FIT_STEM || !bnff_weights_get(m->weights, m->entry[i], &entry)) continue;
        *room = bf_calloc((size_t)entry.elements, sizeof **room);
        if (!*room) return bf_fail(error, BNFF_E_MEMORY, "no memory to adapt '%s'", entry.name);
    }
    return BNFF_OK;
}

static void take_param(bnff_state *state, const bf_match *m, int i, float *room, bnff_load_report *report)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    if (!bnff_graph_param(state->graph, i, &param) || !bnff_weights_get(m->weights, m->entry[i], &entry)) return;
    if (m->fit[i] == BF_FIT_HEAD) {
        report->head_replaced = true;
        report->file_classes = entry.shape[0];
        return;
    }
    if (m->fit[i] == BF_FIT_STEM) {
        bnff_weights_to_f32(&entry, room);
        adapt_stem(room, state->params[i], entry.shape[0], entry.shape[1], param.shape[1], entry.shape[2] * entry.shape[3]);
        report->file_channels = entry.shape[1];
    } else {
        bnff_weights_to_f32(&entry, state->params[i]);
    }
    report->loaded++;
}

static void take_batches(bnff_state *state, const bf_match *m, int i, bnff_load_report *report)
{
    bnff_weights_entry entry;
    int64_t *batches = bnff_state_batches(state, i);
    if (!batches) return;
    const bool given = bnff_weights_get(m->weights, m->batches[i], &entry);
    *batches = given ? to_integer(&entry) : 0;
    report->loaded += given;
}

static bnff_status load(bnff_state *state, const bf_match *m, bnff_load_report *report, bnff_error *error)
{
    float *room;
    if (m->missing || m->unexpected || m->misshaped) return bf_match_report(m, report->detail, sizeof report->detail, error);
    BF_TRY(stem_room(m, &room, error));
    for (int i = 0; i < m->params; i++) {
        take_param(state, m, i, room, report);
        take_batches(state, m, i, report);
    }
    bf_free(room);
    return BNFF_OK;
}

bnff_status bnff_state_load(bnff_state *state, const bnff_weights *weights, const char *classifier, bnff_load_report *report,
                            bnff_error *error)
{
    bnff_load_report unread;
    bf_match match;
    if (!report) report = &unread;
    *report = (bnff_load_report){0};
    BF_TRY(bf_match_make(&match, state->graph, weights, classifier, error));
    const bnff_status status = load(state, &match, report, error);
    bf_match_free(&match);
    return status;
}

/* -- Storing ------------------------------------------------------------------------------------------------------ */

static bnff_status store_param(const bnff_state *state, int i, const bnff_param_info *param, bnff_weights *weights, bnff_error *error)
{
    bnff_weights_entry entry = {.name = param->name, .dtype = BNFF_F32, .rank = param->rank, .elements = param->elements};
    entry.data = state->params[i];
    for (int k = 0; k < param->rank; k++) entry.shape[k] = param->shape[k];
    return bnff_weights_add(weights, &entry, error);
}

static bnff_status store_batches(const char *running, const int64_t *batches, bnff_weights *weights, bnff_error *error)
{
    char *name = bf_batches_name(running);
    if (!name) return bf_fail(error, BNFF_E_MEMORY, "no memory to store num_batches_tracked");
    const bnff_status status = bnff_weights_add(weights, &(bnff_weights_entry){name, BNFF_I64, 0, {0}, 1, batches}, error);
    bf_free(name);
    return status;
}

bnff_status bnff_state_store(bnff_state *state, bnff_weights *weights, bnff_error *error)
{
    bnff_param_info param;
    const int64_t *batches = NULL; /* of the running mean before: in a state dict the count follows running_var */
    for (int i = 0; i < state->count && bnff_graph_param(state->graph, i, &param); i++) {
        BF_TRY(store_param(state, i, &param, weights, error));
        if (param.kind == BNFF_PARAM_RUNNING_MEAN) batches = &state->batches[i];
        if (param.kind == BNFF_PARAM_RUNNING_VAR && batches) BF_TRY(store_batches(param.name, batches, weights, error));
    }
    return BNFF_OK;
}
