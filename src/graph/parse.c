/* Reads the text that bnff_graph_print writes, by calling the public API line by line: it cannot build what users cannot. */
#include <bnff/graph.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "graph/ir.h"

enum { MAX_OPERANDS = 4096, MAX_VALUES = 1 << 20 };

typedef struct reader {
    bnff_graph *graph;
    bnff_value *values;      /* text number -> value of the new graph */
    int value_count;
    char name[256];          /* of the line at hand */
    bnff_value in[MAX_OPERANDS];
    int in_count;
    int line;
    bnff_error *error;
} reader;

static bnff_status bad(reader *r, const char *what, const char *at)
{
    return bf_fail(r->error, BNFF_E_FORMAT, "graph text, line %d: %s at '%.40s'", r->line, what, at);
}

/* "%12": its number, and *text moved past it; -1 otherwise. */
static int value_number(const char **text)
{
    if (**text != '%') return -1;
    char *end;
    const long number = strtol(*text + 1, &end, 10);
    if (end == *text + 1 || number < 0 || number >= MAX_VALUES) return -1;
    *text = end;
    return (int)number;
}

static const char *skip(const char *s)
{
    while (*s == ' ') s++;
    return s;
}

/* Attributes are looked up by key: "key=a[,b]". Returns how many numbers were found. */
static int numbers(const char *attributes, const char *key, double out[2])
{
    const size_t length = strlen(key);
    for (const char *s = skip(attributes); *s; s = skip(s)) {
        const char *end = s + strcspn(s, " ");
        if ((size_t)(end - s) > length && !strncmp(s, key, length) && s[length] == '=') return sscanf(s + length + 1, "%lf,%lf", &out[0], &out[1]);
        s = end;
    }
    return 0;
}

static bool flag(const char *attributes, const char *key)
{
    const size_t length = strlen(key);
    for (const char *s = skip(attributes); *s; s = skip(s)) {
        const size_t word = strcspn(s, " ");
        if (word == length && !strncmp(s, key, length)) return true;
        s += word;
    }
    return false;
}

static int integer(double x) { return x > -1e9 && x < 1e9 ? (int)x : -1; }

static void pair(const char *attributes, const char *key, int out[2], bool padding)
{
    double v[2] = {0, 0};
    const int n = numbers(attributes, key, v);
    if (n < 1) return;
    out[0] = integer(v[0]);
    out[1] = n > 1 ? integer(v[1]) : out[0];
    if (padding && out[1] == 0) out[1] = -1; /* the API's spelling of "none on this axis" */
}

static int single(const char *attributes, const char *key)
{
    double v[2] = {0, 0};
    return numbers(attributes, key, v) ? integer(v[0]) : 0;
}

static float real(const char *attributes, const char *key)
{
    double v[2] = {0, 0};
    return numbers(attributes, key, v) ? (float)v[0] : 0;
}

static bnff_value build_input(reader *r, const char *a)
{
    int size[2] = {0, 0};
    pair(a, "size", size, false);
    return size[0] ? bnff_input_sized(r->graph, r->name, single(a, "c"), size[0], size[1]) : bnff_input(r->graph, r->name, single(a, "c"));
}

static bnff_value build_scale(reader *r, const char *a)
{
    const bnff_scale_options o = {.weight = flag(a, "weight"), .bias = flag(a, "bias"), .factor = real(a, "factor"), .offset = real(a, "offset")};
    return bnff_scale(r->graph, r->name[0] ? r->name : NULL, r->in[0], &o);
}

static bnff_value build_conv(reader *r, const char *a)
{
    if (flag(a, "linear")) return bnff_linear(r->graph, r->name, r->in[0], single(a, "oc"), flag(a, "bias"));
    bnff_conv_options o = {.out_channels = single(a, "oc"), .groups = single(a, "g"), .bias = flag(a, "bias")};
    pair(a, "k", o.kernel, false);
    pair(a, "s", o.stride, false);
    pair(a, "p", o.padding, true);
    pair(a, "d", o.dilation, false);
    return bnff_conv2d(r->graph, r->name, r->in[0], &o);
}

