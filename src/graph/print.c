/* The graph as text, one node a line; bnff_graph_parse (parse.c) reads what users can write back:
 *     %3 = bn "features.norm0" %2 eps=1e-05 momentum=0.1
 *     output %9                                                     */
#include "base/text.h"
#include "graph/ir.h"

static void print_pool(const bf_pool_attr *a, bf_text *text)
{
    if (a->out_h) {
        bf_text_add(text, " out=%d,%d", a->out_h, a->out_w);
        return;
    }
    bf_text_add(text, " k=%d,%d s=%d,%d p=%d,%d", a->kh, a->kw, a->sh, a->sw, a->ph, a->pw);
    if (a->dh != 1 || a->dw != 1) bf_text_add(text, " d=%d,%d", a->dh, a->dw);
    if (a->ceil_mode) bf_text_add(text, " ceil");
    if (a->exclude_pad) bf_text_add(text, " exclude_pad");
}

static void print_attributes(const bf_graph *g, const bf_node *node, bf_text *text)
{
    switch (node->op) {
    case BF_OP_INPUT:
        bf_text_add(text, " c=%d", g->values[node->out[0]].c);
        if (node->a.io.h) bf_text_add(text, " size=%d,%d", node->a.io.h, node->a.io.w);
        break;
    case BF_OP_CONV:
    case BF_OP_CONV_BWD: {
        const bf_conv_attr *a = &node->a.conv;
        bf_text_add(text, " oc=%d", a->oc);
        if (a->linear) bf_text_add(text, " linear");
        else bf_text_add(text, " k=%d,%d s=%d,%d p=%d,%d d=%d,%d g=%d", a->kh, a->kw, a->sh, a->sw, a->ph, a->pw, a->dh, a->dw, a->groups);
        if (node->param[1] >= 0) bf_text_add(text, " bias");
        if (a->nominal_h) bf_text_add(text, " pooled_before=%d,%d", a->nominal_h, a->nominal_w);
        if (node->op == BF_OP_CONV_BWD) bf_text_add(text, "%s%s", a->want_dx ? " dx" : "", a->want_dw ? " dw" : "");
        break;
    }
    case BF_OP_CONVT:
        bf_text_add(text, " oc=%d k=%d,%d s=%d,%d p=%d,%d op=%d,%d d=%d,%d g=%d%s", node->a.conv.oc, node->a.conv.kh, node->a.conv.kw, node->a.conv.sh, node->a.conv.sw,
                    node->a.conv.ph, node->a.conv.pw, node->a.conv.oph, node->a.conv.opw, node->a.conv.dh, node->a.conv.dw, node->a.conv.groups,
                    node->param[1] >= 0 ? " bias" : "");
        break;
    case BF_OP_SHUFFLE: bf_text_add(text, " groups=%d", node->a.shuffle.groups); break;
    case BF_OP_RESIZE: case BF_OP_RESIZE_BWD: {
        const bf_resize_attr *a = &node->a.resize;
        bf_text_add(text, " %s%s", a->mode == BNFF_RESIZE_BILINEAR ? "bilinear" : "nearest", a->align_corners ? " align_corners" : "");
        if (a->out_h) bf_text_add(text, " size=%d,%d", a->out_h, a->out_w);
        else bf_text_add(text, " scale=%.17g,%.17g", a->scale_h, a->scale_w);
        break;
    }
    case BF_OP_BN:
        bf_text_add(text, " eps=%.9g momentum=%.9g", (double)node->a.bn.eps, (double)node->a.bn.momentum);
        if (node->param[0] < 0) bf_text_add(text, " no_affine");
        if (node->a.bn.frozen) bf_text_add(text, " frozen");
        break;
    case BF_OP_SCALE:
        bf_text_add(text, "%s%s factor=%.9g offset=%.9g", node->param[0] >= 0 ? " weight" : "", node->param[1] >= 0 ? " bias" : "",
                    (double)node->a.bn.factor, (double)node->a.bn.offset);
        break;
    case BF_OP_BN_STATS: bf_text_add(text, " sweeps=%d", node->a.bn.sweeps); break;
    case BF_OP_ACT:
    case BF_OP_ACT_BWD: {
        bf_text_add(text, " %s", bf_activation_text((int)node->a.act.kind));
        if (node->a.act.kind == BNFF_LEAKY_RELU || node->a.act.kind == BNFF_ELU) bf_text_add(text, " slope=%.9g", (double)node->a.act.slope);
        break;
    }
    case BF_OP_MAXPOOL: case BF_OP_AVGPOOL: case BF_OP_MAXPOOL_BWD: case BF_OP_AVGPOOL_BWD: print_pool(&node->a.pool, text); break;
    case BF_OP_SLICE: case BF_OP_COPY: bf_text_add(text, " first=%d channels=%d", node->a.slice.first, node->a.slice.channels); break;
    case BF_OP_DROPOUT: bf_text_add(text, " p=%.9g", (double)node->a.dropout.p); break;
    default: break;
    }
}

static void print_shape(const bf_value *v, int index, bf_text *text)
{
    static const char *const kinds[] = {"", " stats", " coefs", " sums", " grad_coefs"};
    if (v->kind != BF_TENSOR) bf_text_add(text, " %%%d:%s", index, kinds[v->kind]);
    else if (v->n) bf_text_add(text, " %%%d: %dx%dx%dx%d", index, v->n, v->h, v->w, v->c);
    if (!v->parts) return;
    bf_text_add(text, " view of");
    for (int i = 0; i < v->part_count; i++) bf_text_add(text, " %%%d[%d+%d]", v->parts[i].value, v->parts[i].first, v->parts[i].channels);
}

void bf_graph_print(const bf_graph *g, bf_text *text)
{
    bf_text_add(text, "bnff-graph 1\n");
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        const size_t start = text->length;
        for (int k = 0; k < node->out_count; k++)
            if (node->out[k] >= 0) bf_text_add(text, "%s%%%d", k ? ", " : "", node->out[k]);
        if (text->length > start) bf_text_add(text, " = ");
        bf_text_add(text, "%s", bf_op_text(node->op));
        if (node->name) bf_text_add(text, " \"%s\"", node->name);
        for (int k = 0; k < node->in_count; k++) bf_text_add(text, " %%%d", node->in[k]);
        print_attributes(g, node, text);
        if (node->out_count && node->out[0] >= 0 && g->values[node->out[0]].n) {
            bf_text_add(text, "  #");
            for (int k = 0; k < node->out_count; k++)
                if (node->out[k] >= 0) print_shape(&g->values[node->out[k]], node->out[k], text);
        }
        bf_text_add(text, "\n");
    }
}
