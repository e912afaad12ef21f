/* args.json: every option of a run by its flag's name, and the machine it began on. One table serves writing, reading,
 * comparing, overriding and copying. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "train/config.h"

enum kind { AN_INT, AN_INT64, A_BOOL, A_FLOAT, A_DOUBLE, A_PAIR, A_STRING, A_NAME /* an enum, by name */ };
enum role {
    FIXED,   /* another value would be another training */
    OPEN,    /* may change when a run is resumed; no part of what the training computes, or only of when it ends */
    PLACE    /* a path or name: neither identity nor to be changed */
};

static const char *const interpolations[] = {"bilinear", "bicubic", NULL}; /* in the order of the enums */
static const char *const optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const schedules[] = {"constant", "steplr", "cosineannealinglr", "onecycle", NULL};

struct field {
    const char *flag;
    size_t offset;
    enum kind kind;
    enum role role;
    const char *const *names;
};
#define AT(member) offsetof(bnff_train_options, member)
static const struct field fields[] = {
    {"data", AT(data), A_STRING, OPEN},
    {"model", AT(model), A_STRING, FIXED},
    {"weights", AT(weights), A_STRING, PLACE},
    {"epochs", AT(epochs), AN_INT, OPEN},
    {"batch-size", AT(batch), AN_INT, FIXED},
    {"max-steps", AT(max_steps), AN_INT64, OPEN},
    {"train-crop-size", AT(train_crop_size), AN_INT, FIXED},
    {"val-resize-size", AT(val_resize_size), AN_INT, FIXED},
    {"val-crop-size", AT(val_crop_size), AN_INT, FIXED},
    {"interpolation", AT(interpolation), A_NAME, FIXED, interpolations},
    {"hflip", AT(hflip), A_DOUBLE, FIXED},
    {"vflip", AT(vflip), A_DOUBLE, FIXED},
    {"scale", AT(scale), A_PAIR, FIXED},
    {"ratio", AT(ratio), A_PAIR, FIXED},
    {"crop-padding", AT(crop_padding), AN_INT, FIXED},
    {"in-chans", AT(in_channels), AN_INT, FIXED},
    {"val-ratio", AT(val_ratio), A_DOUBLE, FIXED},
    {"opt", AT(optimizer.kind), A_NAME, FIXED, optimizers},
    {"momentum", AT(optimizer.momentum), A_FLOAT, FIXED},
    {"nesterov", AT(optimizer.nesterov), A_BOOL, FIXED},
    {"beta1", AT(optimizer.beta1), A_FLOAT, FIXED},
    {"beta2", AT(optimizer.beta2), A_FLOAT, FIXED},
    {"opt-eps", AT(optimizer.eps), A_FLOAT, FIXED},
    {"weight-decay", AT(optimizer.weight_decay), A_FLOAT, FIXED},
    {"norm-weight-decay", AT(optimizer.norm_weight_decay), A_FLOAT, FIXED},
    {"bias-weight-decay", AT(optimizer.bias_weight_decay), A_FLOAT, FIXED},
    {"lr-scheduler", AT(schedule.kind), A_NAME, FIXED, schedules},
    {"lr", AT(schedule.lr), A_DOUBLE, FIXED},
    {"lr-min", AT(schedule.lr_min), A_DOUBLE, FIXED},
    {"lr-step-size", AT(schedule.step_size), AN_INT, FIXED},
    {"lr-gamma", AT(schedule.gamma), A_DOUBLE, FIXED},
    {"lr-warmup-epochs", AT(schedule.warmup_epochs), AN_INT, FIXED},
    {"lr-warmup-decay", AT(schedule.warmup_decay), A_DOUBLE, FIXED},
    {"lr-warmup-constant", AT(schedule.warmup_constant), A_BOOL, FIXED},
    {"label-smoothing", AT(label_smoothing), A_FLOAT, FIXED},
    {"grad-accum-steps", AT(grad_accum_steps), AN_INT, FIXED},
    {"clip-grad-norm", AT(clip_grad_norm), A_DOUBLE, FIXED},
    {"freeze", AT(freeze), A_STRING, FIXED},
    {"freeze-epochs", AT(freeze_epochs), AN_INT, FIXED},
    {"freeze-bn", AT(freeze_bn), A_STRING, FIXED},
    {"level", AT(level), A_STRING, FIXED},
    {"conv", AT(algorithm), A_STRING, FIXED},
    {"cells", AT(cells), AN_INT, FIXED},
    {"workers", AT(workers), AN_INT, OPEN},
    {"seed", AT(seed), AN_INT64, FIXED},
    {"max-bad", AT(max_bad), AN_INT64, OPEN},
    {"output-dir", AT(output_dir), A_STRING, PLACE},
    {"name", AT(name), A_STRING, PLACE},
    {"exist-ok", AT(exist_ok), A_BOOL, PLACE},
    {"save-period", AT(save_period), AN_INT, OPEN},
    {"checkpoint-hist", AT(checkpoint_hist), AN_INT, OPEN},
    {"eval-metric", AT(eval_metric), A_STRING, FIXED},
    {"checkpoint-seconds", AT(checkpoint_seconds), A_DOUBLE, OPEN},
    {"report", AT(report), A_BOOL, OPEN},
};
#undef AT
#define FOR_EACH_FIELD(f) for (const struct field *f = fields; f < fields + sizeof fields / sizeof *fields; f++)