static bnff_value build_convt(reader *r, const char *a)
{
    bnff_conv_transpose_options o = {.out_channels = single(a, "oc"), .groups = single(a, "g"), .bias = flag(a, "bias")};
    pair(a, "k", o.kernel, false);
    pair(a, "s", o.stride, false);
    pair(a, "p", o.padding, true);
    pair(a, "op", o.output_padding, true);
    pair(a, "d", o.dilation, false);
    return bnff_conv_transpose2d(r->graph, r->name, r->in[0], &o);
}

static bnff_value build_resize(reader *r, const char *a)
{
    bnff_resize_options o = {.mode = flag(a, "bilinear") ? BNFF_RESIZE_BILINEAR : flag(a, "nearest") ? BNFF_RESIZE_NEAREST : (bnff_resize_mode)-1, .align_corners = flag(a, "align_corners")};
    pair(a, "size", o.size, false);
    (void)numbers(a, "scale", o.scale);
    return bnff_resize(r->graph, r->in[0], &o);
}

static bnff_value build_pool(reader *r, bool max, const char *a)
{
    int out[2] = {0, 0};
    pair(a, "out", out, false);
    if (out[0] && max) return bnff_adaptive_maxpool(r->graph, r->in[0], out[0], out[1]);
    if (out[0]) return bnff_adaptive_avgpool(r->graph, r->in[0], out[0], out[1]);
    bnff_pool_options o = {.ceil_mode = flag(a, "ceil"), .exclude_pad = flag(a, "exclude_pad")};
    pair(a, "k", o.kernel, false);
    pair(a, "s", o.stride, false);
    pair(a, "p", o.padding, true);
    pair(a, "d", o.dilation, false);
    return max ? bnff_maxpool(r->graph, r->in[0], &o) : bnff_avgpool(r->graph, r->in[0], &o);
}

static bnff_value build_act(reader *r, const char *a)
{
    for (int i = 0; bf_activation_text(i); i++)
        if (flag(a, bf_activation_text(i))) return bnff_activate(r->graph, r->in[0], (bnff_activation)i, real(a, "slope"));
    return bnff_activate(r->graph, r->in[0], (bnff_activation)99, 0);
}

static bnff_value build_bn(reader *r, const char *a)
{
    double momentum[2] = {0, 0};
    bnff_batchnorm_options o = {.eps = real(a, "eps"), .no_affine = flag(a, "no_affine")};
    if (numbers(a, "momentum", momentum)) o.momentum = momentum[0] == 0 ? -1 : (float)momentum[0];
    return bnff_batchnorm(r->graph, r->name, r->in[0], &o);
}

/* Build one operator; *out is its value (BNFF_NONE for outputs). */
static bnff_status build(reader *r, const char *op, const char *a, bnff_value *out)
{
    static const struct { const char *op; int operands; } arity[] = {{"input", 0}, {"conv", 1}, {"bn", 1}, {"act", 1}, {"maxpool", 1}, {"avgpool", 1},
        {"add", 2}, {"gate", 2}, {"concat", -1}, {"slice", 1}, {"dropout", 1}, {"output", 1}, {"mul", 2}, {"scale", 1}, {"convt", 1},
        {"shuffle", 1}, {"resize", 1}};
    int which = -1;
    for (int i = 0; i < (int)(sizeof arity / sizeof *arity); i++)
        if (!strcmp(op, arity[i].op)) which = i;
    if (which < 0) return bad(r, "unknown operator", op);
    if (arity[which].operands >= 0 && arity[which].operands != r->in_count) return bad(r, "wrong number of operands", op);
    bnff_graph *g = r->graph;
    switch (which) {
    case 0: *out = build_input(r, a); break;
    case 1: *out = build_conv(r, a); break;
    case 2: *out = build_bn(r, a); break;
    case 3: *out = build_act(r, a); break;
    case 4: *out = build_pool(r, true, a); break;
    case 5: *out = build_pool(r, false, a); break;
    case 6: *out = bnff_add(g, r->in[0], r->in[1]); break;
    case 7: *out = bnff_mul_gate(g, r->in[0], r->in[1]); break;
    case 8: *out = bnff_concat(g, r->in, r->in_count); break;
    case 9: *out = bnff_slice(g, r->in[0], single(a, "first"), single(a, "channels")); break;
    case 10: *out = bnff_dropout(g, r->in[0], real(a, "p")); break;
    case 11: bnff_output(g, r->in[0]); break;
    case 12: *out = bnff_mul(g, r->in[0], r->in[1]); break;
    case 13: *out = build_scale(r, a); break;
    case 14: *out = build_convt(r, a); break;
    case 15: *out = bnff_channel_shuffle(g, r->in[0], single(a, "groups")); break;
    default: *out = build_resize(r, a); break;
    }
    if (g->error.status == BNFF_OK) return BNFF_OK;
    return bf_fail(r->error, g->error.status == BNFF_E_MEMORY ? BNFF_E_MEMORY : BNFF_E_FORMAT, "graph text, line %d: %.800s", r->line, g->error.message);
}

