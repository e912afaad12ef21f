#include "train/card.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

static const char *const interpolations[] = {"bilinear", "bicubic"}; /* in the order of bnff_interpolation */

void bf_card_free(bf_card *card)
{
    for (int i = 0; card->class_names && i < card->classes; i++) bf_free(card->class_names[i]);
    bf_free(card->class_names);
    bf_free(card->model);
    *card = (bf_card){0};
}

bnff_status bf_card_describe(bf_card *card, const char *model, const bnff_dataset *dataset, bnff_error *error)
{
    card->model = bf_strdup(model);
    card->classes = bnff_dataset_classes(dataset);
    card->class_names = bf_calloc((size_t)card->classes, sizeof *card->class_names);
    bool complete = card->model && card->class_names;
    for (int i = 0; complete && i < card->classes; i++)
        complete = (card->class_names[i] = bf_strdup(bnff_dataset_class_name(dataset, i))) != NULL;
    return complete ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for %d class names", card->classes);
}

bnff_transform bf_card_transform(const bf_card *card)
{
    bnff_transform transform = {
        .size = sizeof transform,
        .width = card->crop_size, .height = card->crop_size,
        .resize = card->resize_size,
        .interpolation = card->interpolation,
    };
    memcpy(transform.mean, card->mean, sizeof transform.mean);
    memcpy(transform.std, card->std, sizeof transform.std);
    return transform;
}

/* -- Writing ---------------------------------------------------------------------------------------------------------- */

static bnff_status store_text(bnff_weights *weights, const char *key, bf_text *text, bnff_error *error)
{
    char *value = bf_text_take(text);
    if (!value) return bf_fail(error, BNFF_E_MEMORY, "no memory for the metadata");
    const bnff_status status = bnff_weights_set_metadata(weights, key, value, error);
    bf_free(value);
    return status;
}

static bnff_status store_numbers(bnff_weights *weights, const char *key, const float *values, int count, bnff_error *error)
{
    bf_text text = {0};
    for (int i = 0; i < count; i++) bf_text_add(&text, "%s", i ? ", " : "["), bf_text_real(&text, values[i], true);
    bf_text_add(&text, "]");
    return store_text(weights, key, &text, error);
}

static bnff_status store_number(bnff_weights *weights, const char *key, int value, bnff_error *error)
{
    bf_text text = {0};
    bf_text_add(&text, "%d", value);
    return store_text(weights, key, &text, error);
}

bnff_status bf_card_store(const bf_card *card, bnff_weights *weights, bnff_error *error)
{
    bf_text text = {0};
    if (card->class_names) {
        for (int i = 0; i < card->classes; i++) {
            bf_text_add(&text, "%s", i ? ", " : "[");
            bf_text_json(&text, card->class_names[i]);
        }
        bf_text_add(&text, "]");
        BF_TRY(store_text(weights, "label_names", &text, error));
    }
    BF_TRY(bnff_weights_set_metadata(weights, "format", "pt", error));
    BF_TRY(bnff_weights_set_metadata(weights, "model", card->model, error));
    BF_TRY(bnff_weights_set_metadata(weights, "interpolation", interpolations[card->interpolation], error));
    BF_TRY(bf_held_out_store(&card->held_out, weights, error));
    BF_TRY(store_number(weights, "num_classes", card->classes, error));
    BF_TRY(store_number(weights, "resize_size", card->resize_size, error));
    BF_TRY(store_numbers(weights, "input_size", (float[]){(float)card->channels, (float)card->crop_size, (float)card->crop_size}, 3, error));
    BF_TRY(store_numbers(weights, "mean", card->mean, card->channels, error));
    return store_numbers(weights, "std", card->std, card->channels, error);
}

/* -- Reading ---------------------------------------------------------------------------------------------------------- */

static bnff_status malformed(const char *path, const char *key, const char *value, bnff_error *error)
{
    return bf_fail(error, BNFF_E_FORMAT, "%s: metadata \"%s\" is '%.80s', which makes no sense there", path, key, value);
}

