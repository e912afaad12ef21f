#include "train/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "train/run_folder.h"

#define STATE_VERSION "1"
#define STATE_FILE "weights/last.state.safetensors"

/* -- Writing ---------------------------------------------------------------------------------------------------------- */

static bnff_status save(const char *folder, const char *file, const bnff_weights *weights, bnff_error *error)
{
    char *path = bf_run_path(folder, file);
    const bnff_status status = path ? bnff_weights_save(weights, path, error) : bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    bf_free(path);
    return status;
}

static bnff_status pack_network(const bf_network *network, const bf_card *card, bnff_weights **weights, bnff_error *error)
{
    BF_TRY(bnff_weights_create(weights, error));
    bnff_status status = bnff_state_store(network->state, *weights, error);
    if (status == BNFF_OK) status = bf_card_store(card, *weights, error);
    if (status != BNFF_OK) bnff_weights_destroy(weights);
    return status;
}

bnff_status bf_checkpoint_save_network(const char *folder, const char *file, const bf_network *network, const bf_card *card, bnff_error *error)
{
    bnff_weights *weights = NULL;
    BF_TRY(pack_network(network, card, &weights, error));
    char name[64];
    snprintf(name, sizeof name, "weights/%s", file);
    const bnff_status status = save(folder, name, weights, error);
    bnff_weights_destroy(&weights);
    return status;
}

static bnff_status store_integer(bnff_weights *weights, const char *key, int64_t value, bnff_error *error)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    return bnff_weights_set_metadata(weights, key, digits, error);
}

static bnff_status store_real(bnff_weights *weights, const char *key, double value, bnff_error *error)
{
    char digits[64];
    snprintf(digits, sizeof digits, "%a", value); /* hexadecimal: all bits */
    return bnff_weights_set_metadata(weights, key, digits, error);
}

static bnff_status store_progress(const bf_progress *p, const bf_checkpoint_identity *identity, bnff_weights *weights, bnff_error *error)
{
    char args[32];
    snprintf(args, sizeof args, "%016" PRIx64, identity->args);
    BF_TRY(bnff_weights_set_metadata(weights, "state_version", STATE_VERSION, error));
    BF_TRY(bnff_weights_set_metadata(weights, "state_args", args, error));
    BF_TRY(store_integer(weights, "state_train_images", identity->train_images, error));
    BF_TRY(store_integer(weights, "state_val_images", identity->val_images, error));
    BF_TRY(store_integer(weights, "state_batches", identity->batches, error));
    BF_TRY(store_integer(weights, "state_epoch", p->epoch, error));
    BF_TRY(store_integer(weights, "state_batch", p->batch, error));
    BF_TRY(store_integer(weights, "state_images", p->running.images, error));
    BF_TRY(store_integer(weights, "state_top1", p->running.top1, error));
    BF_TRY(store_integer(weights, "state_top5", p->running.top5, error));
    BF_TRY(store_real(weights, "state_loss_sum", p->running.loss_sum, error));
    BF_TRY(store_integer(weights, "state_best_epoch", p->best_epoch, error));
    BF_TRY(store_real(weights, "state_best_acc1", p->best_acc1, error));
    return store_real(weights, "state_best_loss", p->best_loss, error);
}

bnff_status bf_checkpoint_save(const char *folder, const bf_network *network, const bnff_optimizer *optimizer, const bf_card *card,
                               const bf_progress *progress, const bf_checkpoint_identity *identity, bnff_error *error)
{
    bnff_weights *weights = NULL;
    BF_TRY(pack_network(network, card, &weights, error));
    bnff_status status = save(folder, "weights/last.safetensors", weights, error);
    if (status == BNFF_OK) status = bnff_optimizer_store(optimizer, weights, error); /* the same set, and more */
    if (status == BNFF_OK) status = store_progress(progress, identity, weights, error);
    if (status == BNFF_OK) status = save(folder, STATE_FILE, weights, error);
    bnff_weights_destroy(&weights);
    return status;
}

/* -- Reading ---------------------------------------------------------------------------------------------------------- */

static bnff_status bad_entry(const bf_checkpoint *checkpoint, const char *key, const char *value, bnff_error *error)
{
    bf_fail(error, BNFF_E_FORMAT, "%s: metadata \"%s\" is '%.40s'", checkpoint->path, key, value ? value : "missing");
    return bf_hint(error, BNFF_E_FORMAT, "not a checkpoint this version can go on from; start a new run with --weights last.safetensors");
}

static bnff_status read_integer(const bf_checkpoint *checkpoint, const char *key, int64_t *value, bnff_error *error)
{
    const char *text = bnff_weights_metadata(checkpoint->weights, key);
    char *end = NULL;
    errno = 0;
    const long long parsed = text ? strtoll(text, &end, 10) : -1;
    if (!text || end == text || *end || errno || parsed < 0) return bad_entry(checkpoint, key, text, error);
    *value = parsed;
    return BNFF_OK;
}

static bnff_status read_real(const bf_checkpoint *checkpoint, const char *key, double *value, bnff_error *error)
{
    const char *text = bnff_weights_metadata(checkpoint->weights, key);
    char *end = NULL;
    const double parsed = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !isfinite(parsed)) return bad_entry(checkpoint, key, text, error);
    *value = parsed;
    return BNFF_OK;
}