static bnff_status define(reader *r, int number, bnff_value value)
{
    if (number >= r->value_count) {
        const int larger = number + 256;
        bnff_value *grown = bf_realloc(r->values, (size_t)larger, sizeof *grown);
        if (!grown) return bf_fail(r->error, BNFF_E_MEMORY, "no memory for %d values", larger);
        for (int i = r->value_count; i < larger; i++) grown[i] = BNFF_NONE;
        r->values = grown;
        r->value_count = larger;
    }
    if (r->values[number] != BNFF_NONE) return bf_fail(r->error, BNFF_E_FORMAT, "graph text, line %d: value %%%d is defined twice", r->line, number);
    r->values[number] = value;
    return BNFF_OK;
}

static bnff_status parse_line(reader *r, char *line)
{
    char *comment = strstr(line, "  #");
    if (comment) *comment = '\0';
    const char *s = skip(line);
    if (!*s || *s == '#') return BNFF_OK;
    int number = value_number(&s);
    if (number >= 0) {
        s = skip(s);
        while (*s == ',') { /* further results (a BN's coefficients) are implied */
            s = skip(s + 1);
            if (value_number(&s) < 0) return bad(r, "expected a value", s);
            s = skip(s);
        }
        if (*s != '=') return bad(r, "expected '='", s);
        s = skip(s + 1);
    }
    char op[32];
    const size_t length = strcspn(s, " ");
    if (!length || length >= sizeof op) return bad(r, "expected an operator", s);
    memcpy(op, s, length);
    op[length] = '\0';
    s = skip(s + length);
    r->name[0] = '\0';
    if (*s == '"') {
        const size_t name = strcspn(s + 1, "\"");
        if (s[1 + name] != '"' || name >= sizeof r->name) return bad(r, "bad name", s);
        memcpy(r->name, s + 1, name);
        r->name[name] = '\0';
        s = skip(s + name + 2);
    }
    for (r->in_count = 0; *s == '%'; s = skip(s)) {
        const int in = value_number(&s);
        if (in < 0 || in >= r->value_count || r->values[in] == BNFF_NONE) return bad(r, "operand is not defined", s);
        if (r->in_count == MAX_OPERANDS) return bad(r, "too many operands", s);
        r->in[r->in_count++] = r->values[in];
    }
    bnff_value out = BNFF_NONE;
    BF_TRY(build(r, op, s, &out));
    if ((out == BNFF_NONE) != (number < 0)) return bad(r, "result and operator do not fit", op);
    return number < 0 ? BNFF_OK : define(r, number, out);
}

bnff_status bnff_graph_parse(const char *text, bnff_graph **graph, bnff_error *error)
{
    *graph = NULL;
    bnff_status status = BNFF_OK;
    reader *r = bf_calloc(1, sizeof *r);
    char *copy = bf_strdup(text);
    if (!r || !copy) {
        status = bf_fail(error, BNFF_E_MEMORY, "no memory to read the graph");
        goto fail;
    }
    r->error = error;
    BF_GO(bnff_graph_create(&r->graph, error));
    char *line = copy;
    for (r->line = 1; line; r->line++) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        if (r->line == 1) {
            if (strcmp(line, "bnff-graph 1")) {
                status = bad(r, "expected 'bnff-graph 1'", line);
                goto fail;
            }
        } else BF_GO(parse_line(r, line));
        line = end ? end + 1 : NULL;
    }
    *graph = r->graph;
    r->graph = NULL;
fail:
    if (r) {
        bnff_graph_destroy(&r->graph);
        bf_free(r->values);
    }
    bf_free(r);
    bf_free(copy);
    return status;
}