/* An integer of [1, most]; 0 if the key is absent. */
static bnff_status read_number(const bnff_weights *weights, const char *path, const char *key, int most, int *number, bnff_error *error)
{
    const char *value = bnff_weights_metadata(weights, key);
    if (!value) return BNFF_OK;
    char *end;
    const long parsed = strtol(value, &end, 10);
    if (end == value || *end || parsed < 1 || parsed > most) return malformed(path, key, value, error);
    *number = (int)parsed;
    return BNFF_OK;
}

/* A JSON array of `count` finite numbers into numbers; *found tells whether the key is there. count < 0: 1 or 3 of them. */
static bnff_status read_numbers(const bnff_weights *weights, const char *path, const char *key, int count, double *numbers, bool *found, bnff_error *error)
{
    const char *value = bnff_weights_metadata(weights, key);
    *found = value != NULL;
    if (!value) return BNFF_OK;
    json_t *array = json_loads(value, 0, NULL);
    const size_t size = json_array_size(array); /* 0 for anything else */
    bool good = size == (size_t)count || (count < 0 && (size == 1 || size == 3));
    for (size_t i = 0; good && i < size; i++) {
        const json_t *item = json_array_get(array, i);
        good = json_is_number(item) && isfinite(numbers[i] = json_number_value(item));
    }
    if (good && size == 1 && count < 0) numbers[1] = numbers[2] = numbers[0];
    json_decref(array);
    return good ? BNFF_OK : malformed(path, key, value, error);
}

static bnff_status read_names(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error)
{
    const char *value = bnff_weights_metadata(weights, "label_names");
    if (!value) return BNFF_OK;
    json_t *array = json_loads(value, 0, NULL);
    const size_t count = json_array_size(array);
    bnff_status status = BNFF_OK;
    if (!count || count > 1000000 || (card->classes && count != (size_t)card->classes)) status = malformed(path, "label_names", value, error);
    else card->classes = (int)count, card->class_names = bf_calloc(count, sizeof *card->class_names);
    if (status == BNFF_OK && !card->class_names) status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory for %zu class names", path, count);
    for (size_t i = 0; status == BNFF_OK && i < count; i++) {
        const char *name = json_string_value(json_array_get(array, i));
        if (!name) status = malformed(path, "label_names", value, error);
        else if (!(card->class_names[i] = bf_strdup(name))) status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory for %zu class names", path, count);
    }
    json_decref(array);
    return status;
}

static bnff_status read_interpolation(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error)
{
    const char *value = bnff_weights_metadata(weights, "interpolation");
    if (!value || !strcmp(value, "bilinear")) card->interpolation = BNFF_BILINEAR;
    else if (!strcmp(value, "bicubic")) card->interpolation = BNFF_BICUBIC;
    else return malformed(path, "interpolation", value, error);
    return BNFF_OK;
}

static bnff_status read_normalization(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error)
{
    double mean[3] = {0}, std[3] = {0};
    bool has_mean, has_std;
    BF_TRY(read_numbers(weights, path, "mean", -1, mean, &has_mean, error));
    BF_TRY(read_numbers(weights, path, "std", -1, std, &has_std, error));
    if (!has_mean || !has_std) return BNFF_OK;
    for (int i = 0; i < 3; i++) {
        if (!(std[i] > 0)) return malformed(path, "std", bnff_weights_metadata(weights, "std"), error);
        card->mean[i] = (float)mean[i];
        card->std[i] = (float)std[i];
    }
    return BNFF_OK;
}

