/* Weight files: named tensors with string metadata. Reads .safetensors and .pth, writes .safetensors. */
#ifndef BNFF_WEIGHTS_H
#define BNFF_WEIGHTS_H

#include <bnff/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_weights bnff_weights;

typedef enum bnff_dtype { BNFF_F32, BNFF_F64, BNFF_F16, BNFF_BF16, BNFF_I64, BNFF_I32, BNFF_U8, BNFF_BOOL } bnff_dtype;

typedef struct bnff_weights_entry {
    const char *name;
    bnff_dtype dtype;
    int rank;              /* 0 to 8 */
    int64_t shape[8];
    int64_t elements;
    const void *data;      /* little-endian, row-major, any alignment; valid while the bnff_weights lives */
} bnff_weights_entry;

/**
 * Read a weight file; the format is told from its bytes. Hostile files are refused: sizes are checked before anything is
 * allocated, and a .pth is read by a restricted unpickler that builds tensors and containers and calls nothing.
 *   .safetensors: every rule of the format is enforced.
 *   .pth, of torch.save since 1.6 (zip) or before: the state dict is the outermost dict, or the one in it under the first of
 *   "model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema" that is a dict. What is no tensor is passed over.
 * In both, "module." is stripped if all names begin with it, and "_orig_mod." wherever it is; and the
 * names in old DenseNet files ("denselayer1.norm.1.weight") become today's ("denselayer1.norm1.weight").
 * Files of more than 256 MiB are mapped: such a file must not be cut short (renaming another over it is fine) while it is open.
 * @return BNFF_OK; BNFF_E_IO; BNFF_E_FORMAT: the message names the file and the byte or entry; BNFF_E_UNSUPPORTED: a dtype,
 *         more than 8 dimensions, compressed; BNFF_E_MEMORY. *weights is NULL after a failure.
 */
BNFF_API bnff_status bnff_weights_open(const char *path, bnff_weights **weights, bnff_error *error);
/** An empty set, to be filled and saved. */
BNFF_API bnff_status bnff_weights_create(bnff_weights **weights, bnff_error *error);
BNFF_API void bnff_weights_destroy(bnff_weights **weights);

BNFF_API int bnff_weights_count(const bnff_weights *weights);
BNFF_API bool bnff_weights_get(const bnff_weights *weights, int index, bnff_weights_entry *entry);
/** The file it was opened from, as given; NULL for a created one. */
BNFF_API const char *bnff_weights_path(const bnff_weights *weights);
/** Index by name, or -1. */
BNFF_API int bnff_weights_find(const bnff_weights *weights, const char *name);
/** Convert an entry to float32. dst has entry->elements floats. */
BNFF_API void bnff_weights_to_f32(const bnff_weights_entry *entry, float *dst);
/** Metadata string, or NULL. */
BNFF_API const char *bnff_weights_metadata(const bnff_weights *weights, const char *key);
/** The i-th metadata pair, sorted by key; false past the end. */
BNFF_API bool bnff_weights_metadata_at(const bnff_weights *weights, int index, const char **key, const char **value);

/** Add a tensor; name and data are copied. @return BNFF_E_ARG: name taken, rank or shape. */
BNFF_API bnff_status bnff_weights_add(bnff_weights *weights, const bnff_weights_entry *entry, bnff_error *error);
BNFF_API bnff_status bnff_weights_set_metadata(bnff_weights *weights, const char *key, const char *value, bnff_error *error);
/** Write .safetensors: aside, fsynced, renamed, so that `path` is the old file or the whole new one at any moment.
 *  Equal contents give equal bytes. */
BNFF_API bnff_status bnff_weights_save(const bnff_weights *weights, const char *path, bnff_error *error);

/* -- State dicts -------------------------------------------------------------------------------------------------- */

typedef struct bnff_load_report {
    bool head_replaced;         /* the classifier had another number of classes and was left as initialised */
    int64_t file_classes;       /* its number of classes in the file, else 0 */
    int64_t file_channels;      /* image channels in the file when the first convolution was adapted to another number, else 0 */
    int loaded;                 /* tensors taken */
    char detail[8192];          /* when the load fails: lists of missing, unexpected and mis-shaped names, one a line,
                                   at most 10 of each with the nearest name of the other side; else "" */
} bnff_load_report;

/**
 * Load a state dict. Names must match the graph's; num_batches_tracked may be absent (0). Every other missing, unexpected or
 * mis-shaped tensor fails the load and leaves the state as it was, except the head (`classifier`, from bnff_model_info; NULL:
 * none), which is left as it is when only its number of classes differs.
 * The first convolution, which reads the image, is adapted from 3 or 1 channels to another number: 1 channel takes the sum
 * over RGB, N repeat the file's C times C/N, so that a gray image gives what it gave before.
 * @return BNFF_OK; BNFF_E_SHAPE: the file does not fit, report->detail lists why; BNFF_E_MEMORY. report may be NULL.
 */
BNFF_API bnff_status bnff_state_load(bnff_state *state, const bnff_weights *weights, const char *classifier,
                                     bnff_load_report *report, bnff_error *error);
/** Add all parameters, buffers and num_batches_tracked under their state-dict names. On failure some may have been added. */
BNFF_API bnff_status bnff_state_store(bnff_state *state, bnff_weights *weights, bnff_error *error);

#ifdef __cplusplus
}
#endif
#endif