static const void *at(const bnff_train_options *options, const struct field *f) { return (const char *)options + f->offset; }
static void *at_mutable(bnff_train_options *options, const struct field *f) { return (char *)options + f->offset; }

const char **bf_args_string(bnff_train_options *options, int index)
{
    FOR_EACH_FIELD(f)
        if (f->kind == A_STRING && index-- == 0) return at_mutable(options, f);
    return NULL;
}

/* -- Writing ---------------------------------------------------------------------------------------------------------- */

static void write_value(bf_text *text, const bnff_train_options *options, const struct field *f)
{
    const void *value = at(options, f);
    switch (f->kind) {
    case AN_INT:   bf_text_add(text, "%d", *(const int *)value); break;
    case AN_INT64: bf_text_add(text, "%lld", (long long)*(const int64_t *)value); break; /* seeds above 2^63 read back from negatives */
    case A_BOOL:   bf_text_add(text, "%s", *(const bool *)value ? "true" : "false"); break;
    case A_FLOAT:  bf_text_real(text, *(const float *)value, true); break;
    case A_DOUBLE: bf_text_real(text, *(const double *)value, false); break;
    case A_PAIR:
        bf_text_add(text, "[");
        bf_text_real(text, ((const double *)value)[0], false);
        bf_text_add(text, ", ");
        bf_text_real(text, ((const double *)value)[1], false);
        bf_text_add(text, "]");
        break;
    case A_STRING:
        if (*(const char *const *)value) bf_text_json(text, *(const char *const *)value);
        else bf_text_add(text, "null");
        break;
    case A_NAME: {
        const int index = (int)*(const unsigned *)value;
        if (index < 0) bf_text_add(text, "null");
        else bf_text_json(text, f->names[index]);
        break;
    }
    }
}

void bf_args_write(bf_text *text, const bnff_train_options *options, const bf_machine *machine)
{
    bf_text_add(text, "{\n");
    FOR_EACH_FIELD(f) {
        bf_text_add(text, "  \"%s\": ", f->flag);
        write_value(text, options, f);
        bf_text_add(text, ",\n");
    }
    bf_text_add(text, "  \"machine\": {\"cpu\": ");
    bf_text_json(text, machine->cpu);
    bf_text_add(text, ", \"isa\": ");
    bf_text_json(text, machine->isa);
    bf_text_add(text, ", \"threads\": %d},\n  \"bnff\": \"%s\"\n}\n", machine->threads, bnff_version());
}

uint64_t bf_args_identity(const bnff_train_options *options)
{
    bf_text text = {0};
    FOR_EACH_FIELD(f) {
        if (f->role != FIXED) continue;
        bf_text_add(&text, "%s=", f->flag);
        write_value(&text, options, f);
        bf_text_add(&text, ";");
    }
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < text.length; i++) hash = (hash ^ (unsigned char)text.data[i]) * 0x100000001b3u;
    bf_text_free(&text);
    return hash;
}

/* -- Reading ---------------------------------------------------------------------------------------------------------- */

static bool read_name(const json_t *json, const struct field *f, void *value)
{
    for (int i = 0; json_is_string(json) && f->names[i]; i++)
        if (!strcmp(f->names[i], json_string_value(json))) return *(unsigned *)value = (unsigned)i, true;
    return false;
}

/* false: the JSON value is not of the field's type or range. */
static bool read_value(const json_t *json, const struct field *f, void *value, bnff_status *status, bnff_error *error)
{
    switch (f->kind) {
    case AN_INT:
        if (!json_is_integer(json) || json_integer_value(json) < INT32_MIN || json_integer_value(json) > INT32_MAX) return false;
        return *(int *)value = (int)json_integer_value(json), true;
    case AN_INT64:
        if (!json_is_integer(json)) return false;
        return *(int64_t *)value = json_integer_value(json), true;
    case A_BOOL:
        if (!json_is_boolean(json)) return false;
        return *(bool *)value = json_is_true(json), true;
    case A_FLOAT:
        if (!json_is_number(json)) return false;
        return *(float *)value = (float)json_number_value(json), true;
    case A_DOUBLE:
        if (!json_is_number(json)) return false;
        return *(double *)value = json_number_value(json), true;
    case A_PAIR:
        if (json_array_size(json) != 2 || !json_is_number(json_array_get(json, 0)) || !json_is_number(json_array_get(json, 1))) return false;
        for (size_t i = 0; i < 2; i++) ((double *)value)[i] = json_number_value(json_array_get(json, i));
        return true;
    case A_STRING:
        if (!json_is_string(json) && !json_is_null(json)) return false;
        *status = bf_config_string(value, json_string_value(json), error);
        return true;
    case A_NAME: return read_name(json, f, value);
    }
    return false;
}