static bnff_status read_card(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error)
{
    const char *model = bnff_weights_metadata(weights, "model");
    if (model && !(card->model = bf_strdup(model))) return bf_fail(error, BNFF_E_MEMORY, "%s: no memory for its metadata", path);
    bf_held_out_read(weights, &card->held_out);
    BF_TRY(read_number(weights, path, "num_classes", 1000000, &card->classes, error));
    BF_TRY(read_number(weights, path, "resize_size", 16384, &card->resize_size, error));
    BF_TRY(read_names(weights, path, card, error));
    BF_TRY(read_interpolation(weights, path, card, error));
    double size[3];
    bool found;
    BF_TRY(read_numbers(weights, path, "input_size", 3, size, &found, error));
    if (found) {
        if ((size[0] != 1 && size[0] != 3) || size[1] != size[2] || size[1] != floor(size[1]) || size[1] < 1 || size[1] > 16384)
            return malformed(path, "input_size", bnff_weights_metadata(weights, "input_size"), error);
        card->channels = (int)size[0];
        card->crop_size = (int)size[1];
    }
    return read_normalization(weights, path, card, error);
}

bnff_status bf_card_read(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error)
{
    *card = (bf_card){0};
    const bnff_status status = read_card(weights, path, card, error);
    if (status != BNFF_OK) bf_card_free(card);
    return status;
}

/* -- Matching classes ------------------------------------------------------------------------------------------------ */

/* The card's class of this name, -1 if there is none. A name that is not UTF-8 is stored with U+FFFD for what is not: it is taken for the
 * first such class that none of the `mapped` before it is, for both lists are in bytewise order. */
static int find_name(const bf_card *card, const char *name, const int *map, int mapped)
{
    for (int i = 0; i < card->classes; i++)
        if (!strcmp(card->class_names[i], name)) return i;
    bf_text wanted = {0};
    bf_text_json(&wanted, name);
    int found = -1;
    for (int i = 0; found < 0 && i < card->classes && !wanted.failed; i++) {
        bf_text stored = {0};
        bf_text_json(&stored, card->class_names[i]);
        bool free = !stored.failed && !strcmp(stored.data, wanted.data);
        for (int k = 0; free && k < mapped; k++) free = map[k] != i;
        if (free) found = i;
        bf_text_free(&stored);
    }
    bf_text_free(&wanted);
    return found;
}

static void list_name(bf_text *list, int *count, const char *name)
{
    if ((*count)++ < 8) bf_text_add(list, "%s%s", list->length ? ", " : "", name);
    else if (*count == 9) bf_text_add(list, ", ...");
}

static bnff_status names_differ(const bf_card *card, const char *weights_name, const bnff_dataset *dataset, const char *data_name, const int *map,
                                bnff_error *error)
{
    bf_text absent = {0}, foreign = {0};
    int absents = 0, foreigns = 0;
    const int classes = bnff_dataset_classes(dataset);
    for (int k = 0; k < card->classes; k++) {
        bool used = false;
        for (int i = 0; i < classes && !used; i++) used = map[i] == k;
        if (!used) list_name(&absent, &absents, card->class_names[k]);
    }
    for (int i = 0; i < classes; i++)
        if (map[i] < 0) list_name(&foreign, &foreigns, bnff_dataset_class_name(dataset, i));
    bf_fail(error, BNFF_E_SHAPE, "%s: its classes differ from those of %s: %d missing (%s), %d unknown (%s)", data_name, weights_name, absents,
            absents && absent.data ? absent.data : "none", foreigns, foreigns && foreign.data ? foreign.data : "none");
    bf_text_free(&absent);
    bf_text_free(&foreign);
    return bf_hint(error, BNFF_E_SHAPE, "both must have the same class folders, by name");
}

bnff_status bf_card_match(const bf_card *card, const char *weights_name, const bnff_dataset *dataset, const char *data_name, int *map, bnff_error *error)
{
    const int classes = bnff_dataset_classes(dataset);
    if (!card->class_names) {
        if (classes != card->classes)
            return bf_fail(error, BNFF_E_SHAPE, "%s: %d classes, but %s has %d", data_name, classes, weights_name, card->classes);
        for (int i = 0; i < classes; i++) map[i] = i;
        return BNFF_OK;
    }
    int matched = 0;
    for (int i = 0; i < classes; i++) matched += (map[i] = find_name(card, bnff_dataset_class_name(dataset, i), map, i)) >= 0;
    if (matched == classes && classes == card->classes) return BNFF_OK;
    return names_differ(card, weights_name, dataset, data_name, map, error);
}
