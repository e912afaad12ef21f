/* Taking a run up again where its newest checkpoint left it. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "train/run_folder.h"
#include "train/trainer.h"

static bnff_status read_args(bnff_trainer *t, const char *folder, bf_machine *machine, bnff_error *error)
{
    char *path = bf_run_path(folder, "args.json");
    if (!path) return bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    void *text = NULL;
    size_t size;
    bnff_status status = BNFF_OK;
    if (!bf_is_file(path)) {
        status = bf_fail(error, BNFF_E_IO, "%s: no run to resume: it has no args.json", folder);
        bf_hint(error, status, "name the folder that `bnff train` made, such as runs/train");
    } else {
        status = bf_file_read(path, (size_t)1 << 20, &text, &size, error);
    }
    if (status == BNFF_OK) status = bf_args_read(text, path, &t->config, machine, error);
    bf_free(text);
    bf_free(path);
    return status;
}

static void compare_machines(bnff_trainer *t, const bf_machine *then)
{
    if (strcmp(then->isa, t->machine.isa))
        bf_warn(t, "the run began with %s kernels and goes on with %s: the last bits may differ from an uninterrupted run", then->isa, t->machine.isa);
    if (then->threads != t->machine.threads)
        bf_warn(t, "the run began with %d threads and goes on with %d; its %d cells are kept, so results do not change", then->threads,
                t->machine.threads, t->config.options.cells);
}

static bnff_status check_same_data(const bnff_trainer *t, const bf_checkpoint *c, bnff_error *error)
{
    if (c->identity.train_images == t->identity.train_images && c->identity.val_images == t->identity.val_images &&
        c->identity.batches == t->identity.batches) return BNFF_OK;
    bf_fail(error, BNFF_E_STATE, "%s: the data has changed since the run began: %" PRId64 " + %" PRId64 " images then, %" PRId64 " + %" PRId64 " now",
            t->config.options.data, c->identity.train_images, c->identity.val_images, t->identity.train_images, t->identity.val_images);
    return bf_hint(error, BNFF_E_STATE, "start a new run with --weights %s/weights/last.safetensors", t->folder);
}

/* Weights to start again from: the checkpoint's own preprocessing, or the file the run was fine-tuned from. */
static bnff_status prepare_again(bnff_trainer *t, const bf_checkpoint *c, bnff_error *error)
{
    bnff_weights *opened = NULL;
    bf_card card = {0};
    const char *path = c->weights ? c->path : t->config.options.weights;
    bnff_status status = BNFF_OK;
    if (!c->weights && path) status = bnff_weights_open(path, &opened, error);
    if (status == BNFF_OK && path) status = bf_card_read(c->weights ? c->weights : opened, path, &card, error);
    if (status == BNFF_OK) status = bf_trainer_prepare(t, opened, &card, error);
    bf_card_free(&card);
    bnff_weights_destroy(&opened);
    return status;
}

static bnff_status go_on(bnff_trainer *t, bf_checkpoint *c, const bf_machine *then, bnff_error *error)
{
    if (!c->weights) bf_warn(t, "%s: it has no checkpoint: starting from the beginning", t->folder);
    /* A folder used again (exist_ok) and stopped before its first save still holds the checkpoint of the run before. */
    else if (c->identity.args != bf_args_identity(&t->config.options)) {
        bf_warn(t, "%s belongs to an earlier run in this folder: starting from the beginning", c->path);
        bnff_weights_destroy(&c->weights);
        c->progress = (bf_progress){0};
    }
    BF_TRY(prepare_again(t, c, error));
    compare_machines(t, then);
    if (c->weights) {
        BF_TRY(check_same_data(t, c, error));
        BF_TRY(bf_checkpoint_restore(c, &t->network, t->optimizer, error));
        t->progress = c->progress;
        t->saved_step = bf_trainer_total_step(t);
        if (t->progress.epoch < t->config.options.epochs)
            bf_text_add(&t->notes, "resumed at epoch %" PRId64 ", step %" PRId64 "\n", t->progress.epoch + 1, t->saved_step);
        else bf_text_add(&t->notes, "resumed at its end: all its epochs are done, --epochs N adds more\n");
    }
    bf_run_folder_sweep(t->folder);
    BF_TRY(bf_trainer_write_args(t, then, error)); /* overrides last too */
    return bf_journal_rewind(t, error);
}

static bnff_status resume(bnff_trainer *t, const char *folder, const bnff_train_options *overrides, bnff_error *error)
{
    bf_machine then = {0};
    bf_text changes = {0};
    BF_TRY(read_args(t, folder, &then, error));
    bnff_status status = bf_args_override(&t->config, overrides, &changes, error);
    if (changes.length) bf_warn(t, "%s", changes.data);
    bf_text_free(&changes);
    if (status != BNFF_OK) return status;
    t->resumed = true;
    if (!(t->folder = bf_strdup(folder))) return bf_fail(error, BNFF_E_MEMORY, "no memory for a folder name");
    BF_TRY(bf_run_folder_lock(folder, &t->lock, error));
    bf_checkpoint checkpoint;
    BF_TRY(bf_checkpoint_open(folder, &checkpoint, error));
    status = go_on(t, &checkpoint, &then, error);
    bf_checkpoint_close(&checkpoint);
    return status;
}

bnff_status bnff_trainer_resume(bnff_context *context, const char *run_dir, const bnff_train_options *overrides, bnff_trainer **trainer, bnff_error *error)
{
    *trainer = NULL;
    bnff_trainer *t = bf_trainer_allocate(context);
    if (!t) return bf_fail(error, BNFF_E_MEMORY, "no memory for a trainer");
    const bnff_status status = resume(t, run_dir, overrides, error);
    if (status != BNFF_OK) bnff_trainer_destroy(&t);
    *trainer = t;
    return status;
}