static bnff_status read_progress(bf_checkpoint *c, bnff_error *error)
{
    const char *version = bnff_weights_metadata(c->weights, "state_version"), *args = bnff_weights_metadata(c->weights, "state_args");
    if (!version || strcmp(version, STATE_VERSION)) return bad_entry(c, "state_version", version, error);
    if (!args || sscanf(args, "%" SCNx64, &c->identity.args) != 1) return bad_entry(c, "state_args", args, error);
    BF_TRY(read_integer(c, "state_train_images", &c->identity.train_images, error));
    BF_TRY(read_integer(c, "state_val_images", &c->identity.val_images, error));
    BF_TRY(read_integer(c, "state_batches", &c->identity.batches, error));
    BF_TRY(read_integer(c, "state_epoch", &c->progress.epoch, error));
    BF_TRY(read_integer(c, "state_batch", &c->progress.batch, error));
    BF_TRY(read_integer(c, "state_images", &c->progress.running.images, error));
    BF_TRY(read_integer(c, "state_top1", &c->progress.running.top1, error));
    BF_TRY(read_integer(c, "state_top5", &c->progress.running.top5, error));
    BF_TRY(read_real(c, "state_loss_sum", &c->progress.running.loss_sum, error));
    BF_TRY(read_integer(c, "state_best_epoch", &c->progress.best_epoch, error));
    BF_TRY(read_real(c, "state_best_acc1", &c->progress.best_acc1, error));
    BF_TRY(read_real(c, "state_best_loss", &c->progress.best_loss, error));
    if (c->progress.batch > c->identity.batches) return bad_entry(c, "state_batch", bnff_weights_metadata(c->weights, "state_batch"), error);
    return BNFF_OK;
}

bnff_status bf_checkpoint_open(const char *folder, bf_checkpoint *checkpoint, bnff_error *error)
{
    *checkpoint = (bf_checkpoint){0};
    checkpoint->path = bf_run_path(folder, STATE_FILE);
    if (!checkpoint->path) return bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    if (!bf_is_file(checkpoint->path)) return BNFF_OK;
    bnff_status status = bnff_weights_open(checkpoint->path, &checkpoint->weights, error);
    if (status == BNFF_OK) status = read_progress(checkpoint, error);
    if (status != BNFF_OK) bf_checkpoint_close(checkpoint);
    return status;
}

void bf_checkpoint_close(bf_checkpoint *checkpoint)
{
    bnff_weights_destroy(&checkpoint->weights);
    bf_free(checkpoint->path);
    *checkpoint = (bf_checkpoint){0};
}

static bool is_moment(const bnff_weights_entry *entry) { return !strncmp(entry->name, "optimizer.", 10); }

/* The set without an optimizer's tensors; NULL where it has none, and can be used as it is. */
static bnff_status without_moments(const bnff_weights *weights, bnff_weights **network, bnff_error *error)
{
    bnff_weights_entry entry;
    bool any = false;
    for (int i = 0; !any && bnff_weights_get(weights, i, &entry); i++) any = is_moment(&entry);
    if (!any) return BNFF_OK;
    BF_TRY(bnff_weights_create(network, error));
    bnff_status status = BNFF_OK;
    for (int i = 0; status == BNFF_OK && bnff_weights_get(weights, i, &entry); i++)
        if (!is_moment(&entry)) status = bnff_weights_add(*network, &entry, error);
    if (status != BNFF_OK) bnff_weights_destroy(network);
    return status;
}

/* "missing:\n  a\n  b\nunexpected:\n  c\n" becomes "missing: a, b; unexpected: c". */
static void one_line(char *text)
{
    char *to = text;
    bool heading = true;
    for (const char *from = text; *from; from++) {
        if (*from != '\n') {
            *to++ = *from;
            continue;
        }
        const bool item = from[1] == ' ';
        if (from[1]) *to++ = heading ? ' ' : item ? ',' : ';';
        if (from[1] && !heading) *to++ = ' ';
        heading = !item;
        while (from[1] == ' ') from++;
    }
    *to = '\0';
}

/* Add the lists of what does not fit to the message. */
static void add_detail(char *detail, bnff_error *error)
{
    if (!error || !detail[0]) return;
    one_line(detail);
    const size_t length = strlen(error->message);
    snprintf(error->message + length, sizeof error->message - length, "; %s", detail);
}

bnff_status bf_network_load(bf_network *network, const bnff_weights *weights, const char *classifier, bnff_load_report *report, bnff_error *error)
{
    bnff_weights *tensors = NULL;
    BF_TRY(without_moments(weights, &tensors, error));
    const bnff_status status = bnff_state_load(network->state, tensors ? tensors : weights, classifier, report, error);
    if (status != BNFF_OK) add_detail(report->detail, error);
    bnff_weights_destroy(&tensors);
    return status;
}

bnff_status bf_checkpoint_restore(const bf_checkpoint *checkpoint, bf_network *network, bnff_optimizer *optimizer, bnff_error *error)
{
    bnff_load_report report = {0};
    BF_TRY(bf_network_load(network, checkpoint->weights, NULL, &report, error));
    return bnff_optimizer_load(optimizer, checkpoint->weights, error);
}
