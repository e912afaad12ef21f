/* The order of the passes, with the verifier and BNFF_DUMP between them. */
#include "passes/passes.h"

#include <stdio.h>

#include "base/env.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"

typedef bnff_status (*pass_fn)(bf_graph *, const bf_settings *, bnff_error *);
static const struct { const char *name; pass_fn run; } passes[] = {
    {"expand", bf_pass_expand},
    {"pool_first", bf_pass_pool_first},
    {"autodiff", bf_pass_autodiff},
    {"fission", bf_pass_fission},
    {"views", bf_pass_views},
    {"share", bf_pass_share},
};

/* Each node with its role, and why. */
static void print_placement(const bf_graph *g, const bf_placement *placement, bf_text *text)
{
    static const char *const roles[] = {"task", "prologue", "epilogue", "carried"};
    char label[300], anchor[300] = "";
    for (int i = 0; i < g->node_count; i++) {
        const bf_placement *p = &placement[i];
        bf_node_label(&g->nodes[i], label, sizeof label);
        if (p->anchor != i) bf_node_label(&g->nodes[p->anchor], anchor, sizeof anchor);
        bf_text_add(text, "%4d %-8s %s%s%s%s%s\n", i, roles[p->role], label, p->anchor != i ? p->role == BF_ROLE_CARRIED ? " by " : " of " : "", p->anchor != i ? anchor : "",
                    *p->reason ? ": " : "", p->reason);
    }
}

/* Write the graph, or where its nodes are placed, to BNFF_DUMP/NN-name.txt; a dump that fails is not worth ending a plan for. */
static void dump(const bf_graph *g, const bf_placement *placement, int number, const char *name)
{
    const char *folder = bf_env_dump();
    if (!folder) return;
    char path[1024];
    bf_text text = {0};
    if (placement) print_placement(g, placement, &text);
    else bf_graph_print(g, &text);
    snprintf(path, sizeof path, "%s/%02d-%s.txt", folder, number, name);
    if (!text.failed && bf_make_folder(folder, NULL) == BNFF_OK) (void)bf_file_replace(path, text.data, text.length, NULL);
    bf_text_free(&text);
}

static bool verifying(void)
{
#ifdef BNFF_DEBUG
    return true;
#else
    return bf_env_verify();
#endif
}

bnff_status bf_run_passes(bf_graph *g, const bf_settings *settings, bf_placement **placement, bnff_error *error)
{
    *placement = NULL;
    dump(g, NULL, 0, "network");
    for (int i = 0; i < (int)(sizeof passes / sizeof *passes); i++) {
        BF_TRY(passes[i].run(g, settings, error));
        dump(g, NULL, i + 1, passes[i].name);
        if (verifying()) BF_TRY(bf_graph_verify(g, error));
    }
    *placement = bf_calloc((size_t)g->node_count, sizeof **placement);
    if (!*placement) return bf_fail(error, BNFF_E_MEMORY, "no memory to place %d nodes", g->node_count);
    BF_TRY(bf_pass_fuse(g, settings, *placement, error));
    dump(g, *placement, (int)(sizeof passes / sizeof *passes) + 1, "fuse");
    return BNFF_OK;
}