static bnff_status read_fields(const json_t *root, const char *name, bf_config *config, bnff_error *error)
{
    FOR_EACH_FIELD(f) {
        const json_t *json = json_object_get(root, f->flag);
        if (!json) return bf_fail(error, BNFF_E_FORMAT, "%s: \"%s\" is missing", name, f->flag);
        bnff_status status = BNFF_OK;
        if (!read_value(json, f, at_mutable(&config->options, f), &status, error))
            return bf_fail(error, BNFF_E_FORMAT, "%s: \"%s\" has a value of the wrong kind", name, f->flag);
        if (status != BNFF_OK) return status;
    }
    config->options.schedule.epochs = config->options.epochs;
    return bf_config_check(&config->options, error);
}

static void read_machine(const json_t *root, bf_machine *machine)
{
    const json_t *json = json_object_get(root, "machine");
    const char *cpu = json_string_value(json_object_get(json, "cpu")), *isa = json_string_value(json_object_get(json, "isa"));
    snprintf(machine->cpu, sizeof machine->cpu, "%s", cpu ? cpu : "");
    snprintf(machine->isa, sizeof machine->isa, "%s", isa ? isa : "");
    const json_int_t threads = json_integer_value(json_object_get(json, "threads"));
    machine->threads = threads > 0 && threads < 65536 ? (int)threads : 0;
}

bnff_status bf_args_read(const char *text, const char *name, bf_config *config, bf_machine *machine, bnff_error *error)
{
    bnff_train_options defaults;
    bnff_train_options_init(&defaults);
    BF_TRY(bf_config_copy(config, &defaults, error));
    json_error_t where;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    bnff_status status = BNFF_OK;
    if (!root) status = bf_fail(error, BNFF_E_FORMAT, "%s: line %d: %s", name, where.line, where.text);
    else if (!json_is_object(root)) status = bf_fail(error, BNFF_E_FORMAT, "%s: not a JSON object", name);
    else status = read_fields(root, name, config, error);
    if (status == BNFF_OK) read_machine(root, machine);
    else bf_config_free(config);
    json_decref(root);
    return status;
}

/* -- Overriding -------------------------------------------------------------------------------------------------------- */

static bool same_value(const bnff_train_options *a, const bnff_train_options *b, const struct field *f)
{
    bf_text x = {0}, y = {0};
    write_value(&x, a, f);
    write_value(&y, b, f);
    const bool same = !x.failed && !y.failed && !strcmp(x.data, y.data);
    bf_text_free(&x);
    bf_text_free(&y);
    return same;
}

static bnff_status take_value(bf_config *config, const bnff_train_options *overrides, const struct field *f, bnff_error *error)
{
    void *to = at_mutable(&config->options, f);
    const void *from = at(overrides, f);
    switch (f->kind) {
    case AN_INT:   *(int *)to = *(const int *)from; break;
    case AN_INT64: *(int64_t *)to = *(const int64_t *)from; break;
    case A_BOOL:   *(bool *)to = *(const bool *)from; break;
    case A_DOUBLE: *(double *)to = *(const double *)from; break;
    case A_STRING: return bf_config_string(to, *(const char *const *)from, error);
    case A_FLOAT: case A_PAIR: case A_NAME: return bf_fail(error, BNFF_E_INTERNAL, "--%s cannot be overridden", f->flag);
    }
    return BNFF_OK;
}

bnff_status bf_args_override(bf_config *config, const bnff_train_options *overrides, bf_text *changes, bnff_error *error)
{
    if (!overrides) return BNFF_OK;
    bnff_train_options defaults;
    bnff_train_options_init(&defaults);
    FOR_EACH_FIELD(f) {
        if (f->role == PLACE || f->offset >= overrides->size) continue;
        if (same_value(overrides, &defaults, f) || same_value(overrides, &config->options, f)) continue;
        if (f->role == FIXED) {
            bf_fail(error, BNFF_E_ARG, "--%s cannot change in mid-training", f->flag);
            return bf_hint(error, BNFF_E_ARG, "leave it out to go on with the run's own value, or start a new run with --weights RUN/weights/last.safetensors");
        }
        bf_text_add(changes, "%s--%s changed from ", changes->length ? "; " : "", f->flag);
        write_value(changes, &config->options, f);
        bf_text_add(changes, " to ");
        write_value(changes, overrides, f);
        BF_TRY(take_value(config, overrides, f, error));
    }
    if (config->options.max_steps < 0) config->options.max_steps = 0; /* a negative limit lifts the run's own */
    config->options.schedule.epochs = config->options.epochs;
    return bf_config_check(&config->options, error);
}
